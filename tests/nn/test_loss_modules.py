"""What the loss modules do for their users: no labels, wrong labels, options, transforms, repr."""

import pytest
import torch
import torch.nn.functional as F

import sphereface
from sphereface import SphereFaceError
from sphereface.margin_policy import CosFace
from sphereface.nn import (
    AngularTriplet,
    ArcFaceLoss,
    ASoftmaxLoss,
    COCOLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    L2SoftmaxLoss,
    LSoftmaxLoss,
    MarginInnerProduct,
    MarginLoss,
    NormFaceLoss,
    SphereFace2Loss,
    SphereFaceRLoss,
)

K, N, M = 8, 6, 5
LOSSES = (ArcFaceLoss, ASoftmaxLoss, COCOLoss, CombinedMarginLoss, CosFaceLoss, L2SoftmaxLoss,
          LSoftmaxLoss, NormFaceLoss, SphereFace2Loss, SphereFaceRLoss)  # fmt: skip
HEADS = (*LOSSES, MarginInnerProduct, AngularTriplet)


def batch():
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(M, K, generator=draw, dtype=torch.float64)
    return x, torch.randint(N, (M,), generator=draw)


def margin_free(module, x):
    """Return the logits without a margin, by definition."""
    cosine = F.normalize(x) @ F.normalize(module.weight).T
    if isinstance(module, SphereFace2Loss):
        return 30 * (2 * ((cosine + 1) / 2) ** 3 - 1) + module.bias
    if isinstance(module, L2SoftmaxLoss):
        return 16 * F.normalize(x) @ module.weight.T + module.bias
    if isinstance(module, LSoftmaxLoss):
        return x @ module.weight.T
    if isinstance(module, ASoftmaxLoss):
        return x.norm(dim=1, keepdim=True) * cosine
    return cosine * {NormFaceLoss: 20, COCOLoss: 30, SphereFaceRLoss: 30}.get(type(module), 64)


@pytest.mark.parametrize("make", LOSSES)
def test_evaluation_without_labels_gives_logits_without_a_margin(make):
    module = make(K, N, dtype=torch.float64)
    for value in vars(module)["_parameters"].values():
        if value is not None:
            torch.nn.init.normal_(value)
    x, label = batch()
    with pytest.raises(SphereFaceError, match=f"{make.__name__}: no label in training .* eval()"):
        module(x)
    module.eval()
    raw = module.weight.detach().clone()
    logits = module(x)
    torch.testing.assert_close(logits, margin_free(module, x))
    assert torch.equal(module.weight, raw)
    _, stats = sphereface.margin_softmax_loss(
        x, module.weight, label, margin=module.policy, gradient="exact", return_stats=True
    )
    assert torch.equal(stats.plain_prediction, logits.argmax(1))


@pytest.mark.parametrize("make", HEADS)
def test_wrong_inputs_are_told_as_such(make):
    module = make(K, N, dtype=torch.float64)
    x, label = batch()
    one_hot = r"label has shape \(5, 6\); expected \(5,\), .* one-hot: pass label.argmax\(-?1\)"
    for wrong in (F.one_hot(label, N), F.one_hot(label, N).float()):
        with pytest.raises((SphereFaceError, RuntimeError), match=one_hot):
            module(x, wrong)
    for dtype in (torch.float32, torch.bool):
        kind = str(dtype).removeprefix("torch.")
        text = f"label has dtype {kind}; expected int64, int32, int16, int8 or uint8"
        with pytest.raises(RuntimeError, match=text):
            module(x, label.to(dtype))
    with pytest.raises(SphereFaceError, match=rf"{make.__name__}: x has shape \(5, 9\); .*8"):
        module(torch.ones(5, 9), label)
    module.eval()
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8):
        assert torch.equal(module(x, label.to(dtype)), module(x, label))


