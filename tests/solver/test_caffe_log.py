from __future__ import annotations

import datetime as dt
import io
import re

import numpy as np
import pytest

from sphereface.solver import CaffeLog

# What Caffe's tools/extra/parse_log.py and extract_seconds.py look for.
ITERATION = re.compile(r"Iteration (\d+)")
TRAIN_OUTPUT = re.compile(r"Train net output #(\d+): (\S+) = ([\.\deE+-]+)")
TEST_OUTPUT = re.compile(r"Test net output #(\d+): (\S+) = ([\.\deE+-]+)")
RATE = re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)")
NET = """
name: "LogNet"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 0.5 }
layer { name: "pair" type: "Reduction" bottom: "data" top: "pair" reduction_param { axis: 1 } }
"""  # noqa: E501
SOLVER = (
    'base_lr: 0.1 lr_policy: "multistep" gamma: 0.1 stepvalue: 3 display: 2 max_iter: 4 '
    'snapshot_prefix: "log" average_loss: 2 '
)


@pytest.fixture
def lines(regression, rows, recording):
    """Return the lines of a run, and what the run's records say."""

    def run(text: str = SOLVER, **options) -> list[str]:
        stream = io.StringIO()
        seconds = iter(range(0, 10_000, 2))
        log = CaffeLog(
            stream,
            clock=lambda: float(next(seconds)),
            now=lambda: dt.datetime(2017, 7, 21, 13, 5, 9, 42),
        )
        solver = regression(text, net=NET, callbacks=[log, recording], **options)
        for source in range(len(solver.test_sources)):
            solver.test_sources[source] = solver._tests.sources[source] = Endless(rows(1)[0])
        solver.solve(rows(5))
        return stream.getvalue().splitlines()

    return run


class Endless:
    def __init__(self, batch) -> None:
        self.batch = batch

    def next_batch(self):
        return self.batch

    def state(self):
        return {}


def test_every_line_has_glogs_prefix(lines):
    prefix = re.compile(r"I0721 13:05:09\.000042 +\d+ \w+\.cpp:\d+\] ")
    assert all(prefix.match(line) for line in lines())


def test_lines_of_a_run(lines, recording):
    text = [line.partition("] ")[2] for line in lines()]
    first, third = recording.records[0], recording.records[2]
    pair = third.outputs["pair"].tolist()
    assert text[:2] == ["Solving LogNet", "Learning Rate Policy: multistep"]
    assert text[2].startswith(f"Iteration 0 (0 iter/s, 2s/2 iters), loss = {first.loss:g}")
    at = next(i for i, line in enumerate(text) if line.startswith("Iteration 2"))
    top = third.outputs["loss"].item()
    assert text[at : at + 7] == [
        f"Iteration 2 (1 iter/s, 2s/2 iters), loss = {third.smoothed_loss:g}",
        f"    Train net output #0: loss = {top:g} (* 0.5 = {0.5 * top:g} loss)",
        *[f"    Train net output #{i + 1}: pair = {v:g}" for i, v in enumerate(pair)],
        "Iteration 2, lr = 0.1",
    ]
    assert text[at + 7 :] == [
        "MultiStep Status: Iteration 3, step = 1",
        "Snapshotting to binary proto file log_iter_4.caffemodel",
        "Snapshotting solver state to binary proto file log_iter_4.solverstate",
        text[-2],
        "Optimization Done.",
    ]
    assert re.fullmatch(r"Iteration 4, loss = [\d.e-]+", text[-2])


def test_parse_log_finds_everything(lines, recording):
    found = lines(SOLVER + "test_iter: 2 test_interval: 4 test_compute_loss: true")
    assert sum("Solving" in line for line in found) == 1
    iteration, train, test, rates = -1, {}, {}, {}
    for line in found:
        match = ITERATION.search(line)
        iteration = int(match[1]) if match else iteration
        month_day, clock = line.split()[:2]
        assert (month_day, clock) == ("I0721", "13:05:09.000042")
        for pattern, store in ((TRAIN_OUTPUT, train), (TEST_OUTPUT, test)):
            if match := pattern.search(line):
                store.setdefault(iteration, {})[match[2]] = float(match[3])
        if match := RATE.search(line):
            rates[iteration] = float(match[1])
    assert rates == {0: 0.1, 2: 0.1}
    assert set(train) == {0, 2}
    assert train[2]["loss"] == pytest.approx(recording.records[2].outputs["loss"].item(), rel=1e-5)
    assert set(test) == {0, 4}
    assert np.isfinite(test[4]["loss"])
    assert any("Test loss: " in line for line in found)
    assert any("Iteration 4, Testing net (#0)" in line for line in found)


def test_parse_log_sh_finds_its_columns(lines):
    found = lines(SOLVER)
    losses = [line.split()[8] for line in found if ", loss = " in line and "iter/s" not in line]
    assert len(losses) == 1
    assert [line.split()[8] for line in found if ", lr = " in line] == ["0.1", "0.1"]


def test_clipping_is_told(lines):
    found = lines(SOLVER + "clip_gradients: 1e-3")
    told = [line for line in found if "Gradient clipping" in line]
    assert len(told) == 2
    norm, limit, scale = map(float, re.findall(r"([\d.e-]+)(?= >|\) by|$)", told[0])[-3:])
    assert norm > limit == 0.001
    assert scale == pytest.approx(limit / norm, rel=1e-4)


def test_hdf5_is_told(lines):
    found = lines(SOLVER + "snapshot_format: HDF5")
    assert any("Snapshotting to HDF5 file log_iter_4.caffemodel.h5" in line for line in found)
