from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "sequence": example("LSTM", "num_output: 3", x=(3, 2, 4), cont=(3, 2)),
    "unit": example("LSTMUnit", tops=2, batch=False, c=(1, 2, 3), x=(1, 2, 12), cont=(1, 2)),
}

# Three streams: one goes on from before, one starts, one has its second sequence at step 2.
CONT = np.array([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]])
STEPS, STREAMS, SIZE = 4, 3, 2


def layer(bottoms: str = "x cont", tops: str = "y", options: str = "") -> str:
    bottom = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    top = " ".join(f'top: "{name}"' for name in tops.split())
    return (
        f'layer {{ name: "l" type: "LSTM" {bottom} {top} '
        f"recurrent_param {{ num_output: {SIZE} {options} }} }}"
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, cont, h, c, weight, bias, weight_hidden, x_static=None, weight_static=None):
    """Stream by stream, step by step; h and c are (N, D)."""
    steps, streams = cont.shape
    y, last = np.zeros((steps, streams, SIZE)), (h.copy(), c.copy())
    for n in range(streams):
        h_n, c_n = h[n], c[n]
        for t in range(steps):
            if not cont[t, n]:
                h_n, c_n = 0 * h_n, 0 * c_n
            a = weight @ x[t, n].ravel() + bias + weight_hidden @ h_n
            if x_static is not None:
                a = a + weight_static @ x_static[n].ravel()
            i, f, o = (sigmoid(a[k * SIZE : (k + 1) * SIZE]) for k in range(3))
            c_n = f * c_n + i * np.tanh(a[3 * SIZE :])
            h_n = o * np.tanh(c_n)
            y[t, n] = h_n
        last[0][n], last[1][n] = h_n, c_n
    return y, last


@pytest.fixture
def blobs(rng):
    return {
        "weight": rng.normal(size=(4 * SIZE, 3)),
        "bias": rng.normal(size=4 * SIZE),
        "weight_hidden": rng.normal(size=(4 * SIZE, SIZE)),
    }


def check_diffs(result, loss, arguments, bottoms):
    expected = numeric_gradient(loss, arguments)
    for name, value in expected.items():
        found = (result.bottom_diffs if name in bottoms else result.param_diffs)[name]
        np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-8, err_msg=name)
        assert np.abs(value).max() > 1e-3


def test_forward_and_gradient(layer_net, rng, blobs):
    x, dy = rng.normal(size=(STEPS, STREAMS, 3)), rng.normal(size=(STEPS, STREAMS, SIZE))
    net = layer_net(layer(), x=x.shape, cont=CONT.shape)
    assert net.layer.blob_names == ["weight", "bias", "weight_hidden"]
    result = net.set(**blobs).run({"x": x, "cont": CONT}, {"y": dy})
    zero = np.zeros((STREAMS, SIZE))
    np.testing.assert_allclose(result.tops["y"], lstm(x, CONT, zero, zero, **blobs)[0], rtol=1e-10)

    def loss(x, **blobs):
        return (dy * lstm(x, CONT, zero, zero, **blobs)[0]).sum()

    check_diffs(result, loss, {"x": x, **blobs}, {"x"})
    assert "cont" not in result.bottom_diffs


def test_static_input(layer_net, rng, blobs):
    x, x_static = rng.normal(size=(STEPS, STREAMS, 3, 1)), rng.normal(size=(STREAMS, 2, 2))
    dy = rng.normal(size=(STEPS, STREAMS, SIZE))
    blobs["weight_static"] = rng.normal(size=(4 * SIZE, 4))
    net = layer_net(layer("x cont x_static"), x=x.shape, cont=CONT.shape, x_static=x_static.shape)
    assert net.layer.blob_names == ["weight", "bias", "weight_static", "weight_hidden"]
    bottoms = {"x": x, "cont": CONT, "x_static": x_static}
    result = net.set(**blobs).run(bottoms, {"y": dy})
    zero = np.zeros((STREAMS, SIZE))

    def loss(x, x_static, **blobs):
        return (dy * lstm(x, CONT, zero, zero, x_static=x_static, **blobs)[0]).sum()

    y, _ = lstm(x, CONT, zero, zero, x_static=x_static, **blobs)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    check_diffs(result, loss, {"x": x, "x_static": x_static, **blobs}, {"x", "x_static"})


def test_state_is_carried_to_the_next_call(layer_net, rng, blobs):
    x, more = rng.normal(size=(2, STEPS, STREAMS, 3))
    dy = rng.normal(size=(STEPS, STREAMS, SIZE))
    net = layer_net(layer(), x=x.shape, cont=CONT.shape)
    net.set(**blobs).run({"x": x, "cont": CONT})
    zero = np.zeros((STREAMS, SIZE))
    _, (h, c) = lstm(x, CONT, zero, zero, **blobs)
    result = net.run({"x": more, "cont": CONT}, {"y": dy})
    y, _ = lstm(more, CONT, h, c, **blobs)
    assert np.abs(y - lstm(more, CONT, zero, zero, **blobs)[0]).max() > 0.05
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)

    def loss(x, **blobs):  # nothing flows back into the call before
        return (dy * lstm(x, CONT, h, c, **blobs)[0]).sum()

    check_diffs(result, loss, {"x": more, **blobs}, {"x"})

    net.layer.reset()
    result = net.run({"x": x, "cont": CONT})
    np.testing.assert_allclose(result.tops["y"], lstm(x, CONT, zero, zero, **blobs)[0], rtol=1e-10)
    # Other numbers of timesteps and streams; the latter starts from zeros.
    result = net.run({"x": x[:1, :2], "cont": CONT[:1, :2]})
    y, _ = lstm(x[:1, :2], CONT[:1, :2], zero[:2], zero[:2], **blobs)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    assert sorted(net.net.state_dict()) == ["l.bias", "l.weight", "l.weight_hidden"]


