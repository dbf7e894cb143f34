"""docs/journeys/experiment.md, run from its first command to its last."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from journey_page import blocks_of, run_page
from sphereface.cli.main import main
from sphereface.solver.read_log import read_log
from sphereface.weights import load_weights

SIZE = (32, 28)
STRANGERS = ("Kim", "Lea", "Max", "Noa")


def write_pairs(path):
    """Write all 60 pairs of one of the strangers, and as many of two, in ten folds."""
    images = [(name, number) for name in STRANGERS for number in range(1, 7)]
    pairs = list(itertools.combinations(images, 2))
    same = [pair for pair in pairs if pair[0][0] == pair[1][0]]
    different = [pair for pair in pairs if pair[0][0] != pair[1][0]][::3][: len(same)]
    lines = ["10\t6"]
    for fold in range(10):
        part = slice(6 * fold, 6 * fold + 6)
        lines += [f"{a}\t{i}\t{j}" for (a, i), (_, j) in same[part]]
        lines += [f"{a}\t{i}\t{b}\t{j}" for (a, i), (b, j) in different[part]]
    path.write_text("\n".join(lines) + "\n")


def test_every_command_of_the_page(people, capfd, monkeypatch):
    people("people", ("Ann", "Bob", "Cleo", "Dan", "Eve", "Fay"), 12, SIZE)
    people("others", ("Gil", "Hal", "Ida", "Joe"), 6, SIZE)
    people("strangers", STRANGERS, 6, SIZE)
    write_pairs(Path("pairs.txt"))
    run_page(blocks_of("experiment.md"), capfd, monkeypatch)

    # The page says that the interrupted run ends as an uninterrupted one.
    resumed = load_weights("faces_iter_80.caffemodel")
    assert main(["train", "--solver", "solver.prototxt"]) == 0
    for name, blobs in load_weights("faces_iter_80.caffemodel").items():
        for one, two in zip(blobs, resumed[name], strict=True):
            np.testing.assert_array_equal(one, two)
    # And that finetuning begins with the trained layers.
    tuned = load_weights("finetuned_iter_80.caffemodel")
    assert tuned["fc6_others"][0].shape == (4, 32)
    moved = np.abs(tuned["conv1"][0] - resumed["conv1"][0]).max()
    assert 0 < moved < 0.1 * np.abs(resumed["conv1"][0]).max()
    assert len(read_log("logs/solver.log").train["loss"]) >= 4
    report = ["--json", "report.json"]
    command = ["evaluate", "--features", "features.npz", "--pairs", "pairs.txt"]
    assert main([*command, *report]) == 0
    assert json.loads(Path("report.json").read_text())["pairs"] == 120
