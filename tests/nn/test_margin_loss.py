"""The loss modules against pytorch-metric-learning's, and against the margin head."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as reference

from sphereface import SphereFaceError
from sphereface.nn import (
    ArcFaceLoss,
    ASoftmaxLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    MarginInnerProduct,
    NormFaceLoss,
)

K, N, M = 12, 40, 16
PAPER = {"base": 1000, "gamma": 0.12, "power": 1, "lambda_min": 5}


def batch(device="cpu"):
    x = torch.randn(M, K, dtype=torch.float64, device=device, requires_grad=True)
    return x, torch.randint(N, (M,), device=device)


def assert_agrees(ours, theirs, x, label):
    """Compare with a loss of pytorch-metric-learning, whose weight W is (K, N)."""
    with torch.no_grad():
        theirs.W.data = ours.weight.T.clone()
    loss = ours(x, label)
    expected = theirs(x, label)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    got = torch.autograd.grad(loss, (x, ours.weight))
    dx, dweight = torch.autograd.grad(expected, (x, theirs.W))
    torch.testing.assert_close(got[0], dx, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(got[1], dweight.T, rtol=1e-8, atol=1e-12)
    assert dx.abs().max() > 1e-3


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_metric_learnings_cosface(memory):
    ours = CosFaceLoss(K, N, 0.35, 64, dtype=torch.float64, memory=memory)
    assert_agrees(ours, reference.CosFaceLoss(N, K, margin=0.35, scale=64), *batch())


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("degrees", [28.6, 120])
def test_metric_learnings_arcface(degrees, memory):
    ours = ArcFaceLoss(K, N, math.radians(degrees), 16, dtype=torch.float64, memory=memory)
    assert_agrees(ours, reference.ArcFaceLoss(N, K, margin=degrees, scale=16), *batch())


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("margin", [2, 3, 4])
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in its constructor
def test_metric_learnings_sphereface(margin, memory):
    ours = ASoftmaxLoss(
        K, N, margin, base=0, gradient="exact", dtype=torch.float64,
        memory=memory,
    )  # fmt: skip
    assert_agrees(ours, reference.SphereFaceLoss(N, K, margin=margin, scale=1), *batch())


def test_normface_and_the_combined_margin_by_definition(device):
    x, label = batch(device)
    for loss, m1, m2, m3 in (
        (NormFaceLoss(K, N, 20, dtype=torch.float64, device=device), 1, 0, 0),
        (CombinedMarginLoss(K, N, 1.1, 0.2, 0.1, 20, dtype=torch.float64, device=device),
         1.1, 0.2, 0.1),
    ):  # fmt: skip
        cosine = F.normalize(x) @ F.normalize(loss.weight).T
        target = cosine.gather(1, label[:, None])
        assert (m1 * target.acos() + m2).max() < math.pi
        value = (m1 * target.acos() + m2).cos() - m3
        expected = F.cross_entropy(20 * cosine.scatter(1, label[:, None], value), label)
        actual = loss(x, label)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=0)
        for ours, theirs in zip(
            torch.autograd.grad(actual, (x, loss.weight)),
            torch.autograd.grad(expected, (x, loss.weight)),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_a_softmax_is_the_head_and_cross_entropy(gradient, device):
    x, label = batch(device)
    head = MarginInnerProduct(K, N, **PAPER, gradient=gradient, dtype=torch.float64, device=device)
    loss = ASoftmaxLoss(K, N, **PAPER, gradient=gradient, dtype=torch.float64, device=device)
    loss.load_state_dict(head.state_dict())
    for _ in range(2):
        actual, expected = loss(x, label), F.cross_entropy(head(x, label), label)
        torch.testing.assert_close(actual, expected)
        got = torch.autograd.grad(actual, (x, loss.weight))
        want = torch.autograd.grad(expected, (x, head.weight))
        for ours, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert loss.iteration.item() == 2
    assert loss.lambda_.item() == head.lambda_.item() == pytest.approx(1000 / 1.24)
    torch.testing.assert_close(loss.weight, head.weight)


def test_evaluation_writes_nothing():
    x, label = batch()
    loss = ASoftmaxLoss(K, N, **PAPER, dtype=torch.float64).eval()
    raw = loss.weight.detach().clone()
    expected = F.cross_entropy(MarginInnerProduct.forward(loss, x, label), label)
    torch.testing.assert_close(loss(x, label), expected)
    assert torch.equal(loss.weight, raw)
    assert loss.iteration.item() == 0


def test_loss_options(device):
    x, label = batch(device)
    label[1] = -1
    options = {"reduction": "none", "label_smoothing": 0.1}
    loss = CosFaceLoss(K, N, dtype=torch.float64, device=device, ignore_index=-1, **options)
    values = loss(x, label)
    assert values.shape == (M,)
    assert values[1] == 0
    assert (values[2:] > 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosFaceLoss(0, 3), "in_features is 0; expected an integer >= 1"),
        (lambda: CosFaceLoss(3, 0), "num_classes is 0; expected an integer >= 1"),
        (lambda: CosFaceLoss(3, 3, -1), "m3 is -1; expected 0 <= m3"),
        (lambda: ArcFaceLoss(3, 3, 4), "m2 is 4; expected 0 <= m2 < 3.142"),
        (lambda: CombinedMarginLoss(3, 3, 0.5), "m1 is 0.5; expected 1 <= m1"),
        (lambda: NormFaceLoss(3, 3, 0), "scale is 0; expected a positive finite number"),
        (lambda: ASoftmaxLoss(3, 3, 0.5), "margin is 0.5"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(SphereFaceError, match=message):
        make()
