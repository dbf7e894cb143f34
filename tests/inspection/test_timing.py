from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.inference import Predictor
from sphereface.inspection import timing
from sphereface.inspection.timing import random_batch, time_net, time_predictor

NET = """
name: "timed"
layer { name: "data" type: "MemoryData" top: "data" top: "label"
        memory_data_param { batch_size: 2 channels: 1 height: 4 width: 4 } }
layer { name: "frozen" type: "InnerProduct" bottom: "data" top: "frozen" param { lr_mult: 0 }
        param { lr_mult: 0 } inner_product_param { num_output: 5 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "silence" type: "Silence" bottom: "frozen" }
"""


class Clock:
    """A clock that goes on by a millisecond when it is read, and when `pass_` says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 0.001
        return self.now

    def pass_(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_a_layer_takes_the_time_that_it_takes(clock):
    net = load(NET, phase="TRAIN")
    net.layer("fc").register_forward_pre_hook(lambda *_: clock.pass_(0.02))
    result = time_net(net, iterations=2)
    times = {layer.name: layer for layer in result.layers}
    assert [layer.name for layer in result.layers] == [layer.name for layer in net.layers]
    assert times["fc"].forward == pytest.approx(21)
    assert [times[name].forward for name in ("conv", "relu", "loss")] == pytest.approx([1] * 3)
    assert result.forward == pytest.approx(sum(layer.forward for layer in result.layers))
    assert result.backward == pytest.approx(sum(layer.backward for layer in result.layers))


def test_backward_only_where_something_learns():
    times = {layer.name: layer for layer in time_net(load(NET, phase="TRAIN"), iterations=1).layers}
    assert times["frozen"].forward > 0
    assert times["data"].backward == times["frozen"].backward == times["silence"].backward == 0
    assert all(times[name].backward > 0 for name in ("conv", "relu", "fc", "loss"))
    forward_only = time_net(load(NET, phase="TRAIN"), iterations=1, backward=False)
    assert forward_only.backward == 0
    assert forward_only.forward > 0


def test_reading_is_the_forward_of_the_data_layer(clock):
    net = load(NET, phase="TRAIN")

    def next_batch():
        clock.pass_(0.02)
        return random_batch(net)

    assert time_net(net, next_batch, iterations=2).layers[0].forward == pytest.approx(21)


def test_table():
    lines = str(time_net(load(NET, phase="TRAIN"), iterations=2)).splitlines()
    assert lines[0] == "phase TRAIN, each layer by itself"
    assert lines[1].split() == ["layer", "type", "forward", "ms", "backward", "ms", "share"]
    assert lines[4].split()[:2] == ["conv", "Convolution"]
    assert [line.split(":")[0] for line in lines[-4:]] == [
        "Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total Time",
    ]  # fmt: skip
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[2:-4]]
    assert sum(shares) == pytest.approx(100, abs=0.5)


FOLDED = """
input: "data" input_shape { dim: 2 dim: 3 dim: 6 dim: 6 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
        pooling_param { global_pooling: true } }
"""


def test_operations_and_passes_of_a_predictor(clock):
    """Rows are of operations one by one, the totals of whole passes."""
    predictor = Predictor(load(FOLDED))
    predictor.net.layer("norm").register_forward_pre_hook(lambda *_: clock.pass_(0.02))
    result = time_predictor(predictor, iterations=2)
    assert [(layer.name, layer.type) for layer in result.layers] == [
        ("conv + relu", "Convolution + ReLU"), ("norm", "LRN"), ("pool", "Pooling"),
    ]  # fmt: skip
    assert [layer.forward for layer in result.layers] == pytest.approx([1, 21, 1])
    assert (result.forward, result.backward) == (pytest.approx(21), 0)


def test_operations_one_by_one_are_the_pass(rng):
    predictor = Predictor(load(FOLDED))
    batch = {"data": torch.from_numpy(rng.normal(size=(2, 3, 6, 6)).astype("f"))}
    seen = []
    for names, run in predictor.operations(batch):
        run()
        seen.append(list(names))
    assert seen == [["conv", "relu"], ["norm"], ["pool"]]
    with pytest.raises(SphereFaceError, match="folds nothing"):
        next(Predictor(load(FOLDED), fuse=False).operations(batch))


def test_the_weights_stay_as_they_are():
    net = load(NET, phase="TRAIN")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    time_net(net, iterations=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_no_iterations():
    with pytest.raises(SphereFaceError, match="0 iterations; expected 1 or more"):
        time_net(load(NET), iterations=0)
    with pytest.raises(SphereFaceError, match="0 iterations; expected 1 or more"):
        time_predictor(Predictor(load(FOLDED)), iterations=0)
