import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sphereface
from reference.margin_goldens import FILES, read
from sphereface import SphereFaceError
from sphereface.nn import MarginInnerProduct

PAPER = {"base": 1000, "gamma": 0.12, "power": 1, "lambda_min": 5}


def batch(rows=6, features=16, classes=7, device="cpu"):
    x = torch.randn(rows, features, device=device)
    return x, torch.randint(classes, (rows,), device=device)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_recording_of_the_original(path, device, norm_error):
    g = read(path)
    head = MarginInnerProduct(
        g.x.shape[1], g.num_output, g.type, **g.annealing, iteration=g.iteration, device=device
    )
    with torch.no_grad():
        head.weight.copy_(torch.tensor(g.weight))
    x = torch.tensor(g.x, device=device, requires_grad=True)
    y = head(x, torch.tensor(g.label, device=device))
    y.backward(torch.tensor(g.grad, device=device))
    assert head.iteration.item() == g.iteration + 1
    assert norm_error(y, g.y) < 2e-6
    assert abs(head.lambda_.item() - g.lambda_[0]) <= 2e-6 * g.lambda_[0]
    assert norm_error(head.weight, g.weight_after) < 2e-6
    assert norm_error(x.grad, g.dx) < 2e-6
    assert norm_error(head.weight.grad, g.dweight) < 2e-6


# Printed in public training logs of the original: iteration n shows lambda(n + 1).
@pytest.mark.parametrize(
    ("iteration", "expected"), [(500, 16.3613), (600, 13.6761), (700, 11.7481), (1700, 5.0)]
)
def test_lambda_of_the_original_logs(iteration, expected, device):
    head = MarginInnerProduct(16, 7, **PAPER, iteration=iteration, device=device)
    head(*batch(device=device))
    assert head.lambda_.item() == pytest.approx(expected, rel=1e-5)
    assert head.lambda_.dim() == 0


def test_only_training_advances_and_writes(device):
    head = MarginInnerProduct(16, 7, **PAPER, device=device)
    x, label = batch(device=device)
    head.eval()
    raw = head.weight.detach().clone()
    y = head(x, label)
    assert head.iteration.item() == 0
    assert head.lambda_.item() == 1000
    assert torch.equal(head.weight, raw)
    plain = sphereface.margin_inner_product(x, raw.clone(), label, 1000.0)
    torch.testing.assert_close(y.detach(), plain)
    head.train()
    head(x, label)
    assert head.iteration.item() == 1
    torch.testing.assert_close(head.weight.detach(), F.normalize(raw))


def test_state_survives_saving(tmp_path):
    head = MarginInnerProduct(16, 7, **PAPER)
    for _ in range(3):
        head(*batch())
    assert set(head.state_dict()) == {"weight", "iteration"}
    torch.save(head.state_dict(), tmp_path / "head.pt")
    resumed = MarginInnerProduct(16, 7, **PAPER)
    resumed.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    x, label = batch()
    assert torch.equal(resumed(x, label), head(x, label))
    assert resumed.lambda_.item() == head.lambda_.item() == pytest.approx(1000 / 1.48)


def test_filler_is_caffes_xavier():
    head = MarginInnerProduct(300, 2000)
    bound = (3 / 300) ** 0.5
    assert head.weight.abs().max() <= bound
    assert head.weight.abs().max() > 0.999 * bound
    assert head.weight.std().item() == pytest.approx(bound / 3**0.5, rel=5e-3)


