import pytest
import torch

import sphereface
from sphereface.margin_policy import ArcFace

pytestmark = pytest.mark.cuda


def problem(rows=32, features=64, classes=10_572):
    x = torch.randn(rows, features, device="cuda", requires_grad=True)
    weight = torch.randn(classes, features, device="cuda", requires_grad=True)
    label = torch.randint(classes, (rows,), device="cuda")
    return x, weight, label, torch.tensor(5.0, device="cuda")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("margin", [4, ArcFace()], ids=str)
def test_nothing_waits_for_the_device(margin, memory):
    x, weight, label, lambda_ = problem()
    class_weight = torch.rand(len(weight), device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = sphereface.margin_softmax_loss(
            x, weight, label, lambda_, margin, ignore_index=-1, label_smoothing=0.1,
            class_weight=class_weight, memory=memory,
        )  # fmt: skip
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_cuda_graph_equals_eager(memory):
    x, weight, label, lambda_ = problem()

    def step():
        x.grad = weight.grad = None
        loss = sphereface.margin_softmax_loss(
            x, weight, label, lambda_, gradient="exact", memory=memory
        )
        loss.backward()
        return loss

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    dx, dweight = x.grad, weight.grad
    with torch.no_grad():
        x.normal_()
        label.random_(len(weight))
        lambda_.fill_(0.5)
    graph.replay()
    results = [captured.clone(), dx.clone(), dweight.clone()]
    for ours, eager in zip(results, (step(), x.grad, weight.grad), strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_a_label_that_is_no_class_is_a_nan(memory):
    x, weight, label, lambda_ = problem()
    label[3], label[5] = len(weight), -(2**40)
    loss = sphereface.margin_softmax_loss(
        x, weight, label, lambda_, reduction="none", memory=memory
    )
    bad = torch.zeros(len(x), dtype=torch.bool, device="cuda")
    bad[3] = bad[5] = True
    assert torch.equal(loss.isnan(), bad)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("gradient", ["caffe", "exact"])
@pytest.mark.parametrize("features", [64, 77, 1500])
def test_equal_to_the_cpu_in_float64(features, gradient, memory, norm_error):
    # 77 features and 10,571 classes: no row is aligned but the logits'; repeated labels.
    x, weight, label, lambda_ = problem(40, features, 10_571)
    label[:12] = label[20]
    label[3] = -1
    results = []
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.float64)):
        a, b = (t.detach().to(device, dtype).requires_grad_() for t in (x, weight))
        loss = sphereface.margin_softmax_loss(
            a, b, label.to(device), lambda_.to(device), 4, gradient, ignore_index=-1,
            label_smoothing=0.1, memory=memory,
        )  # fmt: skip
        loss.backward()
        results.append((loss.detach(), a.grad, b.grad))
    for ours, expected in zip(*results, strict=True):
        assert norm_error(ours, expected) < 1e-5


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_repeated_runs_are_bitwise_equal(memory):
    x, weight, label, lambda_ = problem()
    label %= 3
    runs = []
    for _ in range(5):
        x.grad = weight.grad = None
        sphereface.margin_softmax_loss(
            x, weight, label, lambda_, gradient="exact", memory=memory
        ).backward()
        runs.append((x.grad, weight.grad))
    for dx, dweight in runs[1:]:
        assert torch.equal(dx, runs[0][0])
        assert torch.equal(dweight, runs[0][1])


def test_a_row_that_is_too_long_for_its_square_is_a_nan():
    weight = torch.randn(5, 8, dtype=torch.float64, device="cuda")
    weight[2, 1] = 1e200
    unit = sphereface.ops.normalize_rows_(weight)
    assert torch.equal(unit.isnan().all(dim=1), torch.arange(5, device="cuda") == 2)


@pytest.mark.slow
def test_more_than_2_31_logits(norm_error):
    rows, classes, features = 2200, 1_000_003, 16
    if torch.cuda.mem_get_info()[0] < 4 * 2**30:
        pytest.skip("needs 4 GiB of free memory on the device")
    x, weight, label, lambda_ = problem(rows, features, classes)
    label[-1] = classes - 1
    loss = sphereface.margin_softmax_loss(
        x, weight, label, lambda_, gradient="exact", reduction="none", memory="lean"
    )
    loss[-50:].sum().backward()
    last = x.detach()[-50:].double().requires_grad_()
    wide = weight.detach().double().requires_grad_()
    expected = sphereface.margin_softmax_loss(
        last, wide, label[-50:], lambda_, gradient="exact", reduction="none", memory="lean"
    )
    expected.sum().backward()
    assert norm_error(loss.detach()[-50:], expected.detach()) < 1e-5
    assert norm_error(x.grad[-50:], last.grad) < 1e-4
    assert norm_error(weight.grad, wide.grad) < 1e-4
