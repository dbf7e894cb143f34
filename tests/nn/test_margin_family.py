"""The loss modules of the family against their definitions in float64, written here."""

import math

import pytest
import torch
import torch.nn.functional as F

import sphereface
from sphereface import SphereFaceError
from sphereface.margin_policy import SphereFace2, SphereFaceR
from sphereface.nn import (
    AngularTriplet,
    ASoftmaxLoss,
    COCOLoss,
    CosFaceLoss,
    HypersphericalEnergy,
    L2SoftmaxLoss,
    LSoftmaxLoss,
    MarginInnerProduct,
    MarginLoss,
    NormFaceLoss,
    SphereFace2Loss,
    SphereFaceRLoss,
)
from sphereface.ops import angular_triplet_logits

K, N, M = 12, 40, 16
DOUBLE = {"dtype": torch.float64}


def batch(device="cpu"):
    x = torch.randn(M, K, dtype=torch.float64, device=device, requires_grad=True)
    return x, torch.randint(N, (M,), device=device)


def assert_same(loss, expected, inputs):
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    got, want = (torch.autograd.grad(value, inputs) for value in (loss, expected))
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-12)
    assert min(gradient.abs().max() for gradient in want) > 1e-4


def test_coco_and_a_learned_concentration(device):
    x, label = batch(device)
    for module in (COCOLoss(K, N, 25, device=device, **DOUBLE),
                   NormFaceLoss(K, N, 18, learn_scale=True, device=device, **DOUBLE)):  # fmt: skip
        scale = 25 if module.scale is None else module.scale
        cosine = F.normalize(x) @ F.normalize(module.weight).T
        inputs = (x, *module.parameters())
        torch.testing.assert_close(module(x, label), F.cross_entropy(scale * cosine, label))
        expected = F.cross_entropy(scale * cosine, label)
        for ours, theirs in zip(torch.autograd.grad(module(x, label), inputs),
                                torch.autograd.grad(expected, inputs), strict=True):  # fmt: skip
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
    assert set(module.state_dict()) == {"weight", "scale"}
    assert module.scale.item() == 18


@pytest.mark.parametrize("bias", [True, False])
def test_l2_softmax(bias, device):
    x, label = batch(device)
    module = L2SoftmaxLoss(K, N, 9, bias, device=device, **DOUBLE)
    if bias:
        torch.nn.init.normal_(module.bias)
    expected = F.cross_entropy(F.linear(9 * F.normalize(x), module.weight, module.bias), label)
    assert_same(module(x, label), expected, (x, *module.parameters()))


@pytest.mark.parametrize("margin", [1, 2, 4])
def test_l_softmax(margin, device):
    x, label = batch(device)
    module = LSoftmaxLoss(K, N, margin, base=3, device=device, **DOUBLE)
    logits = x @ module.weight.T
    target = logits.gather(1, label[:, None])[:, 0]
    length = x.norm(dim=1) * module.weight[label].norm(dim=1)
    theta = (target / length).acos()
    k = torch.floor(margin * theta.detach() / math.pi)
    bent = length * ((-1) ** k * (margin * theta).cos() - 2 * k)
    expected = F.cross_entropy(
        logits.scatter(1, label[:, None], ((bent + 3 * target) / 4)[:, None]), label
    )
    raw = module.weight.detach().clone()
    assert_same(module(x, label), expected, (x, module.weight))
    assert torch.equal(module.weight, raw)
    assert module.iteration.item() == 1
    assert module.lambda_.item() == 3


