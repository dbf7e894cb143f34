from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "sequences": example("Lstm", "num_output: 3", x=(4, 2, 5)),
    "side_by_side": example("Lstm", "num_output: 3 batch_size: 2", x=(6, 5), batch=False),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "Lstm" bottom: "x" top: "y" lstm_param {{ {options} }} }}'


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(x, weight, weight_hidden, bias):
    count = weight_hidden.shape[1]
    h = c = np.zeros((x.shape[1], count))
    rows = []
    for step in x:
        gates = step @ weight.T + h @ weight_hidden.T + bias
        i, f, o = (sigmoid(gates[:, n * count : (n + 1) * count]) for n in range(3))
        c = f * c + i * np.tanh(gates[:, 3 * count :])
        h = o * np.tanh(c)
        rows.append(h)
    return np.stack(rows)


@pytest.fixture
def blobs(rng):
    shapes = {"weight": (12, 5), "weight_hidden": (12, 3), "bias": (12,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def test_states_and_gradients(blobs, layer_net, rng):
    x, dy = rng.normal(size=(4, 2, 5)), rng.normal(size=(4, 2, 3))
    net = layer_net(layer("num_output: 3"), x=x.shape).set(**blobs)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], by_hand(x, **blobs), rtol=1e-10)
    given = {"x": x, **blobs}
    expected = numeric_gradient(lambda **moved: (by_hand(**{**given, **moved}) * dy).sum(), given)
    found = {**result.bottom_diffs, **result.param_diffs}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-8)


def test_sequences_side_by_side(blobs, layer_net, rng):
    x = rng.normal(size=(6, 5, 1, 1))
    net = layer_net(layer("num_output: 3 batch_size: 2"), x=x.shape).set(**blobs)
    expected = by_hand(x.reshape(3, 2, 5), **blobs).reshape(6, 3)
    np.testing.assert_allclose(net.run({"x": x}).tops["y"], expected, rtol=1e-10)


def test_the_gradient_before_the_gates_is_clipped(blobs, layer_net, rng):
    """Of one timestep, where it is the bias's."""
    x, dy = rng.normal(size=(1, 1, 5)), 100 * rng.normal(size=(1, 1, 3))
    plain, clipped = (
        layer_net(layer(f"num_output: 3 {options}"), x=x.shape)
        .set(**blobs)
        .run({"x": x}, {"y": dy})
        .param_diffs["bias"]
        for options in ("", "clipping_threshold: 0.5")
    )
    assert np.abs(plain).max() > 0.5
    np.testing.assert_allclose(clipped, plain.clip(-0.5, 0.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("", (4, 2, 5), "num_output 0, batch_size 1; expected at least 1"),
        ("num_output: 3 batch_size: 4", (6, 5), "sequences side by side 4"),
        ("num_output: 3", (6,), r"expected \(T, N, I\)"),
    ],
)
def test_what_is_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=shape)


def test_marks_are_refused(layer_net):
    text = layer("num_output: 3").replace("top", 'bottom: "cont" top')
    with pytest.raises(SphereFaceError, match="2 bottom blobs"):
        layer_net(text, x=(4, 2, 5), cont=(4, 2))
