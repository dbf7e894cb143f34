from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.solver import Action, Solver
from sphereface.solver.passes import share_trained_layers

DATA = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
"""
NET = (
    'name: "n"'
    + DATA
    + """
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "head" type: "MarginInnerProduct" bottom: "fc" bottom: "label" top: "head"
        top: "lambda" include { phase: TRAIN }
        margin_inner_product_param { num_output: 3 type: DOUBLE base: 10 gamma: 1 lambda_min: 1
                                     weight_filler { type: "xavier" } } }
layer { name: "head" type: "MarginInnerProduct" bottom: "fc" bottom: "label" top: "head"
        top: "lambda" include { phase: TEST }
        margin_inner_product_param { num_output: 3 type: DOUBLE base: 10 gamma: 1 lambda_min: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "head" bottom: "label" top: "loss"
        loss_weight: 2 }
layer { name: "accuracy" type: "Accuracy" bottom: "head" bottom: "label" top: "accuracy"
        include { phase: TEST not_stage: "plain" } }
"""
)
SOLVER = (
    'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" test_interval: 2 test_iter: 3 '
    'test_iter: 1 test_state {} test_state { stage: "plain" } test_compute_loss: true '
)


class Batches:
    shapes: ClassVar = {}

    def __init__(self, seed: int) -> None:
        self.rng, self.drawn = np.random.default_rng(seed), []

    def next_batch(self):
        self.drawn.append(
            {
                "data": self.rng.normal(size=(4, 3)).astype(np.float32),
                "label": self.rng.integers(0, 3, 4).astype(np.float32),
            }
        )
        return self.drawn[-1]

    def state(self):
        return {}

    def restore(self, state) -> None:
        pass


@pytest.fixture
def solver(folder, recording):
    def build(text: str = SOLVER, **options) -> Solver:
        (folder / "net.prototxt").write_text(NET)
        return Solver(
            text, open_source=lambda graph, phase: Batches(phase == "TEST"),
            callbacks=[recording], **options,
        )  # fmt: skip

    return build


def test_scores_are_means_over_test_iter(solver, recording):
    made = solver()
    made.step(2)
    made.test_all()
    first, second = recording.tests[-2:]
    assert (first.iteration, first.net, second.net) == (2, 0, 1)
    assert [score.name for score in first.scores] == ["accuracy", "lambda", "loss"]
    assert [score.name for score in second.scores] == ["lambda", "loss"]
    assert [score.loss_weight for score in first.scores] == [0, 0, 2]
    net = load(NET, phase="TEST")
    share_trained_layers(net, made.net)
    expected = [net(batch) for batch in map(as_tensors, made.test_sources[0].drawn[-3:])]
    for score in first.scores:
        mean = np.mean([outputs[score.name].item() for outputs in expected])
        assert score.value == pytest.approx(mean)
    assert first.loss == pytest.approx(2 * first.scores[2].value)


def as_tensors(batch):
    return {name: torch.from_numpy(value) for name, value in batch.items()}


def test_when_tests_run(solver, recording):
    solver().step(5)
    assert [test.iteration for test in recording.tests] == [0, 0, 2, 2, 4, 4]
    recording.tests.clear()
    solver(SOLVER + "test_initialization: false").step(3)
    assert [test.iteration for test in recording.tests] == [2, 2]


def test_solve_ends_with_a_test(solver, recording, folder):
    solver(SOLVER + "max_iter: 4 snapshot_after_train: false").solve()
    assert [test.iteration for test in recording.tests] == [0, 0, 2, 2, 4, 4]


def test_weights_and_lambda_are_the_train_nets(solver):
    made = solver()
    made.step(4)
    made.test_all()
    for net in made.test_nets:
        assert net.layer("head").weight is made.net.layer("head").weight
        assert int(net.layer("head").iteration) == 4
        assert not net.layer("head").training
    assert made.test_nets[0].layer("fc").bias is made.net.layer("fc").bias


def test_testing_changes_no_weight(solver):
    made = solver()
    made.step(1)
    before = [parameter.detach().clone() for parameter in made.net.parameters()]
    made.test_all()
    for parameter, old in zip(made.net.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_layers_without_a_partner_keep_their_fillers():
    trained = load(NET, phase="TRAIN")
    extra = NET + (
        'layer { name: "own" type: "InnerProduct" bottom: "fc" top: "own" inner_product_param '
        '{ num_output: 2 weight_filler { type: "constant" value: 3 } } }'
    )
    net = load(extra, phase="TEST")
    share_trained_layers(net, trained)
    assert (net.layer("own").weight == 3).all()


def test_other_shapes_are_refused():
    trained = load(NET, phase="TRAIN")
    net = load(NET.replace("num_output: 5", "num_output: 6"), phase="TEST")
    with pytest.raises(SphereFaceError, match=r'"fc".*\(6, 3\).* TEST; expected .*\(5, 3\)'):
        share_trained_layers(net, trained)


def test_stop_during_a_test(solver, recording):
    asked = iter([Action.NONE, Action.STOP])
    made = solver(action=lambda: next(asked))
    made.step(3)
    assert made.stopped
    assert made.iter == 0
    assert recording.tests == []
    assert recording.messages == ["Test interrupted."]


def test_end_of_the_test_data(solver):
    made = solver()

    def ended():
        raise StopIteration

    made.test_sources[0].next_batch = ended
    with pytest.raises(SphereFaceError, match="data of test net 0 ended; expected 3 batches"):
        made.test_all()