def test_a_softmax_with_a_learned_scale(device):
    x, label = batch(device)
    module = ASoftmaxLoss(
        K, N, 3, base=2, gradient="exact", scale=11, learn_scale=True, device=device, **DOUBLE
    )
    plain = ASoftmaxLoss(K, N, 3, base=2, gradient="exact", device=device, **DOUBLE)
    plain.load_state_dict({n: v for n, v in module.state_dict().items() if n != "scale"})
    expected = plain(module.scale * F.normalize(x), label)
    torch.testing.assert_close(module(x, label), expected)
    inputs = (x, module.scale)
    got, want = (
        torch.autograd.grad(loss, inputs)
        for loss in (module(x, label), plain(module.scale * F.normalize(x), label))
    )
    torch.testing.assert_close(got, want)
    assert want[1].abs() > 1e-4
    assert module.scale.item() == 11
    with pytest.raises(SphereFaceError, match="learn_scale with scale None; expected a number"):
        ASoftmaxLoss(K, N, learn_scale=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("feature_norm", ["hard", "soft", "none"])
def test_sphereface_r(feature_norm, reduction, device):
    x, label = batch(device)
    label[2] = -1
    module = SphereFaceRLoss(
        K, N, 1.5, 6.0, feature_norm, 0.25, ignore_index=-1, device=device,
        reduction=reduction, **DOUBLE,
    )  # fmt: skip
    unit = F.normalize(module.weight).detach().requires_grad_()
    known = label.clamp_min(0)
    cosine = F.normalize(x) @ unit.T
    with torch.no_grad():
        phi = 1.5 * cosine.gather(1, known[:, None]).acos()
        k = (phi / math.pi).floor()
        bent = cosine.scatter(1, known[:, None], (-1) ** k * phi.cos() - 2 * k)
        difference = bent - cosine
    length = 6.0 if feature_norm == "hard" else x.norm(dim=1, keepdim=True)
    losses = F.cross_entropy(length * (cosine + difference), label, ignore_index=-1,
                             reduction="none")  # fmt: skip
    if feature_norm == "soft":
        losses = losses + 0.25 * (x.norm(dim=1) - 6).abs() * (label >= 0)
    expected = {"mean": losses.sum() / (M - 1), "sum": losses.sum(), "none": losses}[reduction]
    loss = module(x, label)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(module.weight, unit)  # in place, as the authors' port
    got = torch.autograd.grad(loss.sum(), (x, module.weight))
    want = torch.autograd.grad(expected.sum(), (x, unit))
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-12)


def test_sphereface2(device):
    x, label = batch(device)
    module = SphereFace2Loss(K, N, gradient="exact", device=device, **DOUBLE)
    assert module.bias.item() == pytest.approx(SphereFace2().initial_bias(N))
    cosine = F.normalize(x) @ F.normalize(module.weight).T
    hot = F.one_hot(label, N).double()
    with torch.no_grad():
        difference = 2 * ((cosine + 1) / 2) ** 3 - 1 - 0.4 * (2 * hot - 1) - cosine
    # As in the authors' port, whose mean over M x N entries has the factor N / r.
    weights = (0.7 * hot + 0.3 * (1 - hot)) * N / 30
    logits = 30 * (cosine + difference) + module.bias
    expected = F.binary_cross_entropy_with_logits(logits, hot, weights)
    assert_same(module(x, label), expected, (x, *module.parameters()))
    assert set(module.state_dict()) == {"weight", "bias"}
    with torch.no_grad():
        module.bias.zero_()
    module.reset_parameters()
    assert module.bias.item() == pytest.approx(SphereFace2().initial_bias(N))


def test_what_a_loss_has_seen(device):
    x, label = batch(device)
    label[3] = -1
    module = CosFaceLoss(K, N, ignore_index=-1, device=device, **DOUBLE)
    module(x, label)
    kept = label >= 0
    expected = F.cosine_similarity(x[kept], module.weight[label[kept]]).mean()
    assert module.target_cosine.item() == pytest.approx(expected.item(), rel=1e-6)
    assert module.x_norm.item() == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-6)
    assert module.target_cosine.device.type == device
    assert set(module.state_dict()) == {"weight"}


def test_evaluation_leaves_the_weight():
    x, label = batch()
    module = SphereFaceRLoss(K, N, **DOUBLE).eval()
    raw = module.weight.detach().clone()
    loss = module(x, label)
    assert torch.equal(module.weight, raw)
    module.train()
    torch.testing.assert_close(module(x, label), loss)
    assert not torch.equal(module.weight, raw)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (SphereFace2Loss, {"gradient": "exact"}),
        (L2SoftmaxLoss, {"learn_scale": True, "scale": 8.0}),
        (LSoftmaxLoss, {"learn_scale": True, "scale": 8.0}),
    ],
)
def test_compiles_without_graph_breaks(make, options):
    x, label = batch()
    module = make(K, N, **options, **DOUBLE)
    expected = module(x, label)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, label), expected)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_hyperspherical_energy(power, device):
    weight = torch.randn(9, 4, dtype=torch.float64, device=device, requires_grad=True)
    unit = F.normalize(weight)
    total = 0
    for i in range(9):
        for j in range(9):
            if i != j:
                distance = (unit[i] - unit[j]).norm()
                total = total + (-distance.log() if power == 0 else distance**-power)
    energy = HypersphericalEnergy(power)(weight)
    assert_same(energy, total / (9 * 8), weight)
    label = torch.tensor([4, 7, 4], device=device)
    unit = F.normalize(weight)
    part = sum(
        -(unit[i] - unit[j]).norm().log() if power == 0 else (unit[i] - unit[j]).norm() ** -power
        for i in (4, 7, 4) for j in range(9) if i != j
    )  # fmt: skip
    assert_same(HypersphericalEnergy(power)(weight, label), part / (3 * 8), weight)


