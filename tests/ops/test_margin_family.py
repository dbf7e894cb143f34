"""Members of the margin family through the fused loss, against their definitions in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

import sphereface
from sphereface import SphereFaceError
from sphereface.margin_policy import (
    COCO,
    ArcFace,
    ASoftmax,
    CosFace,
    L2Softmax,
    LSoftmax,
    NormFace,
    SphereFace2,
    SphereFaceR,
)

M, K, N = 11, 9, 300  # lean takes pieces of 80 classes: three whole ones and a rest
ANGLES = (3, 20, 50, 70, 85, 100, 119, 140, 155, 165, 176)
WAYS = pytest.mark.parametrize("memory", ["fast", "lean"])


def problem(rng, dtype=torch.float64, device="cpu"):
    """Labels at angles all over, two rows of one class."""
    weight = torch.tensor(rng.normal(size=(N, K)))
    label = torch.tensor(rng.integers(N, size=M))
    label[3] = label[7]
    axis = F.normalize(weight[label])
    side = torch.tensor(rng.normal(size=(M, K)))
    side = F.normalize(side - (side * axis).sum(1, keepdim=True) * axis)
    angle = torch.tensor(ANGLES, dtype=torch.float64).deg2rad()[:, None]
    x = 3 * (angle.cos() * axis + angle.sin() * side)
    inputs = [t.to(device, dtype).requires_grad_() for t in (x, weight)]
    return *inputs, label.to(device)


def psi(theta, m):
    k = torch.floor(m * theta.detach() / math.pi)
    return (-1) ** k * torch.cos(m * theta) - 2 * k


def with_label(logits, label, value):
    return logits.scatter(1, label[:, None], value[:, None])


def a_softmax(x, weight, label, m, scale=None, lambda_=0.0, detached=False):
    """Return the logits of A-Softmax, and of SphereFace-R where `detached`."""
    length = x.norm(dim=1) if scale is None else scale
    cosine = F.normalize(x) @ F.normalize(weight).T
    target = cosine.gather(1, label[:, None])[:, 0]
    bent = psi(torch.acos(target), m)
    if detached:
        bent = target + (bent - target).detach()
    value = (bent + lambda_ * target) / (1 + lambda_)
    return with_label(cosine, label, value) * torch.as_tensor(length).reshape(-1, 1)


def l_softmax(x, weight, label, m, lambda_=0.0):
    logits = x @ weight.T
    target = logits.gather(1, label[:, None])[:, 0]
    length = x.norm(dim=1) * weight[label].norm(dim=1)
    value = (length * psi(torch.acos(target / length), m) + lambda_ * target) / (1 + lambda_)
    return with_label(logits, label, value)


MEMBERS = {
    "a-softmax 1.5": (ASoftmax(1.5), lambda x, w, y, a: a_softmax(x, w, y, 1.5, None, a)),
    "a-softmax 2.7": (2.7, lambda x, w, y, a: a_softmax(x, w, y, 2.7, None, a)),
    "a-softmax 5": (5, lambda x, w, y, a: a_softmax(x, w, y, 5, None, a)),
    "a-softmax 4, s = 20": (ASoftmax(4, 20), lambda x, w, y, a: a_softmax(x, w, y, 4, 20, a)),
    "l-softmax 1": (LSoftmax(1), lambda x, w, y, a: x @ w.T),
    "l-softmax 2": (LSoftmax(2), lambda x, w, y, a: l_softmax(x, w, y, 2, a)),
    "l-softmax 3": (LSoftmax(3), lambda x, w, y, a: l_softmax(x, w, y, 3, a)),
    "l-softmax 4": (LSoftmax(4), lambda x, w, y, a: l_softmax(x, w, y, 4, a)),
    "l2-softmax": (L2Softmax(12), lambda x, w, y, a: 12 * F.normalize(x) @ w.T),
    "coco": (COCO(25), lambda x, w, y, a: 25 * F.normalize(x) @ F.normalize(w).T),
    "sphereface-r": (SphereFaceR(1.5, 30),
                     lambda x, w, y, a: a_softmax(x, w, y, 1.5, 30, a, True)),
    "sphereface-r, x free": (SphereFaceR(1.7, None),
                             lambda x, w, y, a: a_softmax(x, w, y, 1.7, None, a, True)),
}  # fmt: skip


def assert_same(actual, expected, inputs, **tolerance):
    torch.testing.assert_close(actual, expected, **tolerance)
    cotangent = torch.linspace(-1, 1, actual.numel(), device=actual.device).reshape(actual.shape)
    got = torch.autograd.grad(actual, inputs, cotangent.to(actual.dtype))
    want = torch.autograd.grad(expected, inputs, cotangent.to(expected.dtype))
    for ours, theirs in zip(got, want, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, **tolerance)


@WAYS
@pytest.mark.parametrize("lambda_", [0.0, 0.7])
@pytest.mark.parametrize("name", MEMBERS)
def test_definition(name, lambda_, memory, rng, device):
    margin, logits = MEMBERS[name]
    x, weight, label = problem(rng, device=device)
    loss = sphereface.margin_softmax_loss(x, weight, label, lambda_, margin, "exact", memory=memory)
    expected = F.cross_entropy(logits(x, weight, label, lambda_), label)
    assert_same(loss, expected, (x, weight), rtol=1e-9, atol=1e-10)


@WAYS
@pytest.mark.parametrize("name", MEMBERS)
def test_options_of_cross_entropy(name, memory, rng, device):
    margin, logits = MEMBERS[name]
    x, weight, label = problem(rng, device=device)
    known = label.clone()
    label[2] = label[5] = -1
    class_weight = torch.tensor(rng.uniform(0.1, 2, N), device=device)
    options = {"ignore_index": -1, "reduction": "none", "label_smoothing": 0.2}
    loss = sphereface.margin_softmax_loss(
        x, weight, label, 0.5, margin, "exact", class_weight=class_weight, memory=memory, **options
    )
    # A row without a label has no margin, and no loss.
    expected = F.cross_entropy(logits(x, weight, known, 0.5), label, weight=class_weight, **options)
    assert_same(loss, expected, (x, weight), rtol=1e-9, atol=1e-10)


@WAYS
@pytest.mark.parametrize("name", [name for name in MEMBERS if not name.startswith("sphereface-r")])
def test_gradcheck(name, memory, rng, device):
    margin, _ = MEMBERS[name]
    x, weight, label = problem(rng, device=device)
    assert torch.autograd.gradcheck(
        lambda x, w: sphereface.margin_softmax_loss(
            x, w, label, 1.0, margin, "exact", reduction="none", memory=memory
        ),
        (x, weight[:, :]), fast_mode=True, atol=1e-5, nondet_tol=1e-12,
    )  # fmt: skip


@WAYS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 1.5e-2)])
@pytest.mark.parametrize("name", MEMBERS)
def test_lower_precisions(name, dtype, tolerance, memory, rng, device, norm_error):
    margin, logits = MEMBERS[name]
    x, weight, label = problem(rng, dtype, device)
    loss = sphereface.margin_softmax_loss(x, weight, label, 5.0, margin, "exact", memory=memory)
    assert loss.dtype == torch.float32
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = F.cross_entropy(logits(*wide, label, 5.0), label)
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    got = torch.autograd.grad(loss, (x, weight))
    for ours, theirs in zip(got, torch.autograd.grad(expected, wide), strict=True):
        assert ours.dtype == dtype
        assert norm_error(ours.double(), theirs) < tolerance


@pytest.mark.parametrize("m", [1.5, 2.7])
def test_the_originals_backward_for_any_m(m, rng, device):
    """``gradient="caffe"`` by its own formula: the direction over its coefficients' length."""
    x, weight, label = problem(rng, device=device)
    loss = sphereface.margin_softmax_loss(x, weight, label, 2.0, m, reduction="sum")
    dx, dweight = torch.autograd.grad(loss, (x, weight))
    torch.testing.assert_close(weight.norm(dim=1), torch.ones_like(weight[:, 0]))
    with torch.no_grad():
        logits = a_softmax(x, weight, label, m, None, 2.0)
        g = logits.softmax(1) - F.one_hot(label, N)
        unit = weight[label]
        cosine = (F.normalize(x) * unit).sum(1)
        theta = cosine.acos()
        k = torch.floor(m * theta / math.pi)
        slope = (-1) ** k * m * (m * theta).sin() / theta.sin()
        on_w, on_x = slope, (psi(theta, m) - cosine * slope) / x.norm(dim=1)
        length = (on_w**2 + on_x**2).sqrt()
        # Both coefficients times |x|, as csrc/include/sphereface/label_column.h.
        direction = (on_w[:, None] * unit + on_x[:, None] * x) / length[:, None]
        own = (direction + 2.0 * unit) / 3.0
        target = g.gather(1, label[:, None])
        expected = g @ weight + target * (own - unit)
    torch.testing.assert_close(dx, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(dweight, g.T @ x.detach(), rtol=1e-9, atol=1e-10)


@WAYS
def test_sphereface_r_as_its_authors_port(memory, rng, device):
    """W is normalised in place, outside of the gradient."""
    x, weight, label = problem(rng, device=device)
    unit = F.normalize(weight).detach().requires_grad_()
    cosine = F.normalize(x) @ unit.T
    with torch.no_grad():
        theta = cosine.clamp(-1 + 1e-12, 1 - 1e-12).acos()
        theta = with_label(theta, label, 1.5 * theta.gather(1, label[:, None])[:, 0])
        k = (theta / math.pi).floor()
        difference = (1 - 2 * torch.remainder(k, 2)) * theta.cos() - 2 * k - cosine
    expected = F.cross_entropy(30 * (cosine + difference), label)
    want = torch.autograd.grad(expected, (x, unit))
    loss = sphereface.margin_softmax_loss(x, weight, label, margin=SphereFaceR(), memory=memory)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, (x, weight)), want)
    torch.testing.assert_close(weight, unit)


