"""Rounded operands of the products, against float32 within what rounding them makes."""

import pytest
import torch
import torch.nn.functional as F

import sphereface
from margin_samples import sample
from sphereface import SphereFaceError
from sphereface.margin_policy import ArcFace, ASoftmax, CosFace, L2Softmax, SphereFace2, SphereFaceR
from sphereface.nn import AngularTriplet, CosFaceLoss, MarginInnerProduct

# bfloat16 keeps 8 bits: an operand, a logit and a gradient are each up to 2^-9 off.
HALF_ULP = 2.0**-9
MEMBERS = [4, 1.5, ASoftmax(3, 20.0), SphereFaceR(), CosFace(0.35, 30), ArcFace(0.5, 30),
           L2Softmax(16.0), SphereFace2()]  # fmt: skip


def gradients(loss, x, weight):
    return (loss.detach(), *torch.autograd.grad(loss, (x, weight)))


def leaves(rng, device, rows=40, features=64, classes=150):
    x, weight, label, _ = sample(rng, rows, features, classes, torch.float32, device)
    return x.requires_grad_(), weight.requires_grad_(), label


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("margin", MEMBERS, ids=str)
def test_loss_under_autocast(margin, gradient, memory, rng, device, norm_error):
    x, weight, label = leaves(rng, device)
    results = []
    for products in ("autocast", None):
        with torch.autocast(device, torch.bfloat16):
            loss = sphereface.margin_softmax_loss(
                x, weight, label, 5.0, margin, gradient, memory=memory, products=products
            )
        results.append(gradients(loss, x, weight))
    low, full = results
    assert all(t.dtype == torch.float32 for t in low)
    assert low[0].item() == pytest.approx(full[0].item(), rel=4 * HALF_ULP)
    # The logits of length |s| are up to s / 2^9 off, and p with them.
    scale = getattr(margin, "scale", None) or x.detach().norm(dim=1).max().item()
    for ours, expected in zip(low[1:], full[1:], strict=True):
        error = norm_error(ours, expected)
        assert 1e-5 < error < (4 + scale / 4) * HALF_ULP


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_logits_under_autocast(gradient, rng, device, norm_error):
    x, weight, label = leaves(rng, device)
    grad = torch.randn(40, 150, device=device)
    results = []
    for products in ("autocast", torch.bfloat16, None):
        with torch.autocast(device, torch.bfloat16, enabled=products != torch.bfloat16):
            y = sphereface.margin_inner_product(
                x, weight, label, 5.0, 4, gradient, products=products
            )
        assert y.dtype == (torch.float32 if products is None else torch.bfloat16)
        results.append((y.detach(), *torch.autograd.grad(y, (x, weight), grad.to(y.dtype))))
    for ours, same, expected in zip(*results, strict=True):
        assert torch.equal(ours, same)
        assert 1e-5 < norm_error(ours.float(), expected) < 3 * HALF_ULP


def test_only_the_products_are_rounded(rng, device):
    # The label's logit is made in float64 of the rounded operands, and lse of rounded logits.
    x, weight, label = leaves(rng, device)
    _, stats = sphereface.margin_softmax_loss(
        x, weight, label, margin=CosFace(0.35, 30), return_stats=True, products=torch.bfloat16
    )
    rounded = [t.detach().bfloat16().double() for t in (x, weight)]
    torch.testing.assert_close(
        stats.cosine.double(), F.cosine_similarity(rounded[0], rounded[1][label]), rtol=1e-2,
        atol=1e-6 if device == "cpu" else 1e-2,
    )  # fmt: skip


@pytest.mark.parametrize("make", [MarginInnerProduct, AngularTriplet])
def test_the_head_takes_what_the_operator_takes(make, rng, device):
    x, weight, label = leaves(rng, device)
    head = make(64, 150, 4, gradient="caffe", products="autocast", memory="lean", device=device)
    assert "memory='lean', products=autocast" in repr(head)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.iteration.fill_(4)
    lambda_ = head.annealing.at(5)
    with torch.autocast(device, torch.bfloat16):
        ours = head(x, label)
        expected = sphereface.margin_inner_product(
            x, weight, label, lambda_, 4, products=torch.bfloat16
        )
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, expected)
    with pytest.raises(SphereFaceError, match="memory is 'slim'"):
        make(64, 150, memory="slim")
    with pytest.raises(SphereFaceError, match="products is 'bf16'"):
        make(64, 150, products="bf16")


def test_in_place_normalisation_is_that_of_the_weight(rng, device):
    x, weight, label = leaves(rng, device)
    expected = F.normalize(weight.detach())
    sphereface.margin_softmax_loss(x, weight, label, products=torch.bfloat16)
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.detach(), expected)


def test_autocast_that_is_off_or_of_float64_changes_nothing(rng, device):
    x, weight, label = leaves(rng, device)
    plain = sphereface.margin_softmax_loss(x, weight, label)
    assert torch.equal(sphereface.margin_softmax_loss(x, weight, label, products="autocast"), plain)
    wide = [t.detach().double() for t in (x, weight)]
    with torch.autocast(device, torch.bfloat16):
        loss = sphereface.margin_softmax_loss(*wide, label, products="autocast")
    assert loss.dtype == torch.float64


def test_without_it_autocast_runs_in_float32(rng, device):
    x, weight, label = leaves(rng, device)
    with torch.autocast(device, torch.bfloat16):
        loss = sphereface.margin_softmax_loss(x.bfloat16(), weight, label, 5.0)
        logits = sphereface.margin_inner_product(x.bfloat16(), weight, label, 5.0)
    rounded = x.bfloat16().float()
    assert loss.dtype == logits.dtype == torch.float32
    assert torch.equal(loss, sphereface.margin_softmax_loss(rounded, weight, label, 5.0))
    assert torch.equal(logits, sphereface.margin_inner_product(rounded, weight, label, 5.0))


def test_modules_take_it(rng, device):
    x, weight, label = leaves(rng, device)
    head = CosFaceLoss(64, 150, device=device, products=torch.bfloat16)
    with torch.no_grad():
        head.weight.copy_(weight)
    expected = sphereface.margin_softmax_loss(
        x, weight, label, margin=CosFace(), products=torch.bfloat16
    )
    assert torch.equal(head(x, label), expected)


@pytest.mark.parametrize("products", ["bf16", torch.int8, 16, True])
@pytest.mark.parametrize("name", ["margin_softmax_loss", "margin_inner_product"])
def test_unknown_products_are_named(name, products, rng):
    x, weight, label = leaves(rng, "cpu")
    with pytest.raises(SphereFaceError, match=f"products is {products!r}; expected torch.bfloat16"):
        getattr(sphereface, name)(x, weight, label, 5.0, products=products)


def test_float16_is_not_for_the_cpu(rng):
    x, weight, label = leaves(rng, "cpu")
    with pytest.raises(RuntimeError, match="x has dtype float16; on the CPU expected float32"):
        sphereface.margin_softmax_loss(x, weight, label, products=torch.float16)
