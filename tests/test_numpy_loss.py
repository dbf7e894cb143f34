"""The fused loss on numpy arrays against torch's cross entropy over definitions in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sphereface
from sphereface import SphereFaceError, numpy_ops
from sphereface.margin_policy import (
    ArcFace,
    ASoftmax,
    CosFace,
    CosineMargin,
    L2Softmax,
    LSoftmax,
    SphereFace2,
    SphereFaceR,
)

M, K, N = 7, 6, 40


def problem(rng, dtype=np.float64):
    x, weight = (rng.normal(size=size).astype(dtype) for size in ((M, K), (N, K)))
    return x, weight, rng.integers(N, size=M)


def cosine_logits(x, weight, label, bend, scale):
    cosine = F.normalize(x) @ F.normalize(weight).T
    target = cosine.gather(1, label[:, None])
    return scale * cosine.scatter(1, label[:, None], bend(target))


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize(
    ("policy", "bend"),
    [
        (CosFace(0.35, 20), lambda c: c - 0.35),
        (ArcFace(0.3, 16), lambda c: (c.acos() + 0.3).cos()),
        (ASoftmax(2, 12), lambda c: torch.where(c > 0, 2 * c**2 - 1, 1 - 2 * c**2 - 2)),
    ],
)
def test_definitions(policy, bend, memory, rng):
    x, weight, label = problem(rng)
    class_weight = rng.uniform(0.1, 2, N)
    label[2] = -1
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight)]
    scale = torch.tensor(float(policy.scale), dtype=torch.float64, requires_grad=True)
    known = torch.tensor(label).clamp_min(0)
    expected = F.cross_entropy(
        cosine_logits(*tensors, known, bend, scale), torch.tensor(label), ignore_index=-1,
        weight=torch.tensor(class_weight), label_smoothing=0.1,
    )  # fmt: skip
    dx, dweight, dscale = torch.autograd.grad(expected, (*tensors, scale))
    result = numpy_ops.margin_softmax_loss(
        x, weight, label, margin=policy, gradient="exact", ignore_index=-1, label_smoothing=0.1,
        class_weight=class_weight, memory=memory,
    )  # fmt: skip
    assert result.loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(result.dx, dx, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(result.dweight, dweight, rtol=1e-9, atol=1e-13)
    assert result.dscale == pytest.approx(dscale.item(), rel=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "margin",
    [
        4,
        1.5,
        LSoftmax(3),
        SphereFaceR(),
        SphereFaceR(1.5, None),
        CosineMargin(8, "combined", m1=1.1, m2=0.2, m3=0.1),
        "bias",
        "binary",
    ],
)
def test_equal_to_torch(margin, dtype, reduction, rng):
    x, weight, label = problem(rng, dtype)
    bias = rng.normal(size=N if margin == "bias" else 1).astype(dtype)
    make = {"bias": lambda b: L2Softmax(5, b), "binary": lambda b: SphereFace2(bias=b)}
    make = make.get(margin, lambda b: margin)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    loss, stats = sphereface.margin_softmax_loss(
        *tensors[:2], torch.tensor(label), 0.5, make(tensors[2]), reduction=reduction,
        return_stats=True,
    )  # fmt: skip
    gradients = torch.autograd.grad(loss.sum(), tensors, allow_unused=True)
    result = numpy_ops.margin_softmax_loss(x, weight, label, 0.5, make(bias), reduction=reduction)
    single = dtype == np.float32
    tolerance = {"rtol": 2e-4, "atol": 2e-5} if single else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(result.loss, loss.detach(), **tolerance)
    np.testing.assert_allclose(result.dx, gradients[0], **tolerance)
    np.testing.assert_allclose(result.dweight, gradients[1], **tolerance)
    np.testing.assert_allclose(weight, tensors[1].detach(), **tolerance)  # in place in both
    if gradients[2] is not None:
        dbias = result.dbias if margin == "bias" else result.dbias.sum(keepdims=True)
        np.testing.assert_allclose(dbias, gradients[2], **tolerance)
    assert result.dx.dtype == result.dweight.dtype == dtype
    np.testing.assert_allclose(result.log_probability, stats.log_probability, **tolerance)
    np.testing.assert_allclose(result.cosine, stats.cosine, **tolerance)
    np.testing.assert_array_equal(result.prediction, stats.prediction)
    np.testing.assert_array_equal(result.plain_prediction, stats.plain_prediction)


def test_without_gradients_and_without_rows(rng):
    x, weight, label = problem(rng)
    whole = numpy_ops.margin_softmax_loss(x, weight, label, margin=CosFace())
    result = numpy_ops.margin_softmax_loss(x, weight, label, margin=CosFace(), gradients=False)
    assert result.loss == whole.loss
    assert result.dx.size == result.dweight.size == 0
    assert result.dscale is None
    label[:] = -1
    nothing = numpy_ops.margin_softmax_loss(
        x, weight, label, margin=CosFace(), ignore_index=-1, gradients=False
    )
    assert math.isnan(nothing.loss)  # as torch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction is 'max'"),
        ({"memory": "small"}, "memory is 'small'"),
        ({"margin": 0.5}, "margin is 0.5"),
        ({"gradient": "true"}, "gradient is 'true'"),
        ({"class_weight": np.ones(3)}, r"class_weight is an array of shape \(3,\)"),
        ({"margin": SphereFace2(), "label_smoothing": 0.1}, "label_smoothing or class_weight"),
    ],
)
def test_bad_options_are_named(options, message, rng):
    with pytest.raises(SphereFaceError, match=message):
        numpy_ops.margin_softmax_loss(*problem(rng), **options)
    x, weight, label = problem(rng)
    label[1] = N
    with pytest.raises(SphereFaceError, match=r"label\[1\] is 40; expected 0 to 39"):
        numpy_ops.margin_softmax_loss(x, weight, label)