@WAYS
@pytest.mark.parametrize("make", [CosFace, NormFace, ASoftmax, LSoftmax, SphereFaceR])
def test_learned_scale(make, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    scale = torch.tensor(7.0, dtype=torch.float64, device=device, requires_grad=True)

    def loss(scale):
        return sphereface.margin_softmax_loss(
            x, weight, label, 0.0, make(scale=scale), "exact", memory=memory
        )

    step = 1e-5
    slope = (loss(7 + step) - loss(7 - step)) / (2 * step)
    torch.testing.assert_close(loss(scale), loss(7.0))
    gradient = torch.autograd.grad(loss(scale), scale)[0]
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-9)
    assert gradient.abs() > 1e-3


@WAYS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_l2_softmax_with_a_bias(dtype, memory, rng, device, norm_error):
    x, weight, label = problem(rng, dtype, device)
    bias = torch.tensor(rng.normal(size=N), dtype=dtype, device=device, requires_grad=True)
    inputs = (x, weight, bias)
    loss = sphereface.margin_softmax_loss(
        x, weight, label, margin=L2Softmax(10, bias), memory=memory
    )
    wide = [t.detach().double().requires_grad_() for t in inputs]
    expected = F.cross_entropy(F.linear(10 * F.normalize(wide[0]), *wide[1:]), label)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-2
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    got = torch.autograd.grad(loss, inputs)
    for ours, theirs in zip(got, torch.autograd.grad(expected, wide), strict=True):
        assert norm_error(ours.double(), theirs) < tolerance


