import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sphereface
from margin_samples import run, sample
from reference import a_softmax
from reference.margin_goldens import FILES, read
from sphereface import SphereFaceError
from sphereface.ops import normalize_rows_

MARGINS = [1, 2, 3, 4]
LAMBDAS = [0.0, 0.75, 5.0, 1000.0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_recording_of_the_original(path, device, norm_error):
    g = read(path)
    x, weight, grad = (torch.tensor(a, device=device) for a in (g.x, g.weight, g.grad))
    label = torch.tensor(g.label, device=device)
    y, dx, dweight, after = run(x, weight, label, grad, float(g.lambda_[0]), g.type, "caffe")
    assert norm_error(y, g.y) < 2e-6
    assert norm_error(after, g.weight_after) < 2e-6
    assert norm_error(dx, g.dx) < 2e-6
    assert norm_error(dweight, g.dweight) < 2e-6


@pytest.mark.parametrize("lambda_", LAMBDAS)
@pytest.mark.parametrize("margin", MARGINS)
def test_float64_reference(margin, lambda_, rng, device, norm_error):
    x, weight, label, grad = sample(rng, rows=40, device=device)
    arrays = [t.cpu().numpy() for t in (grad, x, weight, label)]
    expected = a_softmax.forward(*arrays[1:], lambda_, margin)
    for gradient, backward in (
        ("caffe", a_softmax.caffe_backward),
        ("exact", a_softmax.exact_backward),
    ):
        y, dx, dweight, after = run(x, weight, label, grad, lambda_, margin, gradient)
        dx_expected, dweight_expected = backward(*arrays, lambda_, margin)
        assert norm_error(y, expected) < 1e-13
        assert norm_error(dx, dx_expected) < 1e-11
        assert norm_error(dweight, dweight_expected) < 1e-11
        raw = weight.cpu().numpy()
        kept = a_softmax.unit_rows(raw) if gradient == "caffe" else raw
        assert norm_error(after, kept) < 1e-15


@pytest.mark.parametrize("lambda_", LAMBDAS)
@pytest.mark.parametrize("margin", MARGINS)
def test_exact_gradient_passes_gradcheck(margin, lambda_, rng, device):
    x, weight, label, _ = sample(rng, device=device)
    x.requires_grad_()
    weight.requires_grad_()

    def f(x, weight):
        return sphereface.margin_inner_product(x, weight, label, lambda_, margin, "exact")

    assert torch.autograd.gradcheck(f, (x, weight))


@pytest.mark.parametrize("margin", [2, 3, 4])
def test_at_the_knots_both_sides_agree(margin, device, norm_error):
    # theta exactly at, and just beside, every k pi / m: value and gradient are continuous there.
    knots = np.pi / margin * np.arange(1, margin)
    grad = torch.ones(len(knots), 1, dtype=torch.float64, device=device)
    weight = torch.tensor([[2.0, 0.0]], dtype=torch.float64, device=device)
    label = torch.zeros(len(knots), dtype=torch.int64, device=device)
    results = []
    for shift in (-1e-9, 0.0, 1e-9):
        theta = knots + shift
        x = 3 * np.stack([np.cos(theta), np.sin(theta)], axis=1)
        x = torch.tensor(x, device=device)
        results.append(run(x, weight, label, grad, 0.5, margin, "exact"))
    expected = (3 * (-1.0 - 2 * np.arange(margin - 1)) + 0.5 * 3 * np.cos(knots)) / 1.5
    for y, dx, dweight, _ in results:
        assert norm_error(y[:, 0], expected) < 1e-8
        assert norm_error(dx, results[1][1]) < 1e-7
        assert norm_error(dweight, results[1][2]) < 1e-7


def test_caffe_gradient_is_not_the_gradient(rng):
    x, weight, label, _ = sample(rng)
    x.requires_grad_()

    def f(x):
        return sphereface.margin_inner_product(x, weight.clone(), label, 0.0, 4, "caffe")

    assert not torch.autograd.gradcheck(f, x, raise_exception=False)


# A product that sums in sequence, as a GPU's may, is 7e-7 off at this shape.
BOUNDS = {
    ("cpu", torch.float32): 3e-7,
    ("cuda", torch.float32): 1e-6,
    ("cpu", torch.bfloat16): 8e-3,
    ("cuda", torch.bfloat16): 8e-3,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_lower_precisions(gradient, dtype, rng, device, norm_error):
    bound = BOUNDS[device, dtype]
    tensors = sample(rng, rows=24, features=200, classes=1500, dtype=dtype, device=device)
    x, weight, label, grad = tensors
    y, dx, dweight, _ = run(x, weight, label, grad, 2.0, 4, gradient)
    wide = [t.double() if t.is_floating_point() else t for t in tensors]
    expected = run(*wide, 2.0, 4, gradient)
    assert norm_error(y.double(), expected[0]) < bound
    assert norm_error(dx.double(), expected[1]) < bound
    assert norm_error(dweight.double(), expected[2]) < bound


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_pieces_of_the_weight_do_not_show(gradient, rng, norm_error):
    # 4 MiB of float64 rows a piece: 5000 x 256 makes three of them.
    x, weight, label, grad = sample(rng, rows=12, features=256, classes=5000)
    arrays = [t.numpy() for t in (grad, x, weight, label)]
    backward = a_softmax.caffe_backward if gradient == "caffe" else a_softmax.exact_backward
    y, dx, dweight, _ = run(x, weight, label, grad, 5.0, 4, gradient)
    assert norm_error(y, a_softmax.forward(*arrays[1:], 5.0, 4)) < 1e-13
    for ours, expected in zip((dx, dweight), backward(*arrays, 5.0, 4), strict=True):
        assert norm_error(ours, expected) < 1e-12


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_layout_of_the_arguments_does_not_matter(gradient, rng, device):
    x, weight, label, grad = sample(rng, device=device)
    expected = run(x, weight, label, grad, 5.0, 4, gradient)
    wide = torch.cat([x, x], dim=1)[:, : x.shape[1]]
    transposed = x.t().contiguous().t()
    every_second = torch.stack([label, label], dim=1)[:, 0]
    strided_grad = grad.t().contiguous().t()
    for x_view in (wide, transposed):
        y = sphereface.margin_inner_product(
            x_view.detach().requires_grad_(), weight.clone(), every_second, 5.0, 4, gradient
        )
        torch.testing.assert_close(y.detach(), expected[0], rtol=1e-14, atol=1e-14)
    _, dx, dweight, _ = run(x, weight, every_second.byte(), strided_grad, 5.0, 4, gradient)
    torch.testing.assert_close(dx, expected[1], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(dweight, expected[2], rtol=1e-13, atol=1e-13)
    if gradient == "exact":
        columns = weight.t().contiguous().t()
        _, _, dweight, _ = run(x, columns, label, grad, 5.0, 4, gradient)
        torch.testing.assert_close(dweight, expected[2], rtol=1e-13, atol=1e-13)


def test_rows_are_normalised_in_place_once(rng, device):
    weight = sample(rng, features=512, classes=300, dtype=torch.float32, device=device)[1]
    normalize_rows_(weight)
    once = weight.clone()
    norms = weight.double().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=3e-7, atol=0)
    normalize_rows_(weight)
    assert torch.equal(weight, once)


def test_lazy_clone_is_written_alone(rng, device):
    weight = sample(rng, dtype=torch.float32, device=device)[1]
    before = weight.clone()
    clone = torch._lazy_clone(weight)
    normalize_rows_(clone)
    assert torch.equal(weight, before)
    torch.testing.assert_close(clone, F.normalize(before))


def test_two_forwards_before_a_backward(rng):
    x, weight, label, grad = sample(rng)
    weight.requires_grad_()
    first = sphereface.margin_inner_product(x, weight, label, 5.0)
    second = sphereface.margin_inner_product(2 * x, weight, label, 1.0)
    (first + second).backward(grad)
    torch.testing.assert_close(weight.grad, 3 * grad.t() @ x)


def test_graphs_that_hold_the_raw_weight_notice(rng):
    x, weight, label, _ = sample(rng)
    weight.requires_grad_()
    penalty = weight.pow(4).sum()
    sphereface.margin_inner_product(x, weight, label, 5.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        penalty.backward()


def test_computed_weight_is_not_written(rng):
    x, weight, label, grad = sample(rng)
    logarithm = weight.abs().log().requires_grad_()
    computed = logarithm.exp()
    y = sphereface.margin_inner_product(x, computed, label, 5.0)
    y.backward(grad)
    torch.testing.assert_close(computed.detach(), weight.abs())
    torch.testing.assert_close(logarithm.grad, (grad.t() @ x) * weight.abs())


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 1e-22, 1e15, 1e25, 1e37])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_rows_of_any_finite_length(gradient, size, rng, device, norm_error):
    # Lengths of x and w whose squares float32 does not hold; too short ones count as zero.
    x, weight, label, grad = sample(rng, dtype=torch.float32, device=device)
    x, weight = x / 8, weight / 8
    long_x = run(x * size, weight, label, grad, 0.5, 4, gradient)
    long_w = run(x, weight * size, label, grad, 0.5, 4, gradient)
    assert all(torch.isfinite(t).all() for t in (*long_x[:2], *long_w[:2]))
    if size > 1e-37:
        plain = run(x.double(), weight.double(), label, grad.double(), 0.5, 4, gradient)
        assert norm_error(long_x[0].double() / size, plain[0]) < 1e-6
        assert norm_error(long_w[0], plain[0]) < 1e-6
        assert norm_error(long_w[1], plain[1]) < 1e-6


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_zero_rows_are_finite_and_plain(gradient, rng, device):
    x, weight, label, grad = sample(rng, device=device)
    x[0] = 0
    weight[label[1]] = 0
    y, dx, dweight, _ = run(x, weight, label, grad, 0.5, 4, gradient)
    assert all(torch.isfinite(t).all() for t in (y, dx, dweight))
    assert torch.equal(y[0], torch.zeros_like(y[0]))
    assert y[1, label[1]] == 0
    unit = F.normalize(weight)
    torch.testing.assert_close(dx[0], grad[0] @ unit)
    if gradient == "exact":
        assert torch.equal(dweight[label[1]], torch.zeros_like(dweight[0]))


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("ignore_index", [-1, 3, 255])
def test_ignored_rows_are_plain_products(ignore_index, gradient, rng, device):
    x, weight, label, grad = sample(rng, device=device)
    label[2] = ignore_index
    y, dx, dweight, _ = run(x, weight, label, grad, 0.5, 4, gradient, ignore_index=ignore_index)
    others = label != ignore_index
    rest = run(x[others], weight, label[others], grad[others], 0.5, 4, gradient)
    zeros = torch.zeros_like(label[~others])
    plain = run(x[~others], weight, zeros, grad[~others], 0.5, 1, gradient)
    for ours, ignored, counted in ((y, plain[0], rest[0]), (dx, plain[1], rest[1])):
        torch.testing.assert_close(ours[~others], ignored)
        torch.testing.assert_close(ours[others], counted)
    torch.testing.assert_close(dweight, rest[2] + plain[2])


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_no_rows(gradient, device):
    x = torch.zeros(0, 5, device=device)
    weight = torch.ones(3, 5, device=device)
    label = torch.zeros(0, dtype=torch.int64, device=device)
    y, dx, dweight, _ = run(x, weight, label, torch.zeros(0, 3, device=device), 1.0, 4, gradient)
    assert y.shape == (0, 3)
    assert dx.shape == (0, 5)
    assert torch.equal(dweight, torch.zeros(3, 5, device=device))


def test_result_does_not_depend_on_threads(rng):
    x, weight, label, grad = sample(rng, rows=64, features=128, classes=700, dtype=torch.float32)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            results.append(run(x, weight, label, grad, 5.0, 4, "exact"))
    finally:
        torch.set_num_threads(threads)
    for ours, repeated in zip(results[0], results[2], strict=True):
        assert torch.equal(ours, repeated)
    for ours, other in zip(results[0], results[1], strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory", ["fast", "lean", 17 * 13 * 8, 0, None])
def test_kept_unit_rows_do_not_show(memory, rng, device):
    tensors = sample(rng, device=device)
    expected = run(*tensors, 0.75, 4, "exact", memory="lean")
    for ours, pieces in zip(run(*tensors, 0.75, 4, "exact", memory=memory), expected, strict=True):
        assert torch.equal(ours, pieces)
    x, weight, label, _ = sample(rng, device=device)
    y = sphereface.margin_inner_product(
        x.requires_grad_(), weight, label, 0.75, 4, "exact", memory=memory
    )
    unit = y.grad_fn.saved_tensors[2]
    kept = memory in ("fast", 17 * 13 * 8) or (memory is None and device == "cuda")
    assert unit.shape == (17 if kept else 0, 13)
    if kept:
        torch.testing.assert_close(unit, F.normalize(weight))


def test_unknown_memory_is_named(rng):
    x, weight, label, _ = sample(rng)
    with pytest.raises(SphereFaceError, match="memory is 'small'"):
        sphereface.margin_inner_product(x, weight, label, 5.0, memory="small")


def test_second_derivative_is_refused(rng):
    x, weight, label, _ = sample(rng)
    x.requires_grad_()
    y = sphereface.margin_inner_product(x, weight, label, 5.0, gradient="exact")
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        dx.sum().backward()


def test_only_wanted_gradients_are_computed(rng):
    x, weight, label, grad = sample(rng)
    y = sphereface.margin_inner_product(x, weight.requires_grad_(), label, 5.0)
    y.backward(grad)
    assert x.grad is None
    assert weight.grad is not None
