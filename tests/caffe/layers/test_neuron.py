from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "relu": example("ReLU", x=(1, 4, 13, 11)),
    "relu_leaky": example("ReLU", "negative_slope: 0.1", x=(1, 4, 13, 11)),
    "elu": example("ELU", "alpha: 0.5", x=(1, 4, 13, 11)),
    "sigmoid": example("Sigmoid", x=(1, 4, 13, 11)),
    "tanh": example("TanH", x=(1, 4, 13, 11)),
    "absval": example("AbsVal", x=(1, 4, 13, 11)),
    "bnll": example("BNLL", x=(1, 4, 13, 11)),
    "power": example("Power", "power: 2 scale: 0.5 shift: 3", x=(1, 4, 13, 11)),
    "power_constant": example("Power", "power: 2 scale: 0 shift: 3", x=(1, 4, 13, 11)),
    "exp": example("Exp", "base: 2 scale: 0.3 shift: 1", x=(1, 4, 13, 11)),
    "log": example("Log", "base: 2 scale: 0.01 shift: 9", x=(1, 4, 13, 11)),
    "threshold": example("Threshold", "threshold: 0.25", x=(1, 4, 13, 11)),
    "swish": example("Swish", "beta: 2", x=(1, 4, 13, 11)),
    "clip": example("Clip", "min: -1 max: 0.5", x=(1, 4, 13, 11)),
    "relu6": example("ReLU6", x=(1, 4, 13, 11)),
    "mish": example("Mish", x=(1, 4, 13, 11)),
    "hard_swish": example("HardSwish", x=(1, 4, 13, 11)),
    "hard_sigmoid": example("HardSigmoid", x=(1, 4, 13, 11)),
}

SHAPE = (3, 4, 5)


def layer(type_: str, param: str = "", options: str = "", top: str = "y") -> str:
    given = f"{param} {{ {options} }}" if param else ""
    return f'layer {{ name: "l" type: "{type_}" bottom: "x" top: "{top}" {given} }}'


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(beta):
    def dx(x):
        s = sigmoid(beta * x)
        return s + beta * x * s * (1 - s)

    return lambda x: x * sigmoid(beta * x), dx