def sphereface2(x, unit, label, bias, m=0.4, r=30.0, t=3.0, alpha=0.7):
    """Return each row's loss as in the paper, over the rows of a unit weight."""
    cosine = F.normalize(x) @ unit.T
    hot = F.one_hot(label, N).to(x.dtype)
    with torch.no_grad():
        difference = 2 * ((cosine + 1) / 2) ** t - 1 - m * (2 * hot - 1) - cosine
    weights = (alpha * hot + (1 - alpha) * (1 - hot)) / r
    return F.binary_cross_entropy_with_logits(
        r * (cosine + difference) + bias, hot, weights, reduction="none"
    ).sum(1)


@WAYS
@pytest.mark.parametrize("t", [3.0, 2.5])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_sphereface2(gradient, reduction, t, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    bias = torch.tensor(3.0, dtype=torch.float64, device=device, requires_grad=True)
    if gradient == "caffe":
        leaf = F.normalize(weight).detach().requires_grad_()
        expected = sphereface2(x, leaf, label, bias, t=t)
    else:
        leaf = weight
        expected = sphereface2(x, F.normalize(weight), label, bias, t=t)
    expected = expected.mean() if reduction == "mean" else expected
    cotangent = torch.linspace(0.5, 1, M, dtype=torch.float64, device=device)
    cotangent = None if reduction == "mean" else cotangent
    want = torch.autograd.grad(expected, (x, leaf, bias), cotangent)
    loss = sphereface.margin_softmax_loss(
        x, weight, label, margin=SphereFace2(t=t, bias=bias), gradient=gradient,
        reduction=reduction, memory=memory,
    )  # fmt: skip
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    got = torch.autograd.grad(loss, (x, weight, bias), cotangent)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


@WAYS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 4e-2)])
def test_sphereface2_in_lower_precisions(dtype, tolerance, memory, rng, device, norm_error):
    x, weight, label = problem(rng, dtype, device)
    policy = SphereFace2(bias=torch.tensor(2.0, device=device))
    loss = sphereface.margin_softmax_loss(
        x, weight, label, margin=policy, gradient="exact", memory=memory
    )
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = sphereface2(wide[0], F.normalize(wide[1]), label, 2.0).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    got = torch.autograd.grad(loss, (x, weight))
    for ours, theirs in zip(got, torch.autograd.grad(expected, wide), strict=True):
        assert ours.dtype == dtype
        assert norm_error(ours.double(), theirs) < tolerance


