"""Launches every CUDA kernel at odd sizes, with wrong labels and with nothing to do.

For compute-sanitizer, which finds what a wrong value does not show; the values are looked at too.
"""

from __future__ import annotations

import sys

import torch

import sphereface
from gpu.results import figure
from gpu.step import options
from sphereface.margin_policy import ArcFace, CosFace, L2Softmax, LSoftmax, SphereFace2, SphereFaceR
from sphereface.ops import annealed_lambda, normalize_rows_

SIZES = [(1, 1, 1), (33, 65, 31), (7, 129, 257), (0, 5, 3), (5, 1, 9)]
WRONG = (-1, 2**40, -(2**62))


def one(size: tuple[int, int, int], dtype: torch.dtype, gradient: str, device: str) -> None:
    """Run forward and backward of one size."""
    rows, features, classes = size
    x = torch.randn(rows, features, device=device, dtype=dtype).requires_grad_()
    weight = torch.randn(classes, features, device=device, dtype=dtype).requires_grad_()
    label = torch.randint(classes, (rows,), device=device)
    if rows > len(WRONG) and device != "cpu":  # the CPU's operators refuse such labels
        label[: len(WRONG)] = torch.tensor(WRONG, device=device)
    for computed in (False, True):
        w = weight * 1 if computed else weight
        y = sphereface.margin_inner_product(x, w, label, 5.0, 4, gradient)
        y.backward(torch.ones_like(y))
    if not (y.isfinite().all() and x.grad.isfinite().all() and weight.grad.isfinite().all()):
        sys.exit(f"{size}, {dtype}, {gradient}: a value is not finite")


def fused(size: tuple[int, int, int], dtype: torch.dtype, memory: str, device: str) -> None:
    """Run the loss of one size, as A-Softmax of both gradients and with every policy."""
    rows, features, classes = size
    bias = torch.randn(classes, device=device, dtype=torch.promote_types(dtype, torch.float32))
    policies = (4, SphereFaceR(), CosFace(), ArcFace(easy=True), LSoftmax(2), L2Softmax(16.0, bias),
                SphereFace2(bias=bias))  # fmt: skip
    for margin, gradient in ((4, "caffe"), *((policy, "exact") for policy in policies)):
        binary = isinstance(margin, SphereFace2)
        options = {} if binary else {"label_smoothing": 0.1, "class_weight": bias.abs() + 0.1}
        x = torch.randn(rows, features, device=device, dtype=dtype).requires_grad_()
        weight = torch.randn(classes, features, device=device, dtype=dtype).requires_grad_()
        label = torch.randint(classes, (rows,), device=device)
        wrong = rows > len(WRONG) and device != "cpu"
        if wrong:
            label[: len(WRONG)] = torch.tensor(WRONG, device=device)
        loss = sphereface.margin_softmax_loss(
            x, weight, label, 5.0, margin, gradient, reduction="none", memory=memory, **options
        )
        right = loss[len(WRONG) :] if wrong else loss
        right.sum().backward()  # a label that is no class has a NaN loss of its own
        if not (right.isfinite().all() and x.grad.isfinite().all()):
            sys.exit(f"{size}, {dtype}, {margin}, {memory}: a value is not finite")


def main() -> None:
    """Run all cases."""
    args = options(__doc__)
    torch.manual_seed(0)
    dtypes = [torch.float32, torch.float64, torch.bfloat16]
    if args.device != "cpu":
        dtypes.append(torch.float16)
    cases = [(s, d, g) for s in SIZES for d in dtypes for g in ("caffe", "exact")]
    for case in cases:
        one(*case, args.device)
    losses = [(s, d, m) for s in SIZES for d in dtypes for m in ("fast", "lean")]
    for case in losses:
        fused(*case, args.device)
    for dtype in dtypes:
        wide = torch.randn(9, 14, device=args.device, dtype=dtype)
        normalize_rows_(wide[:, :7])  # a row stride that is not the row's length
    annealed_lambda(torch.tensor(3, device=args.device), 1000, 0.12, 1, 5)
    if args.device != "cpu":
        torch.cuda.synchronize()
    figure("cases", len(cases) + len(losses), "cases")


if __name__ == "__main__":
    main()
