from __future__ import annotations

import pytest

from sphereface.caffe import load
from sphereface.errors import SphereFaceError


def net(shapes: str, tops: str = 'top: "a" top: "b"', **kwargs):
    return load(f'layer {{ name: "i" type: "Input" {tops} input_param {{ {shapes} }} }}', **kwargs)


def test_one_shape_for_all_tops():
    assert net("shape { dim: 2 dim: 3 }").blob_shapes == {"a": (2, 3), "b": (2, 3)}


def test_a_shape_for_each_top():
    built = net("shape { dim: 2 dim: 3 } shape { dim: 2 }")
    assert built.blob_shapes == {"a": (2, 3), "b": (2,)}
    assert built.inputs == ("a", "b")


def test_another_number_of_shapes():
    with pytest.raises(SphereFaceError, match="3 shapes for 2 tops"):
        net("shape { dim: 2 } shape { dim: 2 } shape { dim: 2 }")


def test_no_shape_needs_one_from_the_caller():
    with pytest.raises(SphereFaceError, match=r'shape of input "a"; pass it: input_shapes={"a"'):
        net("")
    built = net("", input_shapes={"a": (1, 2), "b": (3,)})
    assert built.blob_shapes == {"a": (1, 2), "b": (3,)}
