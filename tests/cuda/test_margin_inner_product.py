"""What only a device shows: graphs, streams, synchronisation, bad labels, 64-bit indexing."""

import pytest
import torch
import torch.nn.functional as F

import sphereface
from sphereface.nn import MarginInnerProduct

pytestmark = pytest.mark.cuda

PAPER = {"base": 1000, "gamma": 0.12, "power": 1, "lambda_min": 5}


@pytest.fixture
def head():
    return MarginInnerProduct(64, 1000, **PAPER, device="cuda")


def batch(rows=32):
    return torch.randn(rows, 64, device="cuda"), torch.randint(1000, (rows,), device="cuda")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_half_precisions(gradient, dtype, norm_error):
    x, label = batch()
    weight = torch.randn(1000, 64, device="cuda")
    grad = torch.randn(32, 1000, device="cuda")
    results = []
    for kind in (dtype, torch.float64):
        a, b = (t.to(dtype).to(kind).requires_grad_() for t in (x, weight))
        y = sphereface.margin_inner_product(a, b, label, 5.0, 4, gradient)
        y.backward(grad.to(dtype).to(kind))
        results.append((y.detach(), a.grad, b.grad))
    for ours, expected in zip(*results, strict=True):
        assert norm_error(ours.double(), expected) < 1e-2


def test_no_synchronisation(head):
    x, label = batch()
    x.requires_grad_()
    head(x, label).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        head(x, label).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_graph_replays_anneal(head):
    x, label = batch()
    static_x, static_label = x.clone(), label.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            head(static_x, static_label)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = head(static_x, static_label)
    head.iteration.fill_(10)
    eager = MarginInnerProduct(64, 1000, **PAPER, iteration=10, device="cuda")
    with torch.no_grad():
        eager.weight.copy_(head.weight)
    for _ in range(3):
        x, label = batch()
        static_x.copy_(x)
        static_label.copy_(label)
        graph.replay()
        assert torch.equal(y, eager(x, label))
        assert head.lambda_.item() == eager.lambda_.item()


def test_other_stream_is_ordered(head):
    head.eval()
    x, label = batch()
    expected = head(2 * x, label)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        y = head(x + x, label)
    stream.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.parametrize("label_value", [-1, 1000, 2**40, -(2**62)])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_bad_label_is_a_plain_row(gradient, label_value, norm_error):
    x, label = batch()
    label[5] = label_value
    weight = F.normalize(torch.randn(1000, 64, device="cuda")).requires_grad_()
    x.requires_grad_()
    y = sphereface.margin_inner_product(x, weight, label, 5.0, 4, gradient)
    y.sum().backward()
    torch.cuda.synchronize()
    assert norm_error(y[5], (x[5].double() @ weight.detach().double().t())) < 1e-5
    assert torch.isfinite(weight.grad).all()


def test_nan_shows_in_its_row(head):
    x, label = batch()
    x[3, 0] = float("nan")
    y = head(x, label)
    assert y[3].isnan().all()
    assert y[torch.arange(32, device="cuda") != 3].isfinite().all()


def test_repeated_runs_are_bitwise_equal():
    x, _ = batch()
    label = torch.randint(3, (32,), device="cuda")
    weight = torch.randn(1000, 64, device="cuda")
    grad = torch.randn(32, 1000, device="cuda")
    runs = []
    for _ in range(5):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        sphereface.margin_inner_product(a, b, label, 5.0, 4, "exact").backward(grad)
        runs.append((a.grad, b.grad))
    for dx, dweight in runs[1:]:
        assert torch.equal(dx, runs[0][0])
        assert torch.equal(dweight, runs[0][1])


@pytest.mark.slow
def test_more_than_2_31_logits(norm_error):
    rows, classes, features = 2200, 1_000_003, 16
    x = torch.randn(rows, features, device="cuda")
    weight = torch.randn(classes, features, device="cuda")
    label = torch.randint(classes, (rows,), device="cuda")
    label[-1] = classes - 1
    y = sphereface.margin_inner_product(x, weight, label, 5.0)
    last = slice(rows - 50, rows)
    expected = sphereface.margin_inner_product(x[last].double(), weight.double(), label[last], 5.0)
    assert norm_error(y[last], expected) < 1e-6
