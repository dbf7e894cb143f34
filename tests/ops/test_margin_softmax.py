"""The fused loss against formulas by angles in float64, written here, and against the layers."""

import math

import pytest
import torch
import torch.nn.functional as F

import sphereface.ops
from sphereface import SphereFaceError
from sphereface.margin_policy import ArcFace, ASoftmax, CombinedMargin, CosFace, NormFace

M, K, N = 11, 9, 300  # lean takes pieces of 80 classes: three whole ones and a rest
POLICIES = {
    "cosface": CosFace(0.35, 30),
    "arcface": ArcFace(0.5, 16),
    "easy": ArcFace(0.5, 16, easy=True),
    "combined": CombinedMargin(1.2, 0.3, 0.1, 10),
    "normface": NormFace(20),
}


def problem(rng, dtype=torch.float64, device="cpu"):
    x, weight = rng.normal(size=(M, K)), rng.normal(size=(N, K))
    label = rng.integers(N, size=M)
    label[3] = label[7]  # a class of two rows
    # Labels at angles all over: without this all are near 90 degrees.
    for i, degrees in enumerate((3, 20, 50, 70, 85, 100, 120, 140, 155, 165, 176)):
        axis = weight[label[i]] / math.sqrt((weight[label[i]] ** 2).sum())
        side = x[i] - x[i] @ axis * axis
        angle = math.radians(degrees)
        x[i] = 3 * (math.cos(angle) * axis + math.sin(angle) * side / math.sqrt((side**2).sum()))
    return (
        torch.tensor(x, dtype=dtype, device=device, requires_grad=True),
        torch.tensor(weight, dtype=dtype, device=device, requires_grad=True),
        torch.tensor(label, device=device),
    )


def policy_logits(x, weight, label, policy, lambda_=0.0):
    """Return the logits by their definition."""
    cosine = F.normalize(x, eps=1e-99) @ F.normalize(weight, eps=1e-99).T
    target = cosine.gather(1, label[:, None])[:, 0]
    theta = torch.acos(target)
    phi = policy.m1 * theta + policy.m2
    if policy.m1 == 1:
        value = torch.where(phi <= math.pi, phi.cos(), target - policy.m2 * math.sin(policy.m2))
    else:
        k = torch.floor(phi.detach() / math.pi)
        value = (-1) ** k * phi.cos() - 2 * k
    if policy.easy:
        value = torch.where(target > 0, value, target)
    value = (value - policy.m3 + lambda_ * target) / (1 + lambda_)
    return policy.scale * cosine.scatter(1, label[:, None], value[:, None])


