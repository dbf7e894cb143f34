"""PReLU's backward in one pass: against float64 formulas, gradcheck, torch and itself threaded."""

from __future__ import annotations

import pytest
import torch

from sphereface.ops.prelu import prelu

OP = torch.ops.sphereface.prelu_backward
SHAPES = [(3, 5), (70, 33), (2, 3, 7), (3, 5, 6, 7), (2, 4, 1, 1), (2, 3, 2, 3, 2), (0, 3, 2, 2)]


def inputs(shape, dtype=torch.float64, shared=False):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    x = torch.where(x.abs() < 0.2, 0, x)  # zeros, which belong to the negative side
    slope = torch.randn(() if shared else shape[1], dtype=torch.float64, generator=generator)
    grad = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x.to(dtype), slope.to(dtype), grad.to(dtype)


def formula(x, slope, grad):
    """dx and dslope of y = max(0, x) + slope min(0, x)."""
    x, slope, grad = x.double(), slope.double(), grad.double()
    spread = slope.reshape(-1, *[1] * (x.dim() - 2))
    dx = (x > 0) * grad + (x <= 0) * spread * grad
    products = (x <= 0) * x * grad
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return dx, products.sum() if slope.dim() == 0 else products.sum(axes)


def gradients(x, slope, grad):
    x, slope = x.detach().requires_grad_(), slope.detach().requires_grad_()
    prelu(x, slope).backward(grad)
    return x.grad, slope.grad


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [*((shape, False) for shape in SHAPES), *((s, True) for s in SHAPES if len(s) == 4)],
)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 4e-3)],
)
def test_against_the_formula(shape, channels_last, shared, dtype, tolerance):
    x, slope, grad = inputs(shape, dtype, shared)
    expected = formula(x, slope, grad)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    for found, true in zip(gradients(x, slope, grad), expected, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(
            found.double(), true, rtol=tolerance, atol=tolerance * max(1, x.numel()) ** 0.5
        )
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert gradients(x, slope, grad)[0].is_contiguous(memory_format=order)


@pytest.mark.parametrize("shared", [False, True])
def test_gradcheck_twice(shared):
    x, slope, _ = inputs((2, 3, 2, 2), shared=shared)
    x = torch.where(x == 0, 1.0, x).requires_grad_()
    slope.requires_grad_()
    assert torch.autograd.gradcheck(prelu, (x, slope))
    assert torch.autograd.gradgradcheck(prelu, (x, slope))


@pytest.mark.parametrize("shape", [(300, 64), (5, 64, 9, 11)])
def test_bits_do_not_depend_on_the_number_of_threads(shape):
    arguments = inputs(shape, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gradients(*arguments))
    finally:
        torch.set_num_threads(before)
    for dx, dslope in results[1:]:
        assert torch.equal(dx, results[0][0])
        assert torch.equal(dslope, results[0][1])


def test_opcheck():
    x, slope, grad = (t.requires_grad_() for t in inputs((2, 3, 4)))
    torch.library.opcheck(OP, (grad, x, slope))


def test_autocast_is_torchs():
    x, slope, _ = inputs((4, 3, 5, 5), torch.float32)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = prelu(x, slope), torch.prelu(x.detach(), slope)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_functorch_takes_torchs():
    x, slope, _ = inputs((4, 3, 5), torch.float64)
    derivative = torch.func.vmap(torch.func.grad(lambda a, s: prelu(a[None], s).sum()), (0, None))
    torch.testing.assert_close(derivative(x, slope), formula(x, slope, torch.ones_like(x))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, x, s: (g, x[0], s), r"x has shape \(3, 4\); expected \(outer, C, inner\)"),
        (lambda g, x, s: (g[:1], x, s), r"grad has shape \(1, 3, 4\); expected \(2, 3, 4\)"),
        (lambda g, x, s: (g, x, s[:2]), r"slope has shape \(2\); expected \(3,\) or one number"),
        (lambda g, x, s: (g.float(), x, s), "grad has dtype float32 and x float64"),
        (lambda g, x, s: (g.int(), x.int(), s.int()), "x has dtype int32; expected float32"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    x, slope, grad = inputs((2, 3, 4))
    with pytest.raises(RuntimeError, match=message):
        OP(*change(grad, x, slope))