# type, parameter, options: y(x), dy/dx(x). The inputs avoid 0, where there is a test of its own.
CASES = {
    "HardSigmoid": (
        ("HardSigmoid",),
        lambda x: np.clip(x + 3, 0, 6) / 6,
        lambda x: (np.abs(x) < 3) / 6,
    ),
    "HardSwish": (
        ("HardSwish",),
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(np.abs(x) < 3, (2 * x + 3) / 6, x > 3),
    ),
    "ReLU": (("ReLU",), lambda x: np.maximum(x, 0), lambda x: x > 0),
    "ReLU leaky": (
        ("ReLU", "relu_param", "negative_slope: 0.25"),
        lambda x: np.where(x > 0, x, 0.25 * x),
        lambda x: np.where(x > 0, 1, 0.25),
    ),
    "ReLU engine": (
        ("ReLU", "relu_param", "engine: CUDNN negative_slope: -2"),
        lambda x: np.where(x > 0, x, -2 * x),
        lambda x: np.where(x > 0, 1, -2),
    ),
    "ELU": (
        ("ELU",),
        lambda x: np.where(x > 0, x, np.exp(x) - 1),
        lambda x: np.where(x > 0, 1, np.exp(x)),
    ),
    "ELU alpha": (
        ("ELU", "elu_param", "alpha: 0.5"),
        lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1)),
        lambda x: np.where(x > 0, 1, 0.5 * np.exp(x)),
    ),
    "Sigmoid": (("Sigmoid",), sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "TanH": (("TanH",), np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "AbsVal": (("AbsVal",), np.abs, np.sign),
    "BNLL": (("BNLL",), lambda x: np.log(1 + np.exp(x)), sigmoid),
    "Power": (("Power",), lambda x: x, np.ones_like),
    "Power scaled": (
        ("Power", "power_param", "scale: -3 shift: 0.5"),
        lambda x: 0.5 - 3 * x,
        lambda x: np.full_like(x, -3),
    ),
    "Power squared": (
        ("Power", "power_param", "power: 2 scale: 0.5 shift: 1.5"),
        lambda x: (1.5 + 0.5 * x) ** 2,
        lambda x: 1.5 + 0.5 * x,
    ),
    "Power negative": (
        ("Power", "power_param", "power: -0.5 scale: 0.25 shift: 4"),
        lambda x: (4 + 0.25 * x) ** -0.5,
        lambda x: -0.125 * (4 + 0.25 * x) ** -1.5,
    ),
    "Power cubed": (("Power", "power_param", "power: 3"), lambda x: x**3, lambda x: 3 * x**2),
    "Power 0": (
        ("Power", "power_param", "power: 0 scale: 2 shift: 1"), np.ones_like, np.zeros_like,
    ),
    "Power scale 0": (
        ("Power", "power_param", "power: 2 scale: 0 shift: 3"),
        lambda x: np.full_like(x, 9),
        np.zeros_like,
    ),
    "Exp": (("Exp",), np.exp, np.exp),
    "Exp scaled": (
        ("Exp", "exp_param", "scale: 0.5 shift: -2"),
        lambda x: np.exp(0.5 * x - 2),
        lambda x: 0.5 * np.exp(0.5 * x - 2),
    ),
    "Exp base": (
        ("Exp", "exp_param", "base: 2 scale: 3 shift: 1"),
        lambda x: 2 ** (3 * x + 1),
        lambda x: 3 * np.log(2) * 2 ** (3 * x + 1),
    ),
    "Exp base 1": (("Exp", "exp_param", "base: 1"), np.ones_like, np.zeros_like),
    "Log scaled": (
        ("Log", "log_param", "scale: 0.5 shift: 8"),
        lambda x: np.log(8 + 0.5 * x),
        lambda x: 0.5 / (8 + 0.5 * x),
    ),
    "Log base": (
        ("Log", "log_param", "base: 10 shift: 8"),
        lambda x: np.log10(8 + x),
        lambda x: 1 / (8 + x) / np.log(10),
    ),
    "Swish": (("Swish",), *swish(1)),
    "Swish beta": (("Swish", "swish_param", "beta: -1.5"), *swish(-1.5)),
    "Clip": (
        ("Clip", "clip_param", "min: -0.5 max: 1"),
        lambda x: np.clip(x, -0.5, 1),
        lambda x: (x >= -0.5) & (x <= 1),
    ),
    "ReLU6": (("ReLU6",), lambda x: np.clip(x, 0, 6), lambda x: (x > 0) & (x < 6)),
    "Mish": (
        ("Mish",),
        lambda x: x * np.tanh(np.log(1 + np.exp(x))),
        lambda x: np.tanh(np.log(1 + np.exp(x)))
        + x * sigmoid(x) * (1 - np.tanh(np.log(1 + np.exp(x))) ** 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("top", ["y", "x"])
def test_value_and_gradient(case, top, layer_net, rng):
    """A new top, and the bottom's own name (in place)."""
    arguments, value, slope = CASES[case]
    x, dy = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    after = 'layer { name: "after" type: "Power" bottom: "x" top: "y" }' if top == "x" else ""
    net = layer_net(layer(*arguments, top=top) + after, x=SHAPE)
    given = x.copy()
    result = net.run({"x": given}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], value(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * slope(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(given, x)


def test_log_of_positive_values(layer_net, rng):
    x, dy = rng.uniform(0.1, 5, size=SHAPE), rng.normal(size=SHAPE)
    result = layer_net(layer("Log"), x=SHAPE).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], np.log(x), rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy / x, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "slope"),
    [
        (("ReLU",), 0),
        (("ReLU", "relu_param", "negative_slope: 0.25"), 0.25),
        (("ELU", "elu_param", "alpha: 0.5"), 0.5),
        (("AbsVal",), 0),
        (("Swish",), 0.5),
        (("Clip", "clip_param", "min: 0 max: 1"), 1),
        (("Clip", "clip_param", "min: -1 max: 0"), 1),
        (("Power", "power_param", "power: 3"), 0),
    ],
)
def test_gradient_at_0(arguments, slope, layer_net):
    net = layer_net(layer(*arguments), x=(3,))
    result = net.run({"x": np.zeros(3)}, {"y": np.ones(3)})
    assert result.tops["y"].tolist() == [0] * 3
    np.testing.assert_array_equal(result.bottom_diffs["x"], np.full(3, slope))


def test_bnll_of_large_values(layer_net):
    x = np.array([-800.0, -50, 30, 49.9, 50.1, 800])
    result = layer_net(layer("BNLL"), x=(6,)).run({"x": x}, {"y": np.ones(6)})
    expected = np.where(x > 0, x + np.log1p(np.exp(-np.abs(x))), np.log1p(np.exp(np.minimum(x, 0))))
    np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-14)
    bounded = np.exp(np.minimum(x, 50))  # as Caffe does
    np.testing.assert_allclose(result.bottom_diffs["x"], bounded / (bounded + 1), rtol=1e-14)


def test_threshold(layer_net):
    x = np.array([-1.0, 0, 0.5, 0.5001, 3])
    assert layer_net(layer("Threshold"), x=(5,)).run({"x": x}).tops["y"].tolist() == [0, 0, 1, 1, 1]
    text = layer("Threshold", "threshold_param", "threshold: 0.5", top="x")
    result = layer_net(text, x=(5,)).run({"x": x}, {"x": np.ones(5)})
    assert result.tops["x"].tolist() == [0, 0, 0, 1, 1]
    assert result.bottom_diffs == {}


def test_a_constant_power_ignores_what_the_bottom_holds(layer_net):
    x = np.array([np.nan, np.inf, 1.0])
    text = layer("Power", "power_param", "scale: 0 shift: 0 power: -1")
    result = layer_net(text, x=(3,)).run({"x": x}, {"y": np.ones(3)})
    assert result.tops["y"].tolist() == [np.inf] * 3
    assert result.bottom_diffs["x"].tolist() == [0] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_keeps_the_type(case, dtype, rng):
    arguments, value, _ = CASES[case]
    net = load('input: "x" input_shape { dim: 60 } ' + layer(*arguments))
    x = torch.tensor(rng.normal(size=60), dtype=dtype)
    y = net(x)["y"]
    assert y.dtype == dtype
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float32: 2e-6}[dtype]
    np.testing.assert_allclose(
        y.double().numpy(), value(x.double().numpy()), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Exp", "exp_param", "base: 0"), "base 0; expected a positive base, or -1 for e"),
        (("Exp", "exp_param", "base: inf"), "base inf"),
        (("Log", "log_param", "base: -2"), "base -2"),
        (("Log", "log_param", "base: 1"), "base 1; expected a base whose logarithm is not 0"),
        (("Clip", "clip_param", "min: 2 max: 1"), "min 2, max 1; expected min at most max"),
        (("Clip",), "clip_param without both limits"),
    ],
)
def test_impossible_options_are_refused(arguments, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(*arguments), x=(3,))


def test_relu6_ends_at_6(layer_net):
    x = np.array([-1.0, 5, 6.5, 7])
    result = layer_net(layer("ReLU6"), x=(4,)).run({"x": x}, {"y": np.ones(4)})
    assert result.tops["y"].tolist() == [0, 5, 6, 6]
    assert result.bottom_diffs["x"].tolist() == [0, 1, 0, 0]