@pytest.mark.parametrize("make", HEADS)
def test_transforms_are_refused_by_name(make):
    module = make(K, N, dtype=torch.float64)
    x, label = batch()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    ones, weights = torch.ones_like(x), dict(module.named_parameters())

    def of_weights(weights):
        return torch.func.functional_call(module, weights, (x, label)).sum()

    detached = {name: value.detach() for name, value in weights.items()}
    for run, told in (
        (lambda: torch.func.grad(lambda x: module(x, label).sum())(x), "torch.func's grad"),
        (lambda: torch.func.grad(of_weights)(detached), "torch.func's grad"),
        (lambda: torch.func.jacrev(lambda x: module(x, label))(x), "torch.func's grad"),
        (lambda: torch.func.jvp(lambda x: module(x, label), (x,), (ones,)), "no forward-mode"),
        (lambda: torch.func.jvp(of_weights, (detached,), (detached,)), "no forward-mode"),
        (lambda: torch.vmap(lambda x, y: module(x[None], y[None]))(x, label), "torch.vmap"),
    ):
        with pytest.raises(RuntimeError, match=f"{make.__name__} .*{told}"):
            run()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_tangent_of_a_scale_or_a_bias_is_not_dropped():
    x, label = batch()
    weight = torch.eye(N, K, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)

    def of_scale(scale):
        return sphereface.margin_softmax_loss(x, weight, label, margin=CosFace(0.2, scale))

    with pytest.raises(RuntimeError, match="margin_softmax_loss has no forward-mode"):
        torch.func.jvp(of_scale, (one * 9,), (one,))


def test_functional_call_takes_other_weights():
    module = CosFaceLoss(K, N, dtype=torch.float64)
    x, label = batch()
    weight = torch.randn(N, K, dtype=torch.float64, requires_grad=True)
    loss = torch.func.functional_call(module, {"weight": weight}, (x, label))
    cosine = F.normalize(x) @ F.normalize(weight).T
    expected = F.cross_entropy(64 * (cosine - 0.35 * F.one_hot(label, N)), label)
    torch.testing.assert_close(loss, expected)
    got, want = (torch.autograd.grad(value, weight)[0] for value in (loss, expected))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (CosFaceLoss, {"reduction": "avg"}, "reduction is 'avg'"),
        (ASoftmaxLoss, {"memory": "slow"}, "memory is 'slow'"),
        (ArcFaceLoss, {"label_smoothing": 2}, "label_smoothing is 2"),
        (LSoftmaxLoss, {"class_weight": torch.ones(4)}, r"class_weight has shape \(4,\)"),
        (CosFaceLoss, {"reducton": "sum"}, "unknown option 'reducton'.*did you mean"),
        (CosFaceLoss, {"s": 30}, "CosFaceLoss: unknown option 's'.*here it is scale"),
        (ASoftmaxLoss, {"m": 2}, "ASoftmaxLoss: unknown option 'm'.*here it is margin"),
        (ArcFaceLoss, {"easy_margin": True}, "here it is easy"),
        (ArcFaceLoss, {"class_weight": [1.0] * N}, "class_weight is of type list"),
        (ArcFaceLoss, {"label_smoothing": "0.1"}, "label_smoothing is '0.1'"),
        (SphereFace2Loss, {"label_smoothing": 0.1}, "neither, for each class has a loss of its"),
        (SphereFace2Loss, {"class_weight": torch.ones(N)}, "neither, for each class has a loss"),
    ],
)
def test_loss_options_are_checked_when_the_module_is_made(make, options, message):
    with pytest.raises(SphereFaceError, match=message):
        make(K, N, **options)


@pytest.mark.parametrize("make", [CosFaceLoss, ASoftmaxLoss, MarginInnerProduct])
def test_what_is_no_tensor_is_told_by_name(make):
    head, x, label = make(K, N), torch.randn(3, K), torch.tensor([0, 1, 2])
    with pytest.raises(SphereFaceError, match=r"x is of type ndarray; .*torch.as_tensor\(x\)"):
        head(x.numpy(), label)
    with pytest.raises(SphereFaceError, match=r"label is of type list; .*torch.as_tensor\(label"):
        head(x, [0, 1, 2])


