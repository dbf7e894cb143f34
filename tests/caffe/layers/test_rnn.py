from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient

EXAMPLES = {
    "sequence": example("RNN", "num_output: 3", x=(3, 2, 4), cont=(3, 2)),
}

CONT = np.array([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]])
STEPS, STREAMS, SIZE = 4, 3, 2


def layer(bottoms: str = "x cont", tops: str = "y", options: str = "") -> str:
    bottom = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    top = " ".join(f'top: "{name}"' for name in tops.split())
    return (
        f'layer {{ name: "l" type: "RNN" {bottom} {top} '
        f"recurrent_param {{ num_output: {SIZE} {options} }} }}"
    )


def rnn(x, h, weight, bias, weight_hidden, weight_output, bias_output, static=0.0):
    """Stream by stream, step by step; h is (N, D), static what x_static adds (N, D)."""
    y, last = np.zeros((STEPS, STREAMS, SIZE)), h.copy()
    for n in range(STREAMS):
        h_n = h[n]
        for t in range(STEPS):
            a = weight @ x[t, n] + bias + weight_hidden @ (CONT[t, n] * h_n)
            h_n = np.tanh(a + np.broadcast_to(static, (STREAMS, SIZE))[n])
            y[t, n] = np.tanh(weight_output @ h_n + bias_output)
        last[n] = h_n
    return y, last


@pytest.fixture
def blobs(rng):
    return {
        "weight": rng.normal(size=(SIZE, 3)),
        "bias": rng.normal(size=SIZE),
        "weight_hidden": rng.normal(size=(SIZE, SIZE)),
        "weight_output": rng.normal(size=(SIZE, SIZE)),
        "bias_output": rng.normal(size=SIZE),
    }


def test_forward_gradient_and_carried_state(layer_net, rng, blobs):
    x, dy = rng.normal(size=(STEPS, STREAMS, 3)), rng.normal(size=(STEPS, STREAMS, SIZE))
    net = layer_net(layer(), x=x.shape, cont=CONT.shape).set(**blobs)
    assert net.layer.blob_names == [*blobs]
    h = np.zeros((STREAMS, SIZE))
    for _ in range(2):
        result = net.run({"x": x, "cont": CONT}, {"y": dy})
        y, last = rnn(x, h, **blobs)
        np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)

        def loss(x, h=h, **blobs):
            return (dy * rnn(x, h, **blobs)[0]).sum()

        for name, value in numeric_gradient(loss, {"x": x, **blobs}).items():
            found = result.bottom_diffs["x"] if name == "x" else result.param_diffs[name]
            np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-8, err_msg=name)
            assert np.abs(value).max() > 1e-3
        h = last


def test_static_input_and_exposed_state(layer_net, rng, blobs):
    x, x_static = rng.normal(size=(STEPS, STREAMS, 3)), rng.normal(size=(STREAMS, 5))
    h, weight_static = rng.normal(size=(1, STREAMS, SIZE)), rng.normal(size=(SIZE, 5))
    text = layer("x cont x_static h_0", "y h_T", "expose_hidden: true")
    net = layer_net(text, x=x.shape, cont=CONT.shape, x_static=x_static.shape, h_0=h.shape)
    assert net.layer.blob_names == [*list(blobs)[:2], "weight_static", *list(blobs)[2:]]
    net.set(weight_static=weight_static, **blobs)
    result = net.run({"x": x, "cont": CONT, "x_static": x_static, "h_0": h})
    y, last = rnn(x, h[0], static=x_static @ weight_static.T, **blobs)
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10)
    np.testing.assert_allclose(result.tops["h_T"][0], last, rtol=1e-10)
