from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import pytest
import torch

from sphereface.errors import SphereFaceError
from sphereface.solver import records
from sphereface.solver.records import IterationRecord, Score
from sphereface.solver.tables import TableLog, named_values


def iteration(number, loss, display=True):
    outputs = {"lambda": torch.tensor([100.0]), "prob": torch.tensor([0.25, 0.75])}
    return IterationRecord(
        iteration=number,
        rate=0.5,
        display=display,
        samples=8,
        outputs=outputs,
        loss_weights={},
        losses=[torch.tensor(loss)],
    )


def net(**shapes):
    return SimpleNamespace(outputs=tuple(shapes), blob_shapes=shapes)


SOLVER = SimpleNamespace(
    net=net(**{"lambda": (1,), "prob": (2,)}), test_nets=[net(accuracy=())], callbacks=[]
)


def write(path, **options):
    seconds = iter(range(100))
    table = TableLog(path, clock=lambda: next(seconds), **options)
    table.on_solve(SOLVER)
    table.on_iteration(iteration(0, 2.5))
    table.on_iteration(iteration(1, 2.0, display=False))
    table.on_test(records.TestRecord(2, 0, [Score("accuracy", 0.5, 0.0)], 3.0))
    table.on_iteration(iteration(2, float("nan")))
    table.close()


def test_csv(tmp_path):
    write(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["iteration", "net", "seconds", "lr", "loss", "lambda", "prob", "prob[1]", "accuracy"],
        ["0", "train", "1", "0.5", "2.5", "100.0", "0.25", "0.75", ""],
        ["2", "test0", "2", "", "3.0", "", "", "", "0.5"],
        ["2", "train", "3", "0.5", "nan", "100.0", "0.25", "0.75", ""],
    ]


def test_json_lines(tmp_path):
    write(tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "iteration": 0, "net": "train", "seconds": 1, "lr": 0.5, "loss": 2.5, "lambda": 100.0,
        "prob": 0.25, "prob[1]": 0.75,
    }  # fmt: skip
    assert rows[1] == {"iteration": 2, "net": "test0", "seconds": 2, "loss": 3.0, "accuracy": 0.5}
    assert rows[2]["loss"] is None


def test_a_resumed_training_goes_on_with_the_file(tmp_path):
    write(tmp_path / "a.csv")
    write(tmp_path / "a.csv", append=True)
    assert (tmp_path / "a.csv").read_text().count("iteration") == 1
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 7
    write(tmp_path / "a.csv")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 4


def test_values_that_share_a_name():
    scores = [Score("a", 1.0, 0), Score("a", 2.0, 0), Score("b", 3.0, 0)]
    assert named_values(scores) == {"a": 1.0, "a[1]": 2.0, "b": 3.0}


def test_other_names_are_refused(tmp_path):
    with pytest.raises(SphereFaceError, match=r"a.txt: no table's name; expected .csv or .jsonl"):
        TableLog(tmp_path / "a.txt")
