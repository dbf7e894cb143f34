"""nn.CenterLoss against the paper's equations 2 and 4, by hand, and against Caffe's layer."""

import pytest
import torch

from sphereface import SphereFaceError, caffe
from sphereface.nn import CenterLoss

K, N, M = 6, 9, 8
NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 8 dim: 6 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 8 } } }
layer { name: "pull" type: "CenterLoss" bottom: "x" bottom: "label" top: "pull" loss_weight: 0.25
  center_loss_param { num_output: 9 } }"""


def batch(device="cpu", dtype=torch.float64):
    x = torch.randn(M, K, dtype=dtype, device=device, requires_grad=True)
    return x, torch.tensor([0, 3, 3, 8, 3, 1, 0, 5], device=device)


def by_hand(x, centers, label):
    """Return loss and gradients, a row and a class at a time."""
    x, centers = x.detach(), centers.detach()
    rows = [x[i] - centers[y] for i, y in enumerate(label.tolist())]
    loss = sum(float(row @ row) for row in rows) / (2 * M)
    dcenters = torch.zeros_like(centers)
    for name in range(len(centers)):
        mine = [row for row, y in zip(rows, label.tolist(), strict=True) if y == name]
        if mine:
            dcenters[name] = -sum(mine) / (1 + len(mine))
    return loss, torch.stack(rows) / M, dcenters


@pytest.mark.parametrize("loss_weight", [0.003, 1.0, 0.0])
def test_the_papers_loss_and_gradients(loss_weight, device):
    x, label = batch(device)
    module = CenterLoss(K, N, loss_weight, device=device, dtype=torch.float64)
    loss, dx, dcenters = by_hand(x, module.weight, label)
    found = module(x, label)
    torch.testing.assert_close(found.item(), loss_weight * loss)
    got = torch.autograd.grad(found, (x, module.weight))
    torch.testing.assert_close(got, (loss_weight * dx, dcenters))
    assert dcenters.abs().max() > 0.1


def test_a_factor_of_the_whole_loss_reaches_the_centres():
    """A GradScaler divides all gradients by what it has multiplied the loss by."""
    x, label = batch()
    module = CenterLoss(K, N, dtype=torch.float64)
    once = torch.autograd.grad(module(x, label), (x, module.weight))
    scaled = torch.autograd.grad(1024 * module(x, label), (x, module.weight))
    torch.testing.assert_close([grad / 1024 for grad in scaled], list(once))


def test_equal_to_caffes_layer():
    net = caffe.load(NET, phase="TRAIN").double()
    module = CenterLoss(K, N, 0.25, dtype=torch.float64)
    with torch.no_grad():
        net.layer("pull").weight.copy_(module.weight)
    results = []
    x, label = batch()
    for loss, weight in (
        (net.loss(net({"x": x, "label": label.double()})), net.layer("pull").weight),
        (module(x, label), module.weight),
    ):
        results.append((loss, *torch.autograd.grad(loss, (x, weight))))
    torch.testing.assert_close(*results)


def test_centres_come_to_the_means_of_their_classes():
    x, label = batch()
    module = CenterLoss(K, N, dtype=torch.float64)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    others = module.weight.detach().clone()
    for _ in range(200):
        optimizer.zero_grad()
        module(x.detach(), label).backward()
        optimizer.step()
    for name in (0, 3):
        torch.testing.assert_close(module.weight[name], x[label == name].mean(0))
    torch.testing.assert_close(module.weight[[2, 4, 6, 7]], others[[2, 4, 6, 7]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precisions_are_summed_in_float32(dtype, device):
    x, label = batch(device, dtype)
    module = CenterLoss(K, N, 1.0, device=device)
    exact = CenterLoss(K, N, 1.0, device=device)
    exact.load_state_dict(module.state_dict())
    with torch.autocast(device, torch.bfloat16):
        loss = module(x, label)
    wide = x.detach().float().requires_grad_()
    expected = exact(wide, label)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(module.weight.grad, exact.weight.grad)
    torch.testing.assert_close(x.grad.float(), wide.grad, rtol=1e-2, atol=1e-3)


def test_no_rows():
    module = CenterLoss(K, N)
    loss = module(torch.zeros(0, K), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss == 0
    assert not module.weight.grad.any()


def test_compiles_without_graph_breaks():
    torch._dynamo.reset()
    x, label = batch(dtype=torch.float32)
    module = CenterLoss(K, N)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    results = []
    for loss in (compiled(x, label), module(x, label)):
        results.append((loss, *torch.autograd.grad(loss, (x, module.weight))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CenterLoss(K, 0), "num_classes is 0"),
        (lambda: CenterLoss(K, N, -1), "loss_weight is -1"),
        (lambda: CenterLoss(K, N, float("nan")), "loss_weight is nan"),
        (
            lambda: CenterLoss(K, N)(torch.ones(2, 3), torch.zeros(2).long()),
            r"x has shape \(2, 3\)",
        ),
        (lambda: CenterLoss(K, N)(torch.ones(2, K), torch.zeros(3).long()), "3 labels; expected 2"),
        (lambda: CenterLoss(K, N)(torch.ones(2, K), torch.tensor([0, 9])), r"label\[1\] is 9"),
        (lambda: CenterLoss(K, N)(torch.ones(2, K), torch.tensor([-1, 0])), r"label\[0\] is -1"),
        (lambda: CenterLoss(K, N)(torch.ones(2, K), [0, 1]), "label is of type list"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(SphereFaceError, match=message):
        call()


def test_one_hot_labels_are_told_as_such():
    with pytest.raises(RuntimeError, match="one-hot"):
        CenterLoss(K, N)(torch.ones(2, K), torch.eye(N)[:2].long())