def test_energy_in_pieces_and_of_equal_rows(monkeypatch):
    weight = torch.randn(30, 5, requires_grad=True)
    whole = HypersphericalEnergy()(weight)
    want = torch.autograd.grad(whole, weight)[0]
    monkeypatch.setattr("sphereface.nn.hyperspherical_energy._PIECE", 100)
    pieces = HypersphericalEnergy()(weight)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(torch.autograd.grad(pieces, weight)[0], want)
    same = torch.ones(3, 4, requires_grad=True)
    assert torch.autograd.grad(HypersphericalEnergy()(same), same)[0].isfinite().all()


def triplet_problem():
    torch.manual_seed(3)
    weight = F.normalize(torch.randn(N, K, **DOUBLE)).requires_grad_()
    label = torch.arange(M) % 10
    x = (weight[label].detach() + 0.6 * torch.randn(M, K, **DOUBLE)).requires_grad_()
    return x, weight, label


def test_semihard_rows_have_no_gradient_of_x():
    x, weight, label = triplet_problem()
    logits = angular_triplet_logits(x, weight, label, 0.0, 4, semihard=True)
    expected = sphereface.margin_inner_product(x, weight, label, 0.0, 4)
    assert torch.equal(logits, expected)
    cotangent = torch.randn_like(logits)
    got = torch.autograd.grad(logits, (x, weight), cotangent)
    want = torch.autograd.grad(expected, (x, weight), cotangent)
    plain = x @ weight.T
    kept = (expected.argmax(1) != label) & (plain.argmax(1) == label)
    assert 0 < kept.sum() < M
    torch.testing.assert_close(got[0], want[0] * kept[:, None])
    torch.testing.assert_close(got[1], want[1])


def test_triplet_writes_rows_into_the_weight():
    x, weight, label = triplet_problem()
    before = weight.detach().clone()
    logits = angular_triplet_logits(x, weight, label, 0.0, 4, triplet=True)
    dx, dweight = torch.autograd.grad(logits.sum(), (x, weight))
    assert dweight.abs().max() == 0
    assert dx.abs().max() > 0.1
    written = (weight != before).any(1)
    assert 0 < written.sum() < 10
    for class_ in written.nonzero()[:, 0].tolist():
        assert any(torch.equal(weight[class_], row) for row in x[label == class_])
    counts = 0
    for _ in range(200):
        with torch.no_grad():
            weight.copy_(before)
        logits = angular_triplet_logits(x[:1], weight, label[:1], 0.0, 4, triplet=True)
        torch.autograd.grad(logits.sum(), weight)
        counts += int((weight[label[0]] != before[label[0]]).any())
    assert 60 < counts < 140  # 100 +- 6 standard deviations


def test_angular_triplet_module():
    x, _, label = triplet_problem()
    module = AngularTriplet(K, N, base=10, triplet=False, semihard=True, **DOUBLE)
    head = MarginInnerProduct(K, N, base=10, **DOUBLE)
    head.load_state_dict(module.state_dict())
    assert torch.equal(module(x, label), head(x, label))
    assert torch.equal(module.eval()(x), head.eval()(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SphereFaceRLoss(3, 3, feature_norm="firm"), "feature_norm is 'firm'"),
        (lambda: SphereFaceRLoss(3, 3, 0.9), "m is 0.9"),
        (lambda: SphereFaceRLoss(3, 3, gradient="true"), "gradient is 'true'"),
        (lambda: SphereFaceRLoss(3, 3, feature_norm="none", learn_scale=True), "learn_scale with"),
        (lambda: MarginLoss(3, 3, SphereFace2(), learn_scale=True), "SphereFace2: learn_scale"),
        (lambda: MarginLoss(3, 3, SphereFaceR(scale=-1)), "scale is -1"),
        (lambda: SphereFace2Loss(3, 1), "1 classes and alpha 0.7"),
        (lambda: LSoftmaxLoss(3, 3, 0), "margin is 0"),
        (lambda: HypersphericalEnergy()(torch.ones(1, 2)), "1 classes and power 2.0"),
        (lambda: HypersphericalEnergy(-1)(torch.ones(2, 2)), "2 classes and power -1"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(SphereFaceError, match=message):
        make()


@pytest.mark.parametrize("module", [CosFaceLoss, ASoftmaxLoss])
@pytest.mark.parametrize("name", ["marign", "reducton"])
def test_an_option_that_the_loss_does_not_take_is_refused_when_it_is_made(module, name):
    with pytest.raises(SphereFaceError, match=f"unknown option '{name}'.*reduction"):
        module(K, N, **{name: 0})
