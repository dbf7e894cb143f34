from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.caffe import load
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "mean": example("InterClass", "num_output: 3", tops=2, x=(3, 4), label=(3,)),
}

LABEL = np.array([2, 0, 2, 3])


def layer(options: str, tops: str = 'top: "distance" top: "alpha"', more: str = "") -> str:
    return (
        f'layer {{ name: "l" type: "InterClass" bottom: "x" bottom: "label" {tops} {more} '
        f"inter_class_param {{ num_output: 5 {options} }} }}"
    )


def mean_of(w: np.ndarray, normalize: bool) -> np.ndarray:
    mean = w.mean(0)
    return mean / np.sqrt((mean**2).sum() + 1e-5) if normalize else mean


@pytest.mark.parametrize("loss_weight", [1.0, 0.25])
@pytest.mark.parametrize("normalize", [True, False])
def test_mean(normalize, loss_weight, layer_net, rng):
    options = f"alpha_start_iter: 1 alpha_start_value: 5 normalize: {str(normalize).lower()}"
    text = layer(options, more=f"loss_weight: {loss_weight} loss_weight: 0")
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    result = layer_net(text, x=x.shape, label=(4,)).set(weight=w).run({"x": x, "label": LABEL})
    mean = mean_of(w, normalize)
    expected = 1 - np.mean([mean @ w[y] for y in LABEL])
    np.testing.assert_allclose(result.tops["distance"], expected, rtol=1e-12)
    dw = np.zeros_like(w)
    for y in LABEL:
        dw[y] += 5 / 4 * mean
    np.testing.assert_allclose(result.param_diffs["weight"], dw, rtol=1e-6, atol=1e-12)
    assert "x" not in result.bottom_diffs


@pytest.mark.parametrize("normalize", [True, False])
def test_among(normalize, layer_net, rng):
    options = f"type: AMONG alpha_start_value: 6 normalize: {str(normalize).lower()}"
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    net = layer_net(layer(options), x=x.shape, label=(4,)).set(weight=w)
    result = net.run({"x": x, "label": LABEL})
    total = sum(((w[i] - w[y]) ** 2).sum() for i in range(5) for y in LABEL) / 5
    np.testing.assert_allclose(result.tops["distance"], total, rtol=1e-12)
    dw = np.zeros_like(w)
    for y in LABEL:
        dw[y] += -4 * 6 / (4 * total**2 + 1e-5) * (w[y] - mean_of(w, normalize))
    np.testing.assert_allclose(result.param_diffs["weight"], dw, rtol=1e-6, atol=1e-12)
    assert np.abs(dw).max() > 1e-2


@pytest.mark.parametrize(
    ("options", "alphas"),
    [
        ("", [0, 0, 0, 0, 0, 0]),  # alpha_start_value is 0
        ("alpha_start_value: 3", [3, 3, 3, 3, 3, 3]),
        (
            "alpha_start_iter: 2 alpha_start_value: 3 alpha_stepvalue: [4, 5]",
            [0, 3, 3, 3.1, 3.2, 3.2],
        ),
        (
            "iteration: 100 alpha_start_iter: 102 alpha_start_value: 1 alpha_step: -0.5 "
            "alpha_stepvalue: 104",
            [0, 1, 1, 0.5, 0.5, 0.5],
        ),
        # The counter has passed the start, which therefore never comes.
        (
            "iteration: 5 alpha_start_iter: 3 alpha_start_value: 9 alpha_stepvalue: 7",
            [0, *[0.1] * 5],
        ),
        ("iteration: 5 alpha_start_iter: 3 alpha_start_value: 9 alpha_stepvalue: [4, 7]", [0] * 6),
        ("alpha_start_iter: 0 alpha_start_value: 9", [0] * 6),
    ],
)
def test_alpha(options, alphas, layer_net, rng):
    bottoms = {"x": rng.normal(size=(4, 3)), "label": LABEL}
    net = layer_net(layer(options), x=(4, 3), label=(4,))
    seen = [net.run(bottoms).tops["alpha"].item() for _ in alphas]
    np.testing.assert_allclose(seen, alphas, rtol=1e-6)
    # Evaluation counts nothing, and the count is saved.
    net.net.eval()
    np.testing.assert_allclose(net.run(bottoms).tops["alpha"], alphas[-1:], rtol=1e-6)
    resumed = layer_net(layer(options), x=(4, 3), label=(4,))
    resumed.net.load_state_dict(net.net.state_dict())
    np.testing.assert_allclose(resumed.run(bottoms).tops["alpha"], alphas[-1:], rtol=1e-6)


def test_shares_the_weight_of_the_classifier():
    net = load(
        """
        input: "fc5" input_shape { dim: [4, 8] } input: "label" input_shape { dim: 4 }
        layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6"
          top: "lambda" param { name: "fc6_w" lr_mult: 1 decay_mult: 1 }
          margin_inner_product_param { num_output: 10 type: DOUBLE base: 1000 gamma: 0.11
            weight_filler { type: "xavier" } lambda_min: 5 } }
        layer { name: "inter_class_dist_output" type: "InterClass" bottom: "fc5" bottom: "label"
          top: "maximize_inter_class_dist" param { name: "fc6_w" lr_mult: 1 decay_mult: 1 }
          inter_class_param { num_output: 10 type: AMONG iteration: 16000 alpha_start_iter: 16001
            alpha_start_value: 6 } }
        layer { name: "softmax_loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label"
          top: "softmax_loss" }
        """,
        phase="TRAIN",
    )
    weight = net.layer("fc6").weight
    assert net.layer("inter_class_dist_output").weight is weight
    assert list(net.outputs) == ["lambda", "maximize_inter_class_dist", "softmax_loss"]
    x, label = torch.randn(4, 8), torch.tensor(LABEL)

    def gradient(loss) -> np.ndarray:
        net.layer("inter_class_dist_output").iteration.fill_(16000)
        net.layer("fc6").iteration.fill_(0)
        (grad,) = torch.autograd.grad(loss(net(x, label)), weight)
        return grad.double().numpy()

    both = gradient(net.loss)
    plain = gradient(lambda tops: tops["softmax_loss"])
    w = weight.detach().double().numpy()
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1, rtol=1e-6)
    total = sum(((w[i] - w[y]) ** 2).sum() for i in range(10) for y in LABEL) / 10
    expected = np.zeros_like(w)
    for y in LABEL:
        expected[y] += -24 / (4 * total**2 + 1e-5) * (w[y] - mean_of(w, True))
    np.testing.assert_allclose(both - plain, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    ["alpha_start_iter: 5 alpha_stepvalue: 5", "alpha_stepvalue: [7, 6]", "alpha_start_iter: -1"],
)
def test_impossible_schedules_are_refused(options, layer_net):
    with pytest.raises(SphereFaceError, match="ascending values above alpha_start_iter"):
        layer_net(layer(options), x=(4, 3), label=(4,))
