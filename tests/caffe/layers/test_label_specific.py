from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "add": example("LabelSpecificAdd", "bias: -0.35", x=(3, 4), label=(3,)),
    "rescale": example("LabelSpecificRescale", "positive_weight: 2", x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 2])


def layer(kind: str, options: str, top: str = "y") -> str:
    return (
        f'layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "label" top: "{top}" {options} }}'
    )


@pytest.mark.parametrize("top", ["x", "y"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_add(shape, top, layer_net, rng):
    text = layer("LabelSpecificAdd", "label_specific_add_param { bias: -0.35 }", top)
    x, dy = rng.normal(size=shape), rng.normal(size=shape)
    net = layer_net(text, x=shape, label=(3,))
    result = net.run({"x": x, "label": LABEL}, {top: dy})
    expected = x.copy().reshape(3, 4)
    expected[np.arange(3), LABEL] -= 0.35
    np.testing.assert_allclose(result.tops[top], expected.reshape(shape), rtol=1e-7)
    np.testing.assert_array_equal(result.bottom_diffs["x"], dy)
    net.net.eval()
    np.testing.assert_array_equal(net.run({"x": x, "label": LABEL}).tops[top], x)


def test_rescale(layer_net, rng):
    text = layer(
        "LabelSpecificRescale",
        "label_specific_rescale_param { positive_weight: 0.5 negative_weight: 3 }",
    )
    x, dy = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    net = layer_net(text, x=(3, 4), label=(3,))
    result = net.run({"x": x, "label": LABEL}, {"y": dy})
    factor = np.full((3, 4), 3.0)
    factor[np.arange(3), LABEL] = 0.5
    np.testing.assert_allclose(result.tops["y"], x * factor, rtol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], dy * factor, rtol=1e-12)
    net.net.eval()
    np.testing.assert_array_equal(net.run({"x": x, "label": LABEL}).tops["y"], x)


@pytest.mark.parametrize("kind", ["LabelSpecificAdd", "LabelSpecificRescale"])
def test_defaults_and_errors(kind, layer_net, rng):
    x = rng.normal(size=(3, 4))
    net = layer_net(layer(kind, ""), x=(3, 4), label=(3,))
    np.testing.assert_array_equal(net.run({"x": x, "label": LABEL}).tops["y"], x)
    with pytest.raises(SphereFaceError, match=r"label\[1\] is 4; expected 0 to 3"):
        net.run({"x": x, "label": np.array([0, 4, 0])})
    with pytest.raises(SphereFaceError, match="2 labels for scores of shape"):
        layer_net(layer(kind, ""), x=(3, 4), label=(2,))


def test_annealed_bias(layer_net, rng):
    """(1 + gamma iteration)^power - 1 + base within limits, where the score stays positive."""
    text = layer(
        "LabelSpecificAdd",
        'top: "b" label_specific_add_param { bias_base: -0.125 bias_gamma: 0.25 bias_power: -1'
        " bias_min: -0.5 bias_max: 0 iteration: 2 }",
    )
    x, dy = np.full((3, 4), 0.5), rng.normal(size=(3, 4))
    x[0, 2], x[1, 0] = 0.3, -0.2
    net = layer_net(text, x=(3, 4), label=(3,))
    for phase, iteration in (("TRAIN", 2), ("TRAIN", 3), ("TEST", 4), ("TRAIN", 4), ("TRAIN", 5)):
        net.net.train(phase == "TRAIN")
        result = net.run({"x": x, "label": LABEL}, {"y": dy})
        bias = max(-0.125 + (1 + 0.25 * iteration) ** -1 - 1, -0.5)
        expected = x.copy()
        if phase == "TRAIN":
            for i, label in enumerate(LABEL):
                expected[i, label] += bias * (x[i, label] > -bias)
        np.testing.assert_allclose(result.tops["y"], expected, rtol=1e-6)
        np.testing.assert_allclose(result.tops["b"], [bias], rtol=1e-6)
        np.testing.assert_array_equal(result.bottom_diffs["x"], dy)
    assert int(net.net.state_dict()["l.iteration"]) == 6
    net.layer.count_from_start(5)
    assert int(net.layer.iteration) == 7


def test_changed_in_test_too(layer_net, rng):
    options = "label_specific_add_param { bias: 0.25 transform_test: true }"
    x = rng.normal(size=(3, 4))
    net = layer_net(layer("LabelSpecificAdd", options), "TEST", x=(3, 4), label=(3,))
    expected = x.copy()
    expected[np.arange(3), LABEL] += 0.25
    np.testing.assert_allclose(net.run({"x": x, "label": LABEL}).tops["y"], expected, rtol=1e-12)
    text = layer("LabelSpecificAdd", "label_specific_add_param { bias_base: 0 bias_min: 1 }")
    with pytest.raises(SphereFaceError, match="bias_min 1, bias_max 0; expected min at most max"):
        layer_net(text, x=(3, 4), label=(3,))
