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
