from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "rows": example(
        "Silence",
        tops=0,
        before='layer { name: "other" type: "ReLU" bottom: "x" top: "other" }',
        x=(3, 4),
    ),
}


def test_silenced_blobs_are_no_outputs(layer_net, rng):
    text = """
    layer { name: "s" type: "Silence" bottom: "a" bottom: "b" }
    layer { name: "l" type: "Softmax" bottom: "a" top: "y" }"""
    net = layer_net(text, a=(2, 3), b=(2,))
    assert net.net.outputs == ("y",)
    a, b, dy = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=(2, 3))
    result = net.run({"a": a, "b": b}, {"y": dy})
    y = np.exp(a) / np.exp(a).sum(1, keepdims=True)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-12)
    # only the other reader's gradient arrives
    dx = y * (dy - (dy * y).sum(1, keepdims=True))
    np.testing.assert_allclose(result.bottom_diffs["a"], dx, rtol=1e-9)
    assert "b" not in result.bottom_diffs


def test_a_net_of_silence(layer_net):
    net = layer_net('layer { name: "l" type: "Silence" bottom: "x" }', x=(2, 3))
    assert net.run({"x": np.ones((2, 3))}).tops == {}


@pytest.mark.parametrize("blobs", ["", 'bottom: "x" top: "y"'])
def test_the_number_of_blobs(blobs, layer_net):
    with pytest.raises(SphereFaceError, match="expected (at least 1 bottom|0 top) blobs"):
        layer_net(f'layer {{ name: "l" type: "Silence" {blobs} }}', x=(2, 3))
