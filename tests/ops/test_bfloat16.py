from __future__ import annotations

import torch
import torch.nn.functional as F

from sphereface.ops.bfloat16 import autocast_through_float32


def product(x, *, weight, bias):
    return F.linear(x, weight, bias)


def test_autocast_rounds_arguments_and_result():
    generator = torch.Generator().manual_seed(0)
    x, weight, grad = (torch.randn(size, generator=generator) for size in ((4, 7), (5, 7), (4, 5)))
    x, weight = x.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = autocast_through_float32(product)(x, weight=weight, bias=None)
    y.backward(grad.bfloat16())
    with torch.no_grad():
        rx, rw, rg = (t.bfloat16().double() for t in (x, weight, grad))
        for found, exact in ((y, rx @ rw.T), (x.grad, rg @ rw), (weight.grad, rg.T @ rx)):
            torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)
    assert y.dtype == torch.bfloat16
    assert x.grad.dtype == weight.grad.dtype == torch.float32


def test_otherwise_it_is_the_function():
    x, weight = torch.randn(4, 7), torch.randn(5, 7)
    run = autocast_through_float32(product)
    assert torch.equal(run(x, weight=weight, bias=None), F.linear(x, weight))
    with torch.autocast("cpu", torch.float16):
        expected = F.linear(x, weight)
        assert torch.equal(run(x, weight=weight, bias=None), expected)