@WAYS
def test_sphereface2s_stats_and_ignored_rows(memory, rng, device):
    x, weight, label = problem(rng, device=device)
    known = label.clone()
    label[4] = -1
    policy = SphereFace2(bias=torch.tensor(1.0, device=device))
    losses, stats = sphereface.margin_softmax_loss(
        x, weight, label, margin=policy, gradient="exact", ignore_index=-1, reduction="none",
        memory=memory, return_stats=True,
    )  # fmt: skip
    with torch.no_grad():
        expected = sphereface2(x, F.normalize(weight), known, 1.0)
        cosine = F.normalize(x) @ F.normalize(weight).T
        target = cosine.gather(1, known[:, None])[:, 0]
        logit = 30 * (2 * ((target + 1) / 2) ** 3 - 1 - 0.4) + 1
    kept = label >= 0
    torch.testing.assert_close(losses[kept], expected[kept])
    assert losses[4] == 0
    torch.testing.assert_close(stats.cosine[kept], target[kept])
    torch.testing.assert_close(stats.log_probability[kept], F.logsigmoid(logit[kept]))
    torch.testing.assert_close(stats.plain_prediction, cosine.argmax(1))
    dx = torch.autograd.grad(losses.sum(), x)[0]
    assert dx[4].abs().max() == 0
    assert dx[5].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": SphereFace2(), "label_smoothing": 0.1}, "label_smoothing or class_weight"),
        ({"margin": SphereFace2(), "class_weight": torch.ones(N)}, "each class has a loss"),
        ({"margin": L2Softmax(3, torch.zeros(7))}, r"bias has shape \(7,\); expected one value or"),
    ],
)
def test_bad_options_are_named(options, message, rng):
    x, weight, label = problem(rng)
    with pytest.raises(SphereFaceError, match=message):
        sphereface.margin_softmax_loss(x, weight, label, **options)


@pytest.mark.parametrize("make", [SphereFaceR, SphereFace2, L2Softmax])
def test_compiles_without_graph_breaks(make, rng, device):
    x, weight, label = problem(rng, device=device)
    bias = torch.zeros(N, dtype=torch.float64, device=device, requires_grad=True)
    policy = make() if make is SphereFaceR else make(bias=bias)

    def loss(x, weight, label):
        return sphereface.margin_softmax_loss(x, weight, label, margin=policy, gradient="exact")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(x, weight, label)
    assert_same(compiled, loss(x, weight, label), (x, weight), rtol=1e-12, atol=1e-13)


@WAYS
@pytest.mark.parametrize("name", ["SphereFace", "CosFace", "ArcFace"])
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of their own numpy code
def test_agrees_with_pytorch_metric_learning(name, memory, rng):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    x, weight, label = problem(rng)
    with torch.no_grad():
        if name == "ArcFace":  # where it continues beyond pi - m differs
            weight[label] = weight[label] + x
    theirs, margin = {
        "SphereFace": (losses.SphereFaceLoss(N, K, margin=4, scale=1), 4),
        "CosFace": (losses.CosFaceLoss(N, K, margin=0.35, scale=30), CosFace(0.35, 30)),
        "ArcFace": (
            losses.ArcFaceLoss(N, K, margin=math.degrees(0.5), scale=30),
            ArcFace(0.5, 30),
        ),
    }[name]
    theirs.W = torch.nn.Parameter(weight.detach().T.clone())
    loss = sphereface.margin_softmax_loss(
        x, weight, label, margin=margin, gradient="exact", memory=memory
    )
    expected = theirs(x, label)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    dx, dweight = torch.autograd.grad(loss, (x, weight))
    their_dx, their_dweight = torch.autograd.grad(expected, (x, theirs.W))
    torch.testing.assert_close(dx, their_dx, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dweight, their_dweight.T, rtol=1e-5, atol=1e-6)