def test_exposed_state(layer_net, rng, blobs):
    x, dy = rng.normal(size=(STEPS, STREAMS, 3)), rng.normal(size=(STEPS, STREAMS, SIZE))
    h, c = rng.normal(size=(2, 1, STREAMS, SIZE))
    text = layer("x cont h_0 c_0", "y h_T c_T", "expose_hidden: true")
    net = layer_net(text, x=x.shape, cont=CONT.shape, h_0=h.shape, c_0=c.shape).set(**blobs)
    bottoms = {"x": x, "cont": CONT, "h_0": h, "c_0": c}
    net.run(bottoms)
    result = net.run(bottoms, {"y": dy})
    y, (h_last, c_last) = lstm(x, CONT, h[0], c[0], **blobs)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    np.testing.assert_allclose(result.tops["h_T"][0], h_last, rtol=1e-10)
    np.testing.assert_allclose(result.tops["c_T"][0], c_last, rtol=1e-10)
    assert set(result.bottom_diffs) == {"x"}


def test_unit(layer_net, rng):
    text = (
        'layer { name: "l" type: "LSTMUnit" bottom: "c_prev" bottom: "gates" bottom: "cont" '
        'top: "c" top: "h" }'
    )
    c_prev, gates = rng.normal(size=(1, 3, 2)), rng.normal(size=(1, 3, 8))
    cont = np.array([[1.0, 0, 1]])
    diffs = {"c": rng.normal(size=(1, 3, 2)), "h": rng.normal(size=(1, 3, 2))}
    net = layer_net(text, c_prev=c_prev.shape, gates=gates.shape, cont=cont.shape)
    result = net.run({"c_prev": c_prev, "gates": gates, "cont": cont}, diffs)

    def unit(c_prev, gates):
        i, f, o = (sigmoid(gates[..., 2 * k : 2 * k + 2]) for k in range(3))
        c = cont[..., None] * f * c_prev + i * np.tanh(gates[..., 6:])
        return c, o * np.tanh(c)

    for name, expected in zip(("c", "h"), unit(c_prev, gates), strict=True):
        np.testing.assert_allclose(result.tops[name], expected, rtol=1e-10)

    def loss(c_prev, gates):
        c, h = unit(c_prev, gates)
        return (diffs["c"] * c + diffs["h"] * h).sum()

    check_diffs(result, loss, {"c_prev": c_prev, "gates": gates}, {"c_prev", "gates"})
    assert set(result.bottom_diffs) == {"c_prev", "gates"}
    with pytest.raises(SphereFaceError, match=r"expected \(1, N, D\), \(1, N, 4 D\) and \(1, N\)"):
        layer_net(text, c_prev=(1, 3, 2), gates=(1, 3, 6), cont=(1, 3))


def test_equals_torch_lstm(rng):
    net = load(
        'input: "x" input_shape { dim: [5, 2, 3] } input: "cont" input_shape { dim: [5, 2] }'
        + layer(options='weight_filler { type: "xavier" } bias_filler { type: "uniform" }')
    )
    other = torch.nn.LSTM(3, SIZE)
    layers = net.layer("l")
    order = torch.tensor([0, 1, 3, 2])  # torch's gates: input, forget, candidate, output
    with torch.no_grad():
        for mine, name in (("weight", "weight_ih_l0"), ("weight_hidden", "weight_hh_l0")):
            rows = getattr(layers, mine).reshape(4, SIZE, -1)[order].reshape(4 * SIZE, -1)
            getattr(other, name).copy_(rows)
        other.bias_ih_l0.copy_(layers.bias.reshape(4, SIZE)[order].flatten())
        other.bias_hh_l0.zero_()
    x = torch.randn(5, 2, 3)
    y = net(x, torch.ones(5, 2))["y"]
    assert y.abs().max() > 0.05
    torch.testing.assert_close(y, other(x)[0])


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (layer(options="expose_hidden: true"), {}, r"expected 4 \(or 5 with x_static\) and 3"),
        (layer(tops="y h"), {}, r"3 tops|2 bottoms and 2 tops"),
        (layer(), {"cont": (4, 2)}, r"expected \(T, N, ...\) and \(T, N\)"),
        (layer("x cont s"), {"s": (2, 3)}, "x_static of shape .* expected 3 streams"),
        (layer().replace("num_output: 2", ""), {}, "num_output 0"),
        (
            layer("x cont h c", "y h_T c_T", "expose_hidden: true"),
            {"h": (1, 3, 2), "c": (3, 2)},
            r"c of shape \(3, 2\); expected \(1, 3, 2\)",
        ),
    ],
)
def test_impossible_layers_are_refused(text, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(text, **{"x": (4, 3, 3), "cont": (4, 3), **shapes})


def test_other_features_are_refused(layer_net, rng):
    net = layer_net(layer(), x=(4, 3, 3), cont=(4, 3))
    with pytest.raises(SphereFaceError, match="2 features for weight; expected 3"):
        net.run({"x": rng.normal(size=(4, 3, 2)), "cont": CONT})
