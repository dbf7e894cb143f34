from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "ristretto": example("FcRistretto", "num_output: 5", x=(3, 4)),
    "images": example("InnerProduct", "num_output: 5", x=(1, 4, 13, 11)),
    "rows": example("InnerProduct", "num_output: 5 bias_term: false", x=(1, 7)),
    "axis": example("InnerProduct", "num_output: 5 axis: 2", x=(1, 4, 13, 11)),
    "transposed": example("InnerProduct", "num_output: 5 transpose: true", x=(1, 4, 13, 11)),
    "normalized": example("InnerProduct", "num_output: 5 normalize: true", x=(1, 4, 13, 11)),
    "weight": example(
        "InnerProduct",
        "bias_term: false",
        before='layer { name: "w" type: "Parameter" top: "made" parameter_param'
        " { shape { dim: 5 dim: 572 } } }",
        x=(1, 4, 13, 11),
    ),
}


def layer(options: str, bottoms: str = 'bottom: "x"') -> str:
    return (
        f'layer {{ name: "l" type: "InnerProduct" {bottoms} top: "y" '
        f"inner_product_param {{ {options} }} }}"
    )


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("axis", "rows"), [(1, (2,)), (2, (2, 3)), (-1, (2, 3, 4)), (-4, ())])
def test_inner_product(axis, rows, transpose, layer_net, rng):
    x = rng.normal(size=(2, 3, 4, 5))
    flat = x.reshape(*rows, -1) if rows else x.reshape(-1)
    k = flat.shape[-1]
    text = layer(f"num_output: 6 axis: {axis} transpose: {str(transpose).lower()}")
    net = layer_net(text, x=x.shape)
    w, b, dy = rng.normal(size=(6, k)), rng.normal(size=6), rng.normal(size=(*rows, 6))
    result = net.set(weight=w.T if transpose else w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], flat @ w.T + b, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], (dy @ w).reshape(x.shape), atol=1e-10)
    dw = dy.reshape(-1, 6).T @ flat.reshape(-1, k)
    np.testing.assert_allclose(result.param_diffs["weight"], dw.T if transpose else dw, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["bias"], dy.reshape(-1, 6).sum(0), atol=1e-10)


def test_ristretto_is_in_full_precision(layer_net, rng):
    text = layer("num_output: 6").replace('"InnerProduct"', '"FcRistretto"')
    text = text[: text.rindex("}")] + "quantization_param { bw_layer_in: 8 fl_params: 7 } }"
    x, w, b, dy = (rng.normal(size=s) for s in ((4, 3), (6, 3), 6, (4, 6)))
    with pytest.warns(UserWarning, match="ignored: quantization_param"):
        net = layer_net(text, x=x.shape)
    result = net.set(weight=w, bias=b).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], x @ w.T + b, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy @ w, atol=1e-10)
    np.testing.assert_allclose(result.param_diffs["weight"], dy.T @ x, atol=1e-10)


@pytest.mark.parametrize("transpose", [False, True])
def test_normalize(transpose, layer_net, rng):
    text = layer(
        f"num_output: 6 bias_term: false normalize: true transpose: {str(transpose).lower()}"
    )
    x, w, dy = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=(4, 6))
    unit = w / np.sqrt((w**2).sum(1, keepdims=True) + 1e-6)
    stored = w.T if transpose else w
    net = layer_net(text, x=x.shape)
    net.net.double()
    result = net.set(weight=stored).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], x @ unit.T, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy @ unit, rtol=1e-10)
    # As in the original, no gradient passes through the normalisation.
    dw = dy.T @ x
    np.testing.assert_allclose(result.param_diffs["weight"], dw.T if transpose else dw, rtol=1e-10)
    kept = net.layer.weight.detach().numpy()
    np.testing.assert_allclose(kept, unit.T if transpose else unit, rtol=1e-10)

    net.net.eval()
    result = net.set(weight=stored).run({"x": x})
    np.testing.assert_allclose(result.tops["y"], x @ unit.T, rtol=1e-10)
    np.testing.assert_array_equal(net.layer.weight.detach().numpy(), stored)


def test_weight_and_bias_from_bottoms(layer_net, rng):
    text = layer("bias_term: true", 'bottom: "x" bottom: "w" bottom: "b"')
    net = layer_net(text, x=(4, 3), w=(5, 3), b=(5,))
    assert net.layer.blob_names == []
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    dy = rng.normal(size=(4, 5))
    result = net.run({"x": x, "w": w, "b": b}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], x @ w.T + b, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["w"], dy.T @ x, rtol=1e-10)
    np.testing.assert_allclose(result.bottom_diffs["b"], dy.sum(0), rtol=1e-10)

    two = layer_net(layer("", 'bottom: "x" bottom: "w"'), x=(4, 3), w=(5, 3))
    assert two.layer.blob_names == ["bias"]
    np.testing.assert_allclose(two.set(bias=b).run({"x": x, "w": w}).tops["y"], x @ w.T + b)


def test_another_size_is_refused(layer_net, rng):
    net = layer_net(layer("num_output: 2"), x=(4, 3, 2))
    assert net.run({"x": rng.normal(size=(9, 2, 3))}).tops["y"].shape == (9, 2)
    with pytest.raises(SphereFaceError, match="has 8 values from axis 1 on; expected 6"):
        net.run({"x": rng.normal(size=(4, 4, 2))})


@pytest.mark.parametrize(
    ("options", "message"),
    [("", "num_output 0"), ("num_output: 2 axis: 3", "axis 3 .* expected -2 to 1")],
)
def test_impossible_options_are_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(4, 3))
