from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest

from reference.margin_figures import reference
from reference.tiny_training import write_training
from sphereface.solver import IterationRecord, Solver, SolverCallback
from sphereface.solver.margin_figures import MarginFigures
from sphereface.solver.plot_log import log_figure
from sphereface.solver.read_log import read_log
from sphereface.solver.training import LogOptions, TrainOptions, train
from sphereface.weights import load_weights

NET = """
layer { name: "data" type: "Input" top: "x" top: "label"
        input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "x" bottom: "label" top: "fc6"
        margin_inner_product_param { num_output: 7 type: QUADRUPLE base: 9 gamma: 0.12
        lambda_min: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""


def test_figures_of_iterations_are_means_over_their_passes(regression, recording):
    text = NET
    solver = regression(
        'base_lr: 0.1 lr_policy: "fixed" display: 2 iter_size: 2',
        text,
        callbacks=[MarginFigures(), recording],
    )
    rng = np.random.default_rng(1)
    batches = [
        {"x": rng.normal(size=(6, 5)).astype("f4"), "label": rng.integers(0, 7, 6).astype("f4")}
        for _ in range(6)
    ]
    weights = []

    class Weights(SolverCallback):
        def on_forward(self, solver: Solver) -> None:
            weights.append(solver.net.layer("fc6").weight.detach().numpy().copy())

        def on_iteration(self, record: IterationRecord) -> None:
            assert solver.net.layer("fc6").on_rows is None

    solver.callbacks.append(Weights())
    solver.step(3, batches)
    assert [bool(record.figures) for record in recording.records] == [True, False, True]
    for iteration in (0, 2):
        passes = batches[2 * iteration : 2 * iteration + 2]
        expected = np.mean(
            [reference(b["x"], weights[iteration], b["label"], True) for b in passes], axis=0
        )
        figures = recording.records[iteration].figures
        assert list(figures) == MarginFigures().columns(solver)
        np.testing.assert_allclose([float(v) for v in figures.values()], expected, rtol=1e-4)
        assert recording.records[iteration].scores[-1].name == "fc6/embedding_norm"


def test_a_training_tells_them_and_is_not_changed_by_them(tmp_path):
    logs = LogOptions(str(tmp_path), str(tmp_path / "run.csv"))
    ends = []
    for display in (1, 0):
        solver = write_training(tmp_path, f"max_iter: 12 display: {display}")
        train(TrainOptions(str(solver), gpu="none", logs=logs if display else LogOptions()))
        ends.append(load_weights(tmp_path / "tiny_iter_12.caffemodel"))
    for name, blobs in ends[0].items():
        for one, two in zip(blobs, ends[1][name], strict=True):
            np.testing.assert_array_equal(one, two)
    with (tmp_path / "run.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [f"fc6/{name}" for name in ("loss_without_margin", "accuracy_without_margin")]
    log = read_log(tmp_path / "solver.log")
    for name in names:
        assert len(log.train[name]) == 12
        assert [float(row[name]) for row in rows] == pytest.approx(
            [value for _, value in log.train[name]], rel=1e-4
        )
    assert log.train[names[0]][-1][1] < log.train[names[0]][0][1]
    panels = [ax.get_ylabel() for ax in log_figure([log]).axes]
    assert panels[:2] == ["loss", "lambda"]


def test_the_note_that_the_margin_lifts_the_loss(tmp_path):
    solver = write_training(tmp_path, "max_iter: 60 display: 1")
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("base: 100 gamma: 0.12 lambda_min: 5", "base: 0"))
    train(TrainOptions(str(solver), gpu="none", logs=LogOptions(str(tmp_path))))
    text = (tmp_path / "solver.log").read_text()
    notes = re.findall(
        r"Note: the loss (\S+) is above ln 4 = 1\.386, .*\(lambda is 0\); .* it is (\S+)\.", text
    )
    assert len(notes) == 1
    loss, plain = map(float, notes[0])
    assert loss > math.log(4) > plain


def test_no_note_without_a_margin(tmp_path):
    solver = write_training(tmp_path, "max_iter: 10 display: 1")
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("QUADRUPLE", "SINGLE"))
    train(TrainOptions(str(solver), gpu="none", logs=LogOptions(str(tmp_path))))
    assert "Note:" not in (tmp_path / "solver.log").read_text()


def test_the_note_of_a_cosine_margin(tmp_path):
    """m so large that the loss of a net that knows its classes stays above that of a guess."""
    solver = write_training(tmp_path, "max_iter: 60 display: 1")
    net = tmp_path / "net.prototxt"
    text, head = (
        net.read_text(),
        re.compile(r'layer \{ name: "fc6".*?\n\n?(?=layer \{ name: "loss")', re.S),
    )
    assert head.search(text)
    net.write_text(
        head.sub(
            """
layer { name: "norm" type: "Normalize" bottom: "fc5" top: "norm" }
layer { name: "cosine" type: "InnerProduct" bottom: "norm" top: "cosine"
  inner_product_param { num_output: 4 bias_term: false normalize: true
    weight_filler { type: "xavier" } } }
layer { name: "m" type: "LabelSpecificAdd" bottom: "cosine" bottom: "label" top: "m"
  label_specific_add_param { bias: -2 } }
layer { name: "fc6" type: "Scale" bottom: "m" top: "fc6" param { lr_mult: 0 }
  scale_param { axis: 0 num_axes: 0 filler { value: 4 } } }
""",
            text,
        )
    )
    train(TrainOptions(str(solver), gpu="none", logs=LogOptions(str(tmp_path))))
    log = (tmp_path / "solver.log").read_text()
    notes = re.findall(r"Note: the loss (\S+) is above .*\(its bias is -2\); .* is (\S+)\. ", log)
    assert len(notes) == 1
    loss, plain = map(float, notes[0])
    assert loss > math.log(4) > plain
    curves = read_log(tmp_path / "solver.log").train
    assert curves["cosine/target_cosine"][-1][1] > curves["cosine/target_cosine"][0][1]
