from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "l2": example("InnerDistance", "num_output: 3", x=(3, 4)),
    "l1": example("InnerDistance", 'num_output: 3 distance_type: "L1"', x=(3, 4)),
    "bias": example("InnerDistance", "num_output: 3 bias_term: true normalize: true", x=(3, 4)),
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


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_bias(kind, layer_net, rng):
    text = layer(
        f'num_output: 5 distance_type: "{kind}" bias_term: true bias_filler {{ value: 2 }}'
    )
    x, w, dy = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    net = layer_net(text, x=x.shape).set(weight=w)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], reference(x, w, dy, kind)[0] + 2, rtol=1e-10)
    np.testing.assert_allclose(result.param_diffs["bias"], dy.sum(0), rtol=1e-10)
    text = layer("bias_term: true", 'bottom: "x" bottom: "w"')
    assert layer_net(text, x=x.shape, w=w.shape).layer.blob_names == ["bias"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_normalize(phase, layer_net, rng):
    """The weight's rows over their norms, which are constants; training overwrites them."""
    x, w, dy = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    net = layer_net(layer("num_output: 5 normalize: true"), phase, x=x.shape).set(weight=w)
    result = net.run({"x": x}, {"y": dy})
    norm = np.sqrt((w**2).sum(1, keepdims=True) + 1e-6)
    y, dx, dw = reference(x, w / norm, dy, "L2")
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-8, atol=1e-10)
    if phase == "TRAIN":
        np.testing.assert_allclose(result.param_diffs["weight"], dw, rtol=1e-8, atol=1e-10)
    kept = net.layer.weight.detach()
    np.testing.assert_allclose(kept, w / norm if phase == "TRAIN" else w, rtol=1e-12)


@pytest.mark.parametrize("given", [False, True])
def test_update_center_only(given, layer_net, rng):
    """The weight learns from the distance of each row to its label only."""
    x, w, dy = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    label = np.array([2, 0, 4, 2])
    bottoms = 'bottom: "x" bottom: "w" bottom: "l"' if given else 'bottom: "x" bottom: "l"'
    text = layer("num_output: 5 update_center_only: true", bottoms)
    shapes = {"x": x.shape, **({"w": w.shape} if given else {}), "l": (4,)}
    net = layer_net(text, **shapes)
    if not given:
        net.set(weight=w)
    result = net.run({"x": x, "l": label, **({"w": w} if given else {})}, {"y": dy})
    y, dx, _ = reference(x, w, dy, "L2")
    own = np.zeros_like(dy)
    own[range(4), label] = dy[range(4), label]
    found = result.bottom_diffs["w"] if given else result.param_diffs["weight"]
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dx, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found, reference(x, w, own, "L2")[2], rtol=1e-9, atol=1e-10)


def test_the_type_where_the_first_version_had_it(layer_net, rng):
    text = (
        'layer { name: "l" type: "InnerDistance" bottom: "x" bottom: "w" top: "y" '
        'inner_product_param { bias_term: false distance_type: "L1" } }'
    )
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    result = layer_net(text, x=x.shape, w=w.shape).run({"x": x, "w": w})
    np.testing.assert_allclose(result.tops["y"], np.abs(x[:, None] - w).sum(2), rtol=1e-10)


def test_what_the_fork_does_not_compute(layer_net):
    with pytest.raises(SphereFaceError, match="transpose: true"):
        layer_net(layer("num_output: 5 transpose: true"), x=(2, 3))
    bottoms = 'bottom: "x" bottom: "w" bottom: "b"'
    with pytest.raises(SphereFaceError, match="3 bottoms with update_center_only False"):
        layer_net(layer("", bottoms), x=(2, 3), w=(5, 3), b=(5,))
