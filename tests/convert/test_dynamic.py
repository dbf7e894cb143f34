"""Axes that may change, told by shapes alone."""

from __future__ import annotations

import pytest

from sphereface.caffe import load
from sphereface.convert.dynamic import dynamic_shapes
from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_path


def by_name(net, images=False):
    shapes = dynamic_shapes(net, images)
    return {name: shapes[slot] for name, slot in net.graph.blobs.items()}


def test_the_batch_is_free():
    shapes = by_name(load(prototxt_path("sphereface_4_deploy")))
    assert shapes["data"] == (None, 3, 112, 96)
    assert shapes["conv4_1"] == (None, 512, 7, 6)
    assert shapes["fc5"] == (None, 512)


def test_image_sizes_on_request():
    net = load(prototxt_path("det1"))
    assert by_name(net)["conv1"] == (None, 10, 10, 10)
    assert by_name(net, images=True)["prob1"] == (None, 2, None, None)
    with pytest.raises(SphereFaceError, match="fc5"):
        by_name(load(prototxt_path("sphereface_4_deploy")), images=True)


def test_a_batch_that_a_layer_fixes():
    net = load(
        'input: "x" input_shape { dim: 2 dim: 6 }\n'
        'layer { name: "l" type: "Reshape" bottom: "x" top: "y"'
        " reshape_param { shape { dim: 3 dim: 4 } } }"
    )
    assert by_name(net) == {"x": (2, 6), "y": (3, 4)}
