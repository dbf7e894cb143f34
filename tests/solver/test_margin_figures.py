from __future__ import annotations

import csv
import math
import re

import numpy as np
import pytest
import torch

from reference.tiny_training import write_training
from sphereface.caffe import load
from sphereface.solver import IterationRecord, Solver, SolverCallback
from sphereface.solver.margin_figures import MarginFigures, batch_figures
from sphereface.solver.plot_log import log_figure
from sphereface.solver.read_log import read_log
from sphereface.solver.training import LogOptions, TrainOptions, train
from sphereface.weights import load_weights

NET = """
layer {{ name: "data" type: "Input" top: "x" top: "label"
        input_param {{ shape {{ dim: 6 dim: 5 }} shape {{ dim: 6 }} }} }}
layer {{ name: "fc6" type: "{type}" bottom: "x" bottom: "label" top: "fc6"
        {field} {{ num_output: 7 type: QUADRUPLE base: 9 gamma: 0.12 lambda_min: 5
        weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss"
        loss_param {{ ignore_label: -1 }} }}
"""
FIELDS = {
    "MarginInnerProduct": "margin_inner_product_param",
    "LargeMarginInnerProduct": "largemargin_inner_product_param",
}


def reference(x, weight, label, unit):
    """Means over rows with a class of loss, hit, cosine and norm, row by row in float64."""
    found = []
    for row, target in zip(x.astype(np.float64), label.astype(int), strict=True):
        if target < 0:
            continue
        norms = np.linalg.norm(weight.astype(np.float64), axis=1)
        products = weight.astype(np.float64) @ row
        scores = products / norms if unit else products
        loss = math.log(sum(math.exp(s - scores[target]) for s in scores))
        norm = np.linalg.norm(row)
        cosine = products[target] / norms[target] / norm
        found.append((loss, scores.argmax() == target, cosine, norm))
    return np.mean(np.array(found, np.float64), axis=0)


@pytest.mark.parametrize("kind", FIELDS)
def test_figures_of_a_batch(kind):
    torch.manual_seed(4)
    net = load(NET.format(type=kind, field=FIELDS[kind]), phase="TRAIN")
    layer = net.layer("fc6")
    x, label = torch.randn(6, 5) * 3, torch.tensor([0, 6, -1, 3, 2, 2])
    before = layer.weight.detach().clone()
    found = batch_figures(layer, x, label)
    expected = reference(x.numpy(), before.numpy(), label.numpy(), kind == "MarginInnerProduct")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert torch.equal(layer.weight, before)


def test_figures_of_iterations_are_means_over_their_passes(regression, recording):
    text = NET.format(type="MarginInnerProduct", field=FIELDS["MarginInnerProduct"])
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
