from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "marked": example("Filter", x=(9, 3), cont=(9,)),
}


def layer(bottoms: str = "abs", tops: str = "yz") -> str:
    names = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
    return f'layer {{ name: "l" type: "Filter" {" ".join(names)} }}'


@pytest.mark.parametrize("selector", [(1, 0, 1, 0.5, 0), (0, 0, 0, 0, 0), (1, 1, 1, 1, -1)])
@pytest.mark.parametrize("selector_shape", [(5,), (5, 1, 1)])
def test_marked_samples_pass(selector, selector_shape, layer_net, rng):
    a, b = rng.normal(size=(5, 2, 3)), rng.normal(size=(5,))
    net = layer_net(layer(), a=a.shape, b=b.shape, s=selector_shape).net
    tensors = {"a": torch.tensor(a, requires_grad=True), "b": torch.tensor(b, requires_grad=True)}
    marks = torch.tensor(selector, dtype=torch.float64).reshape(selector_shape).requires_grad_()
    out = net(**tensors, s=marks)
    rows = [i for i, mark in enumerate(selector) if mark != 0]
    np.testing.assert_array_equal(out["y"].detach(), a[rows])
    np.testing.assert_array_equal(out["z"].detach(), b[rows])
    dy, dz = rng.normal(size=(len(rows), 2, 3)), rng.normal(size=len(rows))
    ((out["y"] * torch.tensor(dy)).sum() + (out["z"] * torch.tensor(dz)).sum()).backward()
    da, db = np.zeros_like(a), np.zeros_like(b)
    for row, i in enumerate(rows):
        da[i], db[i] = dy[row], dz[row]
    np.testing.assert_array_equal(tensors["a"].grad, da)
    np.testing.assert_array_equal(tensors["b"].grad, db)
    assert marks.grad is None


def test_one_bottom(layer_net):
    x = np.arange(6.0).reshape(3, 2)
    net = layer_net(layer("as", "y"), a=(3, 2), s=(3,)).net
    assert net.blob_shapes["y"] == (3, 2)  # until values are known, all samples
    y = net(a=torch.tensor(x), s=torch.tensor([0, 1, 0]))["y"]
    np.testing.assert_array_equal(y, x[[1]])


def test_the_export_has_an_open_batch_size(layer_net):
    net = layer_net(layer("as", "y"), a=(3, 2), s=(3,)).net.float()
    program = torch.export.export(net, (torch.zeros(3, 2), torch.ones(3))).module()
    x = torch.arange(6.0).reshape(3, 2)
    for marks in ([0, 1, 1], [0, 0, 1]):
        y = program(x, torch.tensor(marks).float())["y"]
        np.testing.assert_array_equal(y, x[[i for i, mark in enumerate(marks) if mark]])


@pytest.mark.parametrize(
    ("text", "selector", "message"),
    [
        (layer("abs", "y"), (5,), "1 tops for 2 bottoms and a selector"),
        (layer(), (5, 2), r"selector of shape \(5, 2\); expected one value a sample"),
        (layer(), (4,), r"bottom 0 has shape \(5, 2\); expected 4 samples"),
    ],
)
def test_what_does_not_fit(text, selector, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(text, a=(5, 2), b=(5,), s=selector)
