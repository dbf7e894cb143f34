import torch

import sphereface
from sphereface.ops import normalize_rows_


def sample(rng, rows=9, features=13, classes=17, dtype=torch.float64, device="cpu"):
    """x, weight, label (one class repeated) and grad, away from nothing in particular."""
    x = torch.tensor(rng.normal(size=(rows, features)), dtype=dtype, device=device)
    weight = torch.tensor(rng.normal(size=(classes, features)), dtype=dtype, device=device)
    label = torch.tensor(rng.integers(classes, size=rows), device=device)
    label[-1] = label[0]
    grad = torch.tensor(rng.normal(size=(rows, classes)), dtype=dtype, device=device)
    return x, weight, label, grad


def run(x, weight, label, grad, lambda_, margin, gradient, **options):
    x = x.detach().clone().requires_grad_()
    weight = weight.detach().clone().requires_grad_()
    y = sphereface.margin_inner_product(x, weight, label, lambda_, margin, gradient, **options)
    y.backward(grad)
    return y.detach(), x.grad, weight.grad, weight.detach()


def op_arguments(rng, device, exact, unit_rows, requires_grad):
    """Of the operator of dweight; that of dx takes kept unit rows after the weight, as well."""
    x, weight, label, grad = sample(rng, dtype=torch.float32, device=device)
    if unit_rows:
        normalize_rows_(weight)
    x.requires_grad_(requires_grad)
    weight.requires_grad_(requires_grad)
    lambda_ = torch.tensor(5.0, device=device)
    return grad, x, weight, label, lambda_, 4, exact, unit_rows, None