def assert_same(actual, expected, inputs, **tolerance):
    torch.testing.assert_close(actual, expected, **tolerance)
    cotangent = torch.linspace(-1, 1, actual.numel(), device=actual.device).reshape(actual.shape)
    got = torch.autograd.grad(actual, inputs, cotangent.to(actual.dtype))
    want = torch.autograd.grad(expected, inputs, cotangent.to(expected.dtype))
    for ours, theirs in zip(got, want, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_equal_to_the_layers(margin, gradient, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    logits = sphereface.margin_inner_product(x, weight, label, 1.5, margin, gradient)
    loss = sphereface.margin_softmax_loss(x, weight, label, 1.5, margin, gradient, memory=memory)
    assert_same(loss, F.cross_entropy(logits, label), (x, weight), rtol=1e-11, atol=1e-12)


OPTIONS = {
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "ignored": {"ignore_index": -100},
    "ignored, none": {"ignore_index": -100, "reduction": "none"},
    "smoothed": {"label_smoothing": 0.1},
    "weighted": {"class_weight": True},
    "smoothed, weighted": {"label_smoothing": 0.2, "class_weight": True},
    "all": {"label_smoothing": 0.2, "class_weight": True, "ignore_index": 17, "reduction": "none"},
    "all, mean": {"label_smoothing": 0.2, "class_weight": True, "ignore_index": 17},
    "only smoothing": {"label_smoothing": 1.0},
}


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_cross_entropy(name, gradient, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    options = dict(OPTIONS[name])
    ignored = options.get("ignore_index", -100)
    if "ignore_index" in options:
        label[2] = label[5] = ignored
    if options.pop("class_weight", False):
        options["class_weight"] = torch.tensor(rng.uniform(0.1, 2, N), device=device)
    logits = sphereface.margin_inner_product(x, weight, label, 2.0, 4, gradient, ignored)
    torch_options = {("weight" if k == "class_weight" else k): v for k, v in options.items()}
    expected = F.cross_entropy(logits, label, **torch_options)
    loss = sphereface.margin_softmax_loss(
        x, weight, label, 2.0, 4, gradient, memory=memory, **options
    )
    assert_same(loss, expected, (x, weight), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("lambda_", [None, 0.7])
@pytest.mark.parametrize("name", POLICIES)
def test_policies_against_their_definition(name, lambda_, memory, rng, device):
    policy = POLICIES[name]
    x, weight, label = problem(rng, device=device)
    expected = F.cross_entropy(policy_logits(x, weight, label, policy, lambda_ or 0.0), label)
    loss = sphereface.margin_softmax_loss(x, weight, label, lambda_, policy, memory=memory)
    assert_same(loss, expected, (x, weight), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("family", [0, 1])
def test_gradient_of_the_scale(family, keep, rng, device):
    x, weight, label = problem(rng, device=device)
    scale = torch.tensor(7.0, dtype=x.dtype, device=device, requires_grad=True)
    policy = ASoftmax(4, scale) if family == 0 else CombinedMargin(1.0, 0.5, 0.1, scale)
    losses = sphereface.margin_softmax_loss(
        x, weight, label, margin=policy, gradient="exact", reduction="none",
        memory="fast" if keep else "lean",
    )  # fmt: skip
    if family == 0:
        unit = scale * F.normalize(x)
        logits = sphereface.margin_inner_product(unit, weight, label, 0.0, 4, "exact")
    else:
        logits = scale * policy_logits(x, weight, label, CombinedMargin(1.0, 0.5, 0.1, 1.0))
    expected = F.cross_entropy(logits, label, reduction="none")
    assert_same(losses, expected, (x, weight, scale), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_rows_of_any_length(size, memory, rng, norm_error):
    x, weight, label = problem(rng, torch.float32)
    with torch.no_grad():
        weight[::7] *= size
        x[3] *= size
    policy = CosFace(0.35, 30)
    loss = sphereface.margin_softmax_loss(x, weight, label, margin=policy, memory=memory)
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = F.cross_entropy(policy_logits(*wide, label, policy), label)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-6)
    got = torch.autograd.grad(loss, (x, weight))
    for ours, theirs in zip(got, torch.autograd.grad(expected, wide), strict=True):
        for a, b in zip(ours.double(), theirs, strict=True):
            assert norm_error(a, b) < 1e-4


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("margin", [1, 2, 3, 4, *POLICIES.values()], ids=str)
def test_gradcheck(margin, memory, rng, device):
    x, weight, label = problem(rng, device=device)

    def loss(x, weight):
        return sphereface.margin_softmax_loss(
            x, weight, label, 1.0, margin, "exact", reduction="none", label_smoothing=0.1,
            memory=memory,
        )  # fmt: skip

    # The second backward through a graph computes the logits anew: equal but for rounding.
    assert torch.autograd.gradcheck(
        loss, (x, weight[:, :]), fast_mode=True, atol=1e-5, nondet_tol=1e-12
    )


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1.2e-2)])
def test_lower_precisions(dtype, tolerance, gradient, memory, rng, device, norm_error):
    x, weight, label = problem(rng, dtype, device)
    loss = sphereface.margin_softmax_loss(x, weight, label, 5.0, 4, gradient, memory=memory)
    assert loss.dtype == torch.float32
    wide = [t.detach().double().requires_grad_() for t in (x, weight)]
    logits = sphereface.margin_inner_product(*wide, label, 5.0, 4, gradient)
    expected = F.cross_entropy(logits, label)
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    got = torch.autograd.grad(loss, (x, weight))
    for ours, theirs in zip(got, torch.autograd.grad(expected, wide), strict=True):
        assert ours.dtype == dtype
        assert norm_error(ours.double(), theirs) < tolerance


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("margin", [4, ArcFace(0.5, 16)], ids=str)
def test_stats(margin, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    label[4] = -1
    loss, stats = sphereface.margin_softmax_loss(
        x, weight, label, margin=margin, ignore_index=-1, memory=memory, return_stats=True
    )
    kept = label >= 0
    if margin == 4:
        logits = sphereface.margin_inner_product(x, weight, label, 0.0, 4, "caffe", -1)
        plain = x @ F.normalize(weight).T
    else:
        logits = policy_logits(x, weight, label.where(kept, 0), margin)
        plain = logits.scatter(1, label.where(kept, 0)[:, None], -math.inf)  # the rest is equal
        cosine = F.normalize(x) @ F.normalize(weight).T
        plain = margin.scale * cosine
        logits = torch.where(kept[:, None], logits, plain)
    log_p = F.log_softmax(logits, 1).gather(1, label.where(kept, 0)[:, None])[:, 0]
    torch.testing.assert_close(stats.log_probability[kept], log_p[kept])
    assert stats.log_probability[4].isnan()
    assert torch.equal(stats.prediction, logits.argmax(1))
    assert torch.equal(stats.plain_prediction, plain.argmax(1))
    assert not torch.equal(stats.prediction, stats.plain_prediction)
    cosine = F.cosine_similarity(x, weight[label])
    torch.testing.assert_close(stats.cosine[kept], cosine[kept])
    assert not any(value.requires_grad for value in stats)
    torch.testing.assert_close(loss, -stats.log_probability[kept].mean())


def test_large_logits_do_not_overflow(device):
    x = torch.tensor([[1e4, 0.0], [-1e4, 0.0]], device=device, requires_grad=True)
    weight = torch.eye(2, device=device).requires_grad_()
    loss = sphereface.margin_softmax_loss(
        x, weight, torch.tensor([1, 1], device=device), margin=1, reduction="none"
    )
    assert loss.tolist() == [1e4, 0.0]
    loss.sum().backward()
    assert x.grad.tolist() == [[1.0, -1.0], [0.0, 0.0]]


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_the_number_of_threads(dtype, gradient, memory):
    torch.manual_seed(0)
    x = torch.randn(150, 70).to(dtype).requires_grad_()
    weight = torch.randn(3000, 70).to(dtype).requires_grad_()
    label = torch.randint(3000, (150,))
    seen = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            loss = sphereface.margin_softmax_loss(
                x, weight * 1, label, 5.0, gradient=gradient, memory=memory
            )
            seen.append((loss, *torch.autograd.grad(loss, (x, weight))))
    finally:
        torch.set_num_threads(threads)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_memory_chooses_the_way(rng, monkeypatch):
    x, weight, label = problem(rng, torch.float32)
    for memory, kept in ((None, True), ("fast", True), ("lean", False), (M * N * 4, True),
                         (M * N * 4 - 1, False), (0, False)):  # fmt: skip
        loss = sphereface.margin_softmax_loss(x, weight, label, memory=memory, reduction="none")
        assert (loss.grad_fn.logits.numel() > 0) == kept
    with torch.no_grad():
        assert sphereface.margin_softmax_loss(x, weight, label).grad_fn is None


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_second_backward_through_a_kept_graph(memory, rng, device):
    x, weight, label = problem(rng, device=device)
    loss = sphereface.margin_softmax_loss(x, weight, label, gradient="exact", memory=memory)
    first = torch.autograd.grad(loss, (x, weight), retain_graph=True)
    second = torch.autograd.grad(loss, (x, weight))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_second_derivative_is_refused(rng):
    x, weight, label = problem(rng)
    loss = sphereface.margin_softmax_loss(x, weight, label)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(loss, x, create_graph=True)


def test_only_wanted_gradients(rng):
    x, weight, label = problem(rng)
    frozen = weight.detach()
    expected = torch.autograd.grad(sphereface.margin_softmax_loss(x, weight.clone(), label), x)[0]
    actual = torch.autograd.grad(sphereface.margin_softmax_loss(x, frozen.clone(), label), x)[0]
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one(rows, memory, rng, device):
    x, weight, label = problem(rng, device=device)
    x = x[:rows]
    loss = sphereface.margin_softmax_loss(
        x, weight, label[:rows], gradient="exact", reduction="sum", memory=memory
    )
    expected = sphereface.margin_inner_product(x, weight, label[:rows], 0.0, gradient="exact")
    expected = F.cross_entropy(expected, label[:rows], reduction="sum")
    torch.testing.assert_close(loss, expected)
    got = torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(got, torch.autograd.grad(expected, weight)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction is 'max'"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"memory": "small"}, "memory is 'small'"),
        ({"class_weight": torch.ones(3)}, r"class_weight has shape \(3,\); expected \(300,\)"),
        ({"margin": 0.5}, "margin is 0.5"),
        ({"lambda_": -1.0}, "lambda_ is -1"),
        ({"gradient": "true"}, "gradient is 'true'"),
    ],
)
def test_bad_options_are_named(options, message, rng):
    x, weight, label = problem(rng)
    with pytest.raises(SphereFaceError, match=message):
        sphereface.margin_softmax_loss(x, weight, label, **options)


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_bad_labels_are_named(memory, rng):
    x, weight, label = problem(rng)
    label[6] = N
    with pytest.raises(SphereFaceError, match=r"label\[6\] is 300; expected 0 to 299"):
        sphereface.margin_softmax_loss(x, weight, label, memory=memory)
