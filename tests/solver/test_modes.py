from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.caffe import DataOptions, load
from sphereface.errors import SphereFaceError
from sphereface.solver.distributed import Place, RankGroup
from sphereface.solver.modes import Mode, ModePasses
from sphereface.solver.training import TrainOptions, train
from sphereface.weights import load_weights

# What float32 with 24 bits, and half precision with 8 and 11, may differ by after 8 iterations.
TOLERANCE = {"channels_last": 1e-5, "bf16": 3e-2, "fp16": 4e-3, "compile": 1e-5}


def trained(folder, mode):
    folder.mkdir()
    solver = write_training(folder, "max_iter: 8 display: 4")
    train(TrainOptions(str(solver), gpu="none", mode=mode))
    return load_weights(folder / "tiny_iter_8.caffemodel")


@pytest.mark.parametrize(
    "name", ["channels_last", "bf16", "fp16", pytest.param("compile", marks=pytest.mark.slow)]
)
def test_modes_train_the_same_net(tmp_path, name):
    mode = Mode(amp=name) if name in ("bf16", "fp16") else Mode(**{name: True})
    plain, other = trained(tmp_path / "a", Mode()), trained(tmp_path / "b", mode)
    assert plain.keys() == other.keys()
    for layer, blobs in plain.items():
        for one, two in zip(blobs, other[layer], strict=True):
            assert one.shape == two.shape
            scale = np.linalg.norm(one)
            assert np.linalg.norm(one - two) <= TOLERANCE[name] * scale


def test_kernels_and_histories_lie_in_the_order_of_the_mode(tmp_path):
    from sphereface.solver import Solver
    from sphereface.solver.modes import ModeNets

    nets = ModeNets(Mode(channels_last=True), RankGroup(Place()))
    solver = Solver(str(write_training(tmp_path, "")), nets=nets)
    kernel, history = solver.net.layer("conv").weight, solver.updater.history[0]
    for tensor in (kernel, history):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


NET = """
input: "x" input_shape { dim: [2, 3] }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
        inner_product_param { num_output: 1 bias_term: false
        weight_filler { type: "constant" value: 1 } } }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 1
        reduction_param { operation: SUM } }
"""


def test_gradients_that_overflow_in_fp16_count_as_zero():
    net = load(NET, phase="TRAIN")
    weight = net.layer("fc").weight
    passes = ModePasses(net, Mode(amp="fp16"), torch.device("cpu"), RankGroup(Place()))
    # 65536 times a gradient of 4 is no number of fp16; 32768 times one of 0.5 is.
    for value, expected in ((2.0, [0, 0, 0]), (0.25, [0.5, 0.5, 0.5])):
        passes.clear([weight])
        passes.forward_backward({"x": torch.full((2, 3), value)})
        (grad,) = passes.gradients([weight])
        assert grad.tolist() == [expected]


PULL = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "pull" type: "CenterLoss" bottom: "fc" bottom: "label" top: "pull"
  param { lr_mult: RATE } center_loss_param { num_output: 5 } }
"""


def test_a_gradient_that_no_scale_reaches():
    """CenterLoss moves its centres by hand: as ever with bf16, refused by name with fp16."""
    batch = {"x": torch.randn(4, 3), "label": torch.tensor([0.0, 1, 2, 2])}
    found = []
    for amp in ("", "bf16"):
        torch.manual_seed(0)
        net = load(PULL.replace("RATE", "1"), phase="TRAIN")
        passes = ModePasses(net, Mode(amp=amp), torch.device("cpu"), RankGroup(Place()))
        passes.forward_backward(batch)
        found.append(passes.gradients([net.layer("pull").weight])[0])
    assert found[0].norm() > 0.1
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.02)
    mode, group = Mode(amp="fp16"), RankGroup(Place())
    with pytest.raises(SphereFaceError, match=r'"pull".*--amp fp16 .*expected --amp bf16'):
        ModePasses(load(PULL.replace("RATE", "1"), phase="TRAIN"), mode, torch.device("cpu"), group)
    ModePasses(load(PULL.replace("RATE", "0"), phase="TRAIN"), mode, torch.device("cpu"), group)


def test_the_loss_scale_goes_on_after_a_resume(tmp_path):
    """Whatever the scale was, the snapshot brings it back; a run in float32 says that it cannot."""
    from sphereface.solver import Solver
    from sphereface.solver.modes import ModeNets
    from sphereface.solver.records import SolverCallback

    class Messages(SolverCallback):
        def __init__(self) -> None:
            self.told: list[str] = []

        def on_message(self, text: str) -> None:
            self.told.append(text)

    def made(mode: Mode) -> Solver:
        nets = ModeNets(mode, RankGroup(Place()), DataOptions(0, seed=1))
        messages = Messages()
        solver = Solver(str(tmp_path / "solver.prototxt"), nets=nets, callbacks=[messages])
        solver.messages = messages
        return solver

    write_training(tmp_path, "max_iter: 8")
    first = made(Mode(amp="fp16"))
    first.step(2)
    state = {"loss scale of fp16": 4096.0, "iterations at that scale": 17}
    assert first.passes.state().keys() == state.keys()
    first.passes.restore(state)
    files = first.snapshot()
    second = made(Mode(amp="fp16"))
    second.restore(files.state)
    assert second.passes.state() == state
    assert second.messages.told == []
    plain = made(Mode())
    plain.restore(files.state)
    assert plain.messages.told == ["loss scale of fp16 4096 is dropped"]
    plain_files = plain.snapshot()
    second.restore(plain_files.state)
    assert second.passes.state() == state  # nothing is known of a scale: it stays


def test_an_unknown_precision_is_refused():
    with pytest.raises(SphereFaceError, match='--amp: "int8"; expected bf16 or fp16'):
        Mode(amp="int8")


def test_the_loss_scale_grows_and_falls_as_gradscalers():
    """torch.amp.GradScaler on the same gradients, iteration by iteration."""
    net = load(NET, phase="TRAIN")
    passes = ModePasses(net, Mode(amp="fp16"), torch.device("cpu"), RankGroup(Place()))
    passes.restore({"loss scale of fp16": 1024.0, "iterations at that scale": 1997})
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2000)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler.scale(torch.zeros(()))  # makes its tensors
    scaler.load_state_dict({**scaler.state_dict(), "_growth_tracker": 1997})
    for gradient in (1.0, 2.0, 4.0, float("inf"), 8.0, float("nan")):
        (blob,) = net.parameters()
        scale = passes.state()["loss scale of fp16"]
        assert scale == scaler.get_scale()
        blob.grad = torch.full_like(blob, gradient * scale)
        weight.grad = torch.full_like(weight, gradient * scale)
        (found,) = passes.gradients([blob])
        expected = gradient if np.isfinite(gradient) else 0.0
        assert found.tolist() == torch.full_like(blob, expected).tolist()
        scaler.step(optimizer)
        scaler.update()
    state = passes.state()
    assert state == {
        "loss scale of fp16": scaler.get_scale(),
        "iterations at that scale": scaler.state_dict()["_growth_tracker"],
    }
    assert state["loss scale of fp16"] == 512.0