def test_feature_maps_and_sequences():
    x, label = torch.randn(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    head = MarginInnerProduct(12, 5).eval()
    assert torch.equal(head(x, label), head(x.flatten(1), label))
    rows = MarginInnerProduct(4, 5, axis=2).eval()
    y = rows(x.flatten(2), torch.arange(12).reshape(4, 3) % 5)
    assert y.shape == (4, 3, 5)
    flat = MarginInnerProduct(4, 5).eval()
    flat.load_state_dict(rows.state_dict())
    assert torch.equal(y.flatten(0, 1), flat(x.reshape(12, 4), torch.arange(12) % 5))


def test_dtype_changes_keep_lambda_in_float32():
    head = MarginInnerProduct(16, 7, **PAPER).bfloat16()
    x, label = batch()
    y = head(x.bfloat16(), label)
    assert y.dtype == torch.bfloat16
    assert head.lambda_.dtype == torch.float32
    assert head.lambda_.item() == pytest.approx(1000 / 1.12)


def test_reset_after_meta_starts_the_count():
    head = MarginInnerProduct(16, 7, **PAPER, iteration=9, device="meta")
    head.to_empty(device="cpu").reset_parameters()
    assert head.iteration.item() == 9
    assert head.lambda_.item() == pytest.approx(1000 / 2.08)
    head(*batch())
    assert head.lambda_.item() == pytest.approx(1000 / 2.2)


def test_numpy_sizes():
    assert MarginInnerProduct(np.int64(16), np.int32(7)).weight.shape == (7, 16)


def test_copies_are_independent():
    head = MarginInnerProduct(16, 7)
    twin = copy.deepcopy(head)
    twin(*batch())
    assert head.iteration.item() == 0
    assert twin.iteration.item() == 1


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_compiles_without_graph_breaks(gradient, device):
    head = MarginInnerProduct(16, 7, **PAPER, gradient=gradient, device=device)
    eager = copy.deepcopy(head)
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    for rows in (6, 6, 11):
        x, label = batch(rows, device=device)
        ours, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, y_expected = compiled(ours, label), eager(expected, label)
        torch.testing.assert_close(y, y_expected)
        y.square().sum().backward()
        y_expected.square().sum().backward()
        torch.testing.assert_close(ours.grad, expected.grad)
        torch.testing.assert_close(head.weight.grad, eager.weight.grad)
        torch.testing.assert_close(head.weight, eager.weight)
        assert head.iteration.item() == eager.iteration.item()
        assert head.lambda_.item() == eager.lambda_.item()
        head.zero_grad()
        eager.zero_grad()


def test_annealing_does_not_recompile():
    compiles = []

    def backend(graph, inputs):
        compiles.append(graph)
        return graph.forward

    head = torch.compile(MarginInnerProduct(16, 7, **PAPER), fullgraph=True, backend=backend)
    seen = set()
    for _ in range(20):
        head(*batch())
        seen.add(head.lambda_.item())
    assert len(seen) == 20
    assert len(compiles) == 1


@pytest.mark.slow
def test_inductor_training_step(device):
    head = MarginInnerProduct(16, 7, **PAPER, device=device)
    net = nn.Sequential(nn.Linear(16, 16), nn.PReLU()).to(device)

    def step(x, label):
        return F.cross_entropy(head(net(x), label), label)

    x, label = batch(device=device)
    twin_net, twin_head = copy.deepcopy(net), copy.deepcopy(head)
    torch.compile(step, fullgraph=True)(x, label).backward()
    F.cross_entropy(twin_head(twin_net(x), label), label).backward()
    torch.testing.assert_close(net[0].weight.grad, twin_net[0].weight.grad)
    torch.testing.assert_close(head.weight.grad, twin_head.weight.grad)


@pytest.mark.parametrize("training", [True, False])
def test_export(training, device):
    head = MarginInnerProduct(16, 7, **PAPER, device=device).train(training)
    twin = copy.deepcopy(head)
    x, label = batch(device=device)
    rows = torch.export.Dim("rows", min=2, max=64)
    shapes = {"x": {0: rows}, "label": {0: rows}}
    module = torch.export.export(head, (x, label), dynamic_shapes=shapes).module()
    for count in (6, 9):
        x, label = batch(count, device=device)
        torch.testing.assert_close(module(x, label), twin(x, label))


def test_amp_training_step(device):
    head = MarginInnerProduct(16, 7, **PAPER, device=device)
    net = nn.Linear(16, 16, device=device)
    x, label = batch(device=device)
    with torch.autocast(device, torch.bfloat16):
        y = head(net(x), label)
        loss = F.cross_entropy(y, label)
    loss.backward()
    assert y.dtype == torch.float32
    assert head.weight.grad.dtype == net.weight.grad.dtype == torch.float32
    norms = head.weight.detach().norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": "QUADRUPEL"}, "margin is 'QUADRUPEL'.*did you mean \"QUADRUPLE\""),
        ({"gradient": "original"}, "gradient is 'original'"),
        ({"base": -1}, "base is -1; expected a float32 number >= 0"),
        ({"base": 1e300}, "base is 1e"),
        ({"base": "1"}, "base is '1'"),
        ({"iteration": 2.5}, "iteration is 2.5; expected an integer >= 0"),
        ({"axis": 0}, "axis is 0; expected an integer >= 1"),
        ({"lambda_min": float("nan")}, "lambda_min is nan"),
        ({"iteration": -1}, "iteration is -1"),
        ({"out_features": 0}, "out_features is 0; expected an integer >= 1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(SphereFaceError, match=message):
        MarginInnerProduct(**{"in_features": 16, "out_features": 7, **options})


def test_evaluation_without_labels_has_no_margin(device):
    head = MarginInnerProduct(16, 7, **PAPER, device=device).eval()
    x, _ = batch(device=device)
    torch.testing.assert_close(head(x), F.linear(x, F.normalize(head.weight)))
    with pytest.raises(SphereFaceError, match=r"no label in training mode.*head.eval\(\)"):
        head.train()(x)
    assert head.iteration.item() == 0


def test_one_hot_labels_are_told_as_such():
    head = MarginInnerProduct(16, 7)
    x, label = batch()
    with pytest.raises(SphereFaceError, match=r"label has shape \(6, 7\); expected \(6,\).*argmax"):
        head(x, F.one_hot(label, 7))
    with pytest.raises(SphereFaceError, match=r"label has shape \(5,\); expected \(6,\)"):
        head(x, label[:5])


def test_what_a_forward_leaves_for_logs(device):
    head = MarginInnerProduct(16, 7, **PAPER, ignore_index=-1, device=device)
    x, label = batch(device=device)
    label[2] = -1
    head(x, label)
    kept = label >= 0
    double, weight = x.double(), head.weight.detach().double()
    cosine = (double[kept] * weight[label[kept]]).sum(1) / double[kept].norm(dim=1)
    assert head.target_cosine.item() == pytest.approx(cosine.mean().item(), rel=1e-5, abs=1e-6)
    assert head.x_norm.item() == pytest.approx(double.norm(dim=1).mean().item(), rel=1e-5)
    assert set(head.state_dict()) == {"weight", "iteration"}


def test_lambda_is_that_of_the_loaded_count():
    head = MarginInnerProduct(16, 7, **PAPER)
    for _ in range(3):
        head(*batch())
    resumed = MarginInnerProduct(16, 7, **PAPER)
    assert resumed.lambda_.item() == 1000
    resumed.load_state_dict(head.state_dict())
    assert resumed.lambda_.item() == head.lambda_.item() == pytest.approx(1000 / 1.36)