@pytest.mark.parametrize("margin", [CosFace, "cosface", 0.35])
def test_a_margin_that_is_no_member_says_what_is_one(margin):
    x, weight, label = torch.randn(3, K), torch.randn(N, K), torch.tensor([0, 1, 2])
    with pytest.raises(SphereFaceError, match=r"loss: margin is .*as in margin_policy.CosFace\("):
        sphereface.margin_softmax_loss(x, weight, label, margin=margin)
    with pytest.raises(SphereFaceError, match="MarginLoss: margin is"):
        MarginLoss(K, N, margin)


def test_columns_of_labels_say_what_to_do():
    with pytest.raises(RuntimeError, match=r"\(3, 1\); expected \(3,\).*label.squeeze\(1\)"):
        CosFaceLoss(K, N)(torch.randn(3, K), torch.tensor([[0], [1], [2]]))


@pytest.mark.parametrize("make", [CosFaceLoss, ASoftmaxLoss, SphereFaceRLoss, SphereFace2Loss])
def test_modules_return_what_they_have_seen(make):
    loss, x, label = make(K, N), torch.randn(3, K), torch.tensor([0, 1, 2])
    if make is SphereFaceRLoss:
        loss = make(K, N, feature_norm="soft")
    stats = loss(x, label, return_stats=True)[1]
    torch.testing.assert_close(stats.cosine, F.cosine_similarity(x, loss.weight.detach()[:3]))
    assert stats.prediction.shape == stats.plain_prediction.shape == (3,)
    loss.eval()  # lambda stays
    same, _ = loss(x, label, return_stats=True)
    torch.testing.assert_close(loss(x, label), same)


def test_what_has_no_learned_scale_says_why():
    with pytest.raises(SphereFaceError, match="SphereFace2: learn_scale; expected a fixed scale"):
        SphereFace2Loss(K, N, learn_scale=True)
    with pytest.raises(SphereFaceError, match="learn_scale with scale None"):
        SphereFaceRLoss(K, N, feature_norm="none", learn_scale=True)
    with pytest.raises(SphereFaceError, match="CombinedMargin: bias; expected none"):
        MarginLoss(K, N, CosFace(), bias=torch.zeros(N))


def test_class_weights_move_with_the_module_and_are_not_saved():
    weights = torch.rand(N)
    module = CosFaceLoss(K, N, class_weight=weights)
    assert set(module.state_dict()) == {"weight"}
    assert dict(module.named_buffers())["class_weight"].equal(weights)
    assert module.to("meta").class_weight.device.type == "meta"


def test_repr_shows_the_options():
    soft = {"reduction": "sum", "label_smoothing": 0.1, "memory": "lean"}
    shown = repr(ASoftmaxLoss(K, N, 3, 1000, 0.12, lambda_min=5, scale=9, learn_scale=True))
    assert shown == (
        "ASoftmaxLoss(in_features=8, num_classes=6, margin=3, base=1000, gamma=0.12, power=1, "
        "lambda_min=5, scale=9, learn_scale=True, gradient='caffe')"
    )
    shown = repr(CosFaceLoss(K, N, 0.4, 30, ignore_index=-1, **soft))
    assert "m3=0.4, scale=30" in shown
    assert shown.endswith("ignore_index=-1, reduction='sum', label_smoothing=0.1, memory='lean')")
    shown = repr(SphereFaceRLoss(K, N, feature_norm="soft", gradient="exact"))
    assert "gradient='exact', feature_norm='soft', soft_weight=0.006" in shown
    shown = repr(AngularTriplet(K, N, semihard=True))
    assert "triplet=True, semihard=True" in shown
