from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "l2": example("InnerDistance", "num_output: 3", x=(3, 4)),
    "l1": example("InnerDistance", 'num_output: 3 distance_type: "L1"', x=(3, 4)),
}


def layer(options: str, bottoms: str = 'bottom: "x"') -> str:
    return (
        f'layer {{ name: "l" type: "InnerDistance" {bottoms} top: "y" '
        f"inner_distance_param {{ {options} }} }}"
    )


def reference(x: np.ndarray, w: np.ndarray, dy: np.ndarray, kind: str):
    difference = x[:, None] - w  # (M, N, K)
    if kind == "L2":
        y, slope = (difference**2).sum(2), 2 * difference
    else:
        y, slope = np.abs(difference).sum(2), np.sign(difference)
    weighted = dy[..., None] * slope
    return y, weighted.sum(1), -weighted.sum(0)


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("axis", [1, 2])
def test_distances(axis, kind, layer_net, rng):
    x = rng.normal(size=(2, 3, 4))
    flat = x.reshape(-1, 12 if axis == 1 else 4)
    w, dy = rng.normal(size=(5, flat.shape[1])), rng.normal(size=(len(flat), 5))
    w[3] = flat[1]  # a distance of 0, where the gradient is 0
    text = layer(f'num_output: 5 axis: {axis} distance_type: "{kind}"')
    net = layer_net(text, x=x.shape).set(weight=w)
    result = net.run({"x": x}, {"y": dy.reshape(*x.shape[:axis], 5)})
    y, dx, dw = reference(flat, w, dy, kind)
    np.testing.assert_allclose(result.tops["y"].reshape(-1, 5), y, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"].reshape(flat.shape), dx, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dw, atol=1e-10)


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_weight_as_bottom(kind, layer_net, rng):
    text = layer(f'distance_type: "{kind}"', 'bottom: "x" bottom: "w"')
    x, w, dy = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    net = layer_net(text, x=x.shape, w=w.shape)
    assert net.layer.blob_names == []
    result = net.run({"x": x, "w": w}, {"y": dy})
    y, dx, dw = reference(x, w, dy, kind)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["w"], dw, rtol=1e-9, atol=1e-10)


def test_errors(layer_net, rng):
    with pytest.raises(SphereFaceError, match="num_output 0"):
        layer_net(layer(""), x=(4, 3))
    with pytest.raises(SphereFaceError, match='distance_type "cosine"'):
        layer_net(layer('num_output: 5 distance_type: "cosine"'), x=(4, 3))
    with pytest.raises(SphereFaceError, match="has 3 values from axis 1 on; expected 2"):
        layer_net(layer("", 'bottom: "x" bottom: "w"'), x=(4, 3), w=(5, 2))
    net = layer_net(layer("num_output: 5"), x=(4, 3))
    with pytest.raises(SphereFaceError, match="has 2 values from axis 1 on; expected 3"):
        net.run({"x": rng.normal(size=(4, 2))})
