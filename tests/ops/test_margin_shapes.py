"""The margin operator at the edges of its shapes, strides and labels, against float64 formulas."""

import numpy as np
import pytest
import torch

import sphereface
from margin_samples import run, sample
from reference import a_softmax

GRADIENTS = {"caffe": a_softmax.caffe_backward, "exact": a_softmax.exact_backward}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
    ("rows", "features", "classes"),
    [
        (1, 13, 17),
        (9, 1, 17),
        (9, 13, 1),
        (1, 1, 17),
        (1, 13, 1),
        (9, 1, 1),
        (1, 1, 1),
        (33, 65, 31),
    ],
)
def test_sizes_of_one(rows, features, classes, gradient, rng, device):
    tensors = sample(rng, rows, features, classes, device=device)
    assert_agrees(*tensors, gradient)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_of_one_label(dtype, gradient, rng, device):
    x, weight, label, grad = sample(rng, rows=70, dtype=dtype, device=device)
    assert_agrees(x, weight, torch.full_like(label, 3), grad, gradient)


STRIDED = {
    "columns": lambda grad: grad.t().contiguous().t(),
    "every second row": lambda grad: torch.stack([grad, -grad], 1)[:, 0],
    "every second column": lambda grad: torch.stack([grad, -grad], 2)[:, :, 0],
    "a column, repeated": lambda grad: grad[:, :1].expand_as(grad),
    "a row, repeated": lambda grad: grad[:1].expand_as(grad),
    "one value": lambda grad: grad[0, 0].expand_as(grad),
}


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("layout", STRIDED)
def test_strides_of_the_gradient(layout, gradient, rng, device):
    x, weight, label, grad = sample(rng, device=device)
    assert_agrees(x, weight, label, STRIDED[layout](grad), gradient)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_deterministic_mode(gradient, rng, device):
    # In this mode torch fills new memory with NaN, which shows what a kernel leaves unwritten.
    tensors = sample(rng, rows=40, device=device)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1, device=device).isnan()
        assert_agrees(*tensors, gradient)
        first, second = (run(*tensors, 5.0, 4, gradient) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_gradient_of_a_sum(rng, device):
    # sum() passes back one value with strides of zero.
    x, weight, label, grad = sample(rng, device=device)
    leaves = [t.clone().requires_grad_() for t in (x, weight)]
    sphereface.margin_inner_product(*leaves, label, 5.0, 4, "exact").sum().backward()
    _, dx, dweight, _ = run(x, weight, label, torch.ones_like(grad), 5.0, 4, "exact")
    torch.testing.assert_close(leaves[0].grad, dx)
    torch.testing.assert_close(leaves[1].grad, dweight)


def assert_agrees(x, weight, label, grad, gradient):
    """y, dx and dweight are those of the formulas."""
    bound = 1e-11 if x.dtype == torch.float64 else 2e-6
    y, dx, dweight, _ = run(x, weight, label, grad, 0.75, 4, gradient)
    arrays = [t.cpu().double().numpy() for t in (grad, x, weight)] + [label.cpu().numpy()]
    expected = (a_softmax.forward(*arrays[1:], 0.75, 4), *GRADIENTS[gradient](*arrays, 0.75, 4))
    for ours, reference in zip((y, dx, dweight), expected, strict=True):
        ours = ours.cpu().double().numpy()
        assert ours.shape == reference.shape
        # With one feature a class's exact gradient is all rounding: measured by the largest value.
        scale = max(np.abs(reference).max(), np.abs(arrays[0]).max())
        np.testing.assert_allclose(ours, reference, rtol=0, atol=bound * scale * len(x) ** 0.5)
