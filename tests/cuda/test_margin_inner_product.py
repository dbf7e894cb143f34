"""What only a device shows: graphs, streams, synchronisation, bad labels, 64-bit indexing."""

import pytest
import torch
import torch.nn.functional as F

import sphereface
from margin_samples import run, sample
from reference import a_softmax
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


@pytest.fixture
def synchronisation_raises():
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_no_synchronisation(head, synchronisation_raises):
    x, label = batch()
    x.requires_grad_()
    head(x, label).sum().backward()
    torch.cuda.synchronize()
    synchronisation_raises()
    head(x, label).sum().backward()


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_graph_of_a_training_step(gradient, norm_error):
    head = MarginInnerProduct(64, 1000, **PAPER, gradient=gradient, device="cuda")
    eager = MarginInnerProduct(64, 1000, **PAPER, gradient=gradient, iteration=9, device="cuda")
    x, label = batch()
    grad = torch.randn(32, 1000, device="cuda")
    static_x, static_label = x.clone().requires_grad_(), label.clone()
    graph, y = captured(lambda: step(head, static_x, static_label, grad))
    head.iteration.fill_(9)
    with torch.no_grad():
        eager.weight.copy_(head.weight)
    for _ in range(3):
        x, label = batch()
        with torch.no_grad():
            static_x.copy_(x)
        static_label.copy_(label)
        graph.replay()
        x.requires_grad_()
        expected = step(eager, x, label, grad)
        assert norm_error(y, expected) < 1e-6
        assert norm_error(static_x.grad, x.grad) < 1e-6
        assert norm_error(head.weight.grad, eager.weight.grad) < 1e-6
        assert head.iteration.item() == eager.iteration.item()
        with torch.no_grad():  # as an optimiser does, so that the rows are normalised anew
            head.weight.mul_(1.25)
            eager.weight.mul_(1.25)


def step(head, x, label, grad):
    x.grad = head.weight.grad = None
    y = head(x, label)
    y.backward(grad)
    return y.detach()


def captured(function):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph, result


def test_graph_replays_anneal(head, norm_error):
    x, label = batch()
    static_x, static_label = x.clone(), label.clone()
    graph, y = captured(lambda: head(static_x, static_label))
    head.iteration.fill_(10)
    eager = MarginInnerProduct(64, 1000, **PAPER, iteration=10, device="cuda")
    with torch.no_grad():
        eager.weight.copy_(head.weight)
    for _ in range(3):
        x, label = batch()
        static_x.copy_(x)
        static_label.copy_(label)
        graph.replay()
        assert norm_error(y, eager(x, label)) < 1e-6
        assert head.lambda_.item() == eager.lambda_.item()


def test_other_stream_is_ordered(head, norm_error):
    head.eval()
    x, label = batch()
    expected = head(2 * x, label)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        y = head(x + x, label)
    stream.synchronize()
    assert norm_error(y, expected) < 1e-6


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
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("needs 12 GiB of free memory on the device")
    x = torch.randn(rows, features, device="cuda")
    weight = torch.randn(classes, features, device="cuda")
    label = torch.randint(classes, (rows,), device="cuda")
    label[-1] = classes - 1
    y = sphereface.margin_inner_product(x, weight, label, 5.0)
    last = slice(rows - 50, rows)
    expected = sphereface.margin_inner_product(x[last].double(), weight.double(), label[last], 5.0)
    assert norm_error(y[last], expected) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_pieces_of_the_weight_do_not_show(gradient, rng, norm_error):
    # 2^28 bytes a piece: 140,000 x 512 in float32 makes two. Labels on both sides of the seam; the
    # products of the pieces are summed into dx.
    x, weight, label, grad = sample(rng, 24, 512, 140_000, torch.float32, "cuda")
    seam = 2**28 // (4 * 513)
    label[:6] = torch.tensor([0, seam - 1, seam, seam + 1, 139_999, seam])
    arrays = [t.cpu().double().numpy() for t in (grad, x, weight)] + [label.cpu().numpy()]
    backward = a_softmax.caffe_backward if gradient == "caffe" else a_softmax.exact_backward
    y, dx, dweight, _ = run(x, weight, label, grad, 5.0, 4, gradient)
    assert norm_error(y, a_softmax.forward(*arrays[1:], 5.0, 4)) < 1e-6
    for ours, expected in zip((dx, dweight), backward(*arrays, 5.0, 4), strict=True):
        assert norm_error(ours, expected) < 1e-6
    # A computed weight is not written: its pieces are normalised elsewhere in both gradients.
    raw = weight.requires_grad_()
    leaf = x.clone().requires_grad_()
    sphereface.margin_inner_product(leaf, raw * 1, label, 5.0, 4, gradient).backward(grad)
    assert norm_error(leaf.grad, dx) < 1e-6


@pytest.fixture
def matmul_tf32():
    def switch(on):
        torch.backends.cuda.matmul.allow_tf32 = on

    before = torch.backends.cuda.matmul.allow_tf32
    yield switch
    switch(before)


@pytest.mark.parametrize("gradient", ["caffe", "exact"])
def test_tf32_is_the_products_alone(gradient, rng, matmul_tf32, norm_error):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("TF32 needs compute capability 8.0")
    x, weight, label, grad = sample(rng, 64, 512, 1024, torch.float32, "cuda")
    arrays = [t.cpu().double().numpy() for t in (grad, x, weight)] + [label.cpu().numpy()]
    backward = a_softmax.caffe_backward if gradient == "caffe" else a_softmax.exact_backward
    expected = (a_softmax.forward(*arrays[1:], 0.75, 4), *backward(*arrays, 0.75, 4))
    rows = torch.arange(64)
    for on, least, most in ((False, 0, 1e-6), (True, 1e-5, 2e-3)):
        matmul_tf32(on)
        results = run(x, weight, label, grad, 0.75, 4, gradient)
        for ours, theirs in zip(results, expected, strict=False):
            assert least <= norm_error(ours, theirs) < most
        # The label's column is computed by our kernels, which TF32 does not reach.
        assert (
            norm_error(results[0].cpu()[rows, label.cpu()], expected[0][rows, label.cpu()]) < 1e-6
        )


def test_second_device(norm_error):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device; this needs two")
    x, label = batch()
    weight, grad = torch.randn(1000, 64, device="cuda"), torch.randn(32, 1000, device="cuda")
    first = run(x, weight, label, grad, 5.0, 4, "exact")
    there = [t.to("cuda:1") for t in (x, weight, label, grad)]
    with torch.cuda.device(0):  # not the tensors' device
        second = run(*there, 5.0, 4, "exact")
    for ours, expected in zip(second, first, strict=True):
        assert ours.device == torch.device("cuda", 1)
        assert norm_error(ours, expected) < 1e-6
    with pytest.raises(RuntimeError, match="weight is on cuda:0 and x on cuda:1"):
        sphereface.margin_inner_product(there[0], weight, there[2], 5.0)
