from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "l2": example("Normalize", images=True, x=(1, 4, 13, 11)),
    "l1_norm": example("Normalize", 'normalize_type: "L1"', tops=2, x=(1, 4, 13, 11)),
    "channels": example(
        "Normalize",
        fields="norm_param { across_spatial: false channel_shared: false }",
        images=True,
        x=(1, 4, 13, 11),
    ),
    "image": example("Normalize", fields="norm_param { }", images=True, x=(1, 4, 13, 11)),
}


def layer(options: str, tops: str = 'top: "y" top: "norm"') -> str:
    options = f"normalize_param {{ {options} }}"
    return f'layer {{ name: "l" type: "Normalize" bottom: "x" {tops} {options} }}'


def norm_of(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "L2":
        return np.sqrt((x**2).sum(1, keepdims=True) + 1e-6)
    return np.abs(x).sum(1, keepdims=True) + 1e-6


@pytest.mark.parametrize("bp_norm", [True, False])
@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 2)])
def test_normalize(shape, kind, bp_norm, layer_net, rng):
    x = rng.normal(size=shape)
    dy, dnorm = rng.normal(size=shape), rng.normal(size=norm_of(x, kind).shape)
    text = layer(f'normalize_type: "{kind}" bp_norm: {str(bp_norm).lower()}')
    result = layer_net(text, x=shape).run({"x": x}, {"y": dy, "norm": dnorm})
    np.testing.assert_allclose(result.tops["norm"], norm_of(x, kind), rtol=1e-12)
    np.testing.assert_allclose(result.tops["y"], x / norm_of(x, kind), rtol=1e-12)

    def loss(x: np.ndarray) -> float:
        passed = (dnorm * norm_of(x, kind)).sum() if bp_norm else 0.0
        return (dy * x / norm_of(x, kind)).sum() + passed

    expected = numeric_gradient(loss, {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-6, atol=1e-8)


def test_defaults_and_zero(layer_net):
    net = layer_net('layer { name: "l" type: "Normalize" bottom: "x" top: "y" }', x=(2, 2))
    result = net.run({"x": np.array([[3.0, 4.0], [0.0, 0.0]])}, {"y": np.ones((2, 2))})
    np.testing.assert_allclose(result.tops["y"], [[0.6, 0.8], [0, 0]], atol=1e-6)
    # sqrt(1e-6) is what a zero vector is divided by.
    np.testing.assert_allclose(result.bottom_diffs["x"][1], [1000, 1000])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 2)])
def test_the_one_of_ssd(shape, across, shared, layer_net, rng):
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    weight = rng.normal(size=() if shared else (4,))
    options = f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()}"
    text = layer("", 'top: "y"').replace(
        "normalize_param {  }", f"norm_param {{ {options} eps: 0.5 }}"
    )
    net = layer_net(text, x=shape)
    assert (net.layer.weight == 1).all()
    result = net.set(weight=weight).run({"x": x}, {"y": dy})

    def top(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        axes = tuple(range(1, x.ndim)) if across else 1
        column = weight.reshape(-1, *[1] * (x.ndim - 2))
        return column * x / np.sqrt((x**2).sum(axes, keepdims=True) + 0.5)

    np.testing.assert_allclose(result.tops["y"], top(x, weight), rtol=1e-12)
    expected = numeric_gradient(
        lambda x, weight: (dy * top(x, weight)).sum(), {"x": x, "weight": weight}
    )
    np.testing.assert_allclose(result.bottom_diffs["x"], expected["x"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(result.param_diffs["weight"], expected["weight"], rtol=1e-6)


def test_its_scale_is_filled(layer_net):
    text = layer("").replace("normalize_param {  }", "norm_param { scale_filler { value: 20 } }")
    assert layer_net(text.replace('top: "norm"', ""), x=(2, 3)).layer.weight == 20
    with pytest.raises(SphereFaceError, match="norm_param, which is of SSD's"):
        layer_net(text, x=(2, 3))


def test_errors(layer_net):
    with pytest.raises(SphereFaceError, match='normalize_type "L3"; expected "L1" or "L2"'):
        layer_net(layer('normalize_type: "L3"'), x=(2, 2))
    with pytest.raises(SphereFaceError, match="axis 1 for a bottom"):
        layer_net(layer(""), x=(2,))


def test_the_type_where_the_first_version_had_it(layer_net, rng):
    text = (
        'layer { name: "l" type: "Normalize" bottom: "x" top: "y" '
        'softmax_param { normalize_type: "L1" } }'
    )
    x = rng.normal(size=(3, 4))
    expected = x / (np.abs(x).sum(1, keepdims=True) + 1e-6)
    result = layer_net(text, x=x.shape).run({"x": x})
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-12)
    both = text.replace("}", "} normalize_param { fix_gradient: true }", 1)
    with pytest.raises(SphereFaceError, match="fix_gradient: true; expected false"):
        layer_net(both, x=x.shape)
