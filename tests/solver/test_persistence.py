from __future__ import annotations

import json
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch

from sphereface.errors import SphereFaceError
from sphereface.solver import Solver
from sphereface.solver.sidecar import read_sidecar, write_sidecar
from sphereface.weights import load_weights, read_caffemodel, read_solverstate, write_solverstate

# Everything whose state a resume must bring back: dropout, BatchNorm, lambda, a recurrent state,
# random input from a filler, and shuffled data.
NET = """
name: "stateful"
layer { name: "data" type: "MemoryData" top: "data" top: "label"
        memory_data_param { batch_size: 16 channels: 1 height: 8 width: 8 } }
layer { name: "noise" type: "DummyData" top: "noise"
        dummy_data_param { shape { dim: 16 dim: 16 } data_filler { type: "gaussian" std: 0.01 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "norm1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "relu1" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc2" type: "InnerProduct" bottom: "conv1" top: "fc2"
        inner_product_param { num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc2" top: "fc2" }
layer { name: "sum" type: "Eltwise" bottom: "fc2" bottom: "noise" top: "sum" }
layer { name: "time" type: "Reshape" bottom: "sum" top: "time"
        reshape_param { shape { dim: 4 dim: 4 dim: 16 } } }
layer { name: "cont" type: "DummyData" top: "cont"
        dummy_data_param { shape { dim: 4 dim: 4 } data_filler { type: "constant" value: 1 } } }
layer { name: "rnn" type: "RNN" bottom: "time" bottom: "cont" top: "rnn"
        recurrent_param { num_output: 8 weight_filler { type: "uniform" min: -0.3 max: 0.3 } } }
layer { name: "rows" type: "Reshape" bottom: "rnn" top: "rows"
        reshape_param { shape { dim: 16 dim: 8 } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "rows" bottom: "label" top: "fc6" top: "lambda"
        margin_inner_product_param { num_output: 10 type: QUADRUPLE base: 1000 gamma: 0.12
                                     lambda_min: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""  # noqa: E501
SOLVER = (
    'base_lr: 0.05 weight_decay: 0.0005 lr_policy: "multistep" gamma: 0.1 '
    'stepvalue: 9 stepvalue: 15 max_iter: 20 snapshot_prefix: "run" '
)


class Shuffled:
    """Digits in random order, as a reader of data offers them."""

    shapes: ClassVar = {}

    def __init__(self, digits) -> None:
        self.images, self.labels = digits
        self.generator = np.random.default_rng(11)
        self.order, self.position = self.generator.permutation(len(self.images)), 0

    def next_batch(self):
        if self.position + 16 > len(self.order):
            self.order, self.position = self.generator.permutation(len(self.images)), 0
        rows = self.order[self.position : self.position + 16]
        self.position += 16
        return {"data": self.images[rows], "label": self.labels[rows]}

    def state(self):
        generator = json.loads(json.dumps(self.generator.bit_generator.state))
        return {"order": self.order, "position": self.position, "generator": generator}

    def restore(self, state) -> None:
        self.order, self.position = state["order"], state["position"]
        self.generator.bit_generator.state = state["generator"]


@pytest.fixture
def make(folder, digits, recording):
    def build(extra: str = "momentum: 0.9", seed: int = 7) -> Solver:
        (folder / "net.prototxt").write_text(NET)
        return Solver(
            f'net: "net.prototxt" random_seed: {seed} {SOLVER} {extra}',
            open_source=lambda graph, phase: Shuffled(digits),
            callbacks=[recording],
        )

    return build


def everything(solver: Solver) -> list[np.ndarray]:
    tensors = [*solver.net.state_dict().values(), *solver.updater.history]
    return [tensor.detach().numpy().copy() for tensor in tensors]


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_resumed_run_is_bit_equal(kind, make, rng):
    extra = f'type: "{kind}"' + (" momentum: 0.9" * (kind not in ("AdaGrad", "RMSProp")))
    stop = int(rng.integers(1, 20))
    straight = make(extra)
    straight.solve()
    expected = everything(straight)
    interrupted = make(extra)
    interrupted.step(stop)
    interrupted.snapshot()
    torch.manual_seed(99)
    resumed = make(extra, seed=12345)
    resumed.solve(resume=f"run_iter_{stop}.solverstate")
    assert resumed.iter == 20
    found = everything(resumed)
    assert len(found) == len(expected) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_iter_size_and_tests_resume_too(make):
    extra = "iter_size: 2 test_iter: 2 test_interval: 3"
    straight = make(extra)
    straight.solve()
    interrupted = make(extra)
    interrupted.step(7)
    interrupted.snapshot()
    resumed = make(extra)
    resumed.restore("run_iter_7.solverstate")
    recording = resumed.callbacks[0]
    tests = len(recording.tests)
    resumed.solve()
    resumed_tests = [test.scores for test in recording.tests[tests:]]
    straight_tests = [test.scores for test in recording.tests[3:7]]
    assert resumed_tests == straight_tests
    for ours, theirs in zip(everything(resumed), everything(straight), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_without_the_sidecar_counters_follow_from_the_iteration(make, folder, recording):
    solver = make("iter_size: 2")
    solver.step(3)
    files = solver.snapshot()
    files.sidecar.unlink()
    resumed = make("iter_size: 2")
    resumed.restore(files.state)
    assert int(resumed.net.layer("fc6").iteration) == 6
    assert recording.messages[-1].startswith("No run_iter_3.solverstate.npz")
    assert "fc6 6" in recording.messages[-1]


def test_a_reversed_gradient_goes_on_without_the_sidecar(regression, rows, folder):
    net = """
    layer { name: "data" type: "Input" top: "data" top: "label"
            input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
            inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
    layer { name: "scaler" type: "GradientScaler" bottom: "fc" top: "scaler"
            gradient_scaler_param { max_iter: 20 alpha: 2 } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "scaler" bottom: "label" top: "loss" }
    """
    text = 'base_lr: 0.01 momentum: 0.5 lr_policy: "fixed" iter_size: 2 snapshot_prefix: "run"'
    batches = rows(12)
    straight, interrupted, resumed = (regression(text, net) for _ in range(3))
    straight.step(6, batches)
    interrupted.step(3, batches[:6])
    files = interrupted.snapshot()
    files.sidecar.unlink()
    resumed.restore(files.state)
    assert int(resumed.net.layer("scaler").iteration) == 6
    assert "scaler 6" in resumed.callbacks[0].messages[-1]
    resumed.step(3, batches[6:])
    for ours, theirs in zip(everything(resumed), everything(straight), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_snapshot_diff_holds_the_update(regression, rows, folder):
    solver = regression(
        'base_lr: 0.1 momentum: 0.5 lr_policy: "fixed" snapshot_diff: true snapshot_prefix: "d"'
    )
    solver.step(2, rows(2))
    before = solver.net.layer("fc").weight.detach().numpy().copy()
    solver.step(1, rows(1))
    solver.snapshot()
    after = load_weights("d_iter_3.caffemodel")["fc"][0]
    (blobs,) = [x.blobs for x in read_caffemodel("d_iter_3.caffemodel").layers if x.name == "fc"]
    assert np.abs(blobs[0].diff).max() > 0
    np.testing.assert_allclose(blobs[0].diff, before - after, atol=1e-7)
    assert blobs[1].diff.shape == (2,)


def test_snapshot_diff_in_hdf5(regression, rows, folder):
    solver = regression(
        'base_lr: 0.1 lr_policy: "fixed" snapshot_diff: true snapshot_prefix: "d" '
        "snapshot_format: HDF5"
    )
    solver.step(1, rows(1))
    solver.snapshot()
    with h5py.File("d_iter_1.caffemodel.h5") as file:
        diff = file["diff/fc/0"][()]
    np.testing.assert_array_equal(diff, solver.updater.history[0])
    assert np.abs(diff).max() > 0


def test_sidecar_with_random_numbers_of_another_kind(make, folder):
    solver = make()
    solver.step(1)
    files = solver.snapshot()
    sidecar = read_sidecar(files.sidecar)
    sidecar.generators["cpu"] = np.zeros(3, np.uint8)
    write_sidecar(files.sidecar, sidecar)
    with pytest.raises(SphereFaceError, match="no state of torch's random numbers"):
        make().restore(files.state)


def test_refused_restores_change_nothing(make, regression, folder):
    solver = make()
    solver.step(2)
    files = solver.snapshot()
    other = make('type: "Adam"')
    before = everything(other)
    with pytest.raises(SphereFaceError, match="history blobs; expected .* type Adam"):
        other.restore(files.state)
    for ours, theirs in zip(everything(other), before, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert other.iter == 0


def test_moved_snapshot_is_found_beside_its_state(make, folder):
    solver = make()
    solver.step(2)
    files = solver.snapshot()
    (folder / "kept").mkdir()
    for file in (files.model, files.state, files.sidecar):
        file.rename(folder / "kept" / file.name)
    resumed = make()
    resumed.restore(folder / "kept" / files.state.name)
    assert everything(resumed)[0].tobytes() == everything(solver)[0].tobytes()


def test_state_without_its_model(make, folder):
    solver = make()
    solver.step(1)
    files = solver.snapshot()
    files.model.unlink()
    with pytest.raises(SphereFaceError, match='caffemodel "run_iter_1.caffemodel" is missing'):
        make().restore(files.state)


def test_state_saved_by_another_program_in_between(make, folder):
    solver = make()
    solver.step(1)
    files = solver.snapshot()
    state = read_solverstate(files.state)
    write_solverstate(files.state, type(state)(7, state.learned_net, state.history, 0))
    with pytest.raises(SphereFaceError, match="of iteration 1; expected 7"):
        make().restore(files.state)
