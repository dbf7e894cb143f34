from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto.edit import with_numbers

NUM_OUTPUT = ("convolution_param", "num_output")
TEXT = """# num_output: 64
layer { name: 'a' type: "Convolution" convolution_param <num_output : 64, # of "a"
  kernel_size: 3> }
layer { name: "b" slice_param { slice_point: 2 slice_point: 0x10 } }
layer { name: "b2" slice_param { slice_point: [2, 4] } }
"""


def test_only_the_numbers_change():
    changes = {
        "a": {NUM_OUTPUT: ([64], [7]), ("convolution_param", "group"): ([64], [7])},
        "b": {("slice_param", "slice_point"): ([2, 16], [1, 100])},
        "b2": {("slice_param", "slice_point"): ([2, 4], [1, 3])},
    }
    assert with_numbers(TEXT, "x", changes) == TEXT.replace(
        "num_output : 64", "num_output : 7"
    ).replace("slice_point: 2 slice_point: 0x10", "slice_point: 1 slice_point: 100").replace(
        "[2, 4]", "[1, 3]"
    )


def test_layers_of_one_name_and_old_formats():
    v1 = "layers { name: 'a' type: CONVOLUTION convolution_param { num_output: 4 } }\n"
    assert with_numbers(v1 * 2, "x", {"a": {NUM_OUTPUT: ([4], [3])}}) == v1.replace("4", "3") * 2
    v0 = "layers { layer { name: 'a' type: 'conv' num_output: 4 } bottom: 'data' top: 'a' }"
    assert with_numbers(v0, "x", {"a": {NUM_OUTPUT: ([4], [3])}}) is None
    two = v1 + v1.replace("4", "5")
    with pytest.raises(SphereFaceError, match=r'x:2:70: layer "a" \(CONVOLUTION\): num_output 5'):
        with_numbers(two, "x", {"a": {NUM_OUTPUT: ([4], [3])}})
