from __future__ import annotations

import torch

from sphereface.caffe.row_gradient import add_row_gradient


def test_rows_are_added_whatever_the_gradient_of_the_value() -> None:
    value = torch.tensor(3.0, requires_grad=True)
    weight = torch.zeros(4, 2, requires_grad=True)
    rows = torch.tensor([[1.0, 2], [3, 4], [10, 20]])
    out = add_row_gradient(value * 1, weight, torch.tensor([2, 0, 2]), rows)
    assert out == 3
    (7 * out + (5 * weight).sum()).backward()
    assert value.grad == 7
    expected = 5 + torch.tensor([[3.0, 4], [0, 0], [11, 22], [0, 0]])
    assert torch.equal(weight.grad, expected)


def test_a_frozen_weight_and_a_constant_value() -> None:
    weight = torch.zeros(4, 2)
    value = torch.tensor(3.0, requires_grad=True)
    add_row_gradient(value, weight, torch.tensor([1]), torch.ones(1, 2)).backward()
    assert value.grad == 1
    weight.requires_grad_()
    add_row_gradient(torch.tensor(3.0), weight, torch.tensor([1]), torch.ones(1, 2)).backward()
    assert weight.grad.sum() == 2
