from __future__ import annotations

import sys

import pytest
import torch

from sphereface.errors import SphereFaceError
from sphereface.solver import records
from sphereface.solver.tensorboard import TensorBoardLog


def test_values_by_net_and_iteration(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLog(tmp_path)
    for number in range(3):
        log.on_iteration(
            records.IterationRecord(
                iteration=number,
                rate=0.5,
                display=number != 1,
                samples=1,
                outputs={"lambda": torch.tensor([10.0 - number])},
                loss_weights={},
                losses=[torch.tensor(2.0 + number)],
            )
        )
    log.on_test(records.TestRecord(3, 1, [records.Score("accuracy", 0.75, 0.0)], 1.5))
    log.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    assert found == {
        "train/loss": [(0, 2), (2, 4)],
        "train/lr": [(0, 0.5), (2, 0.5)],
        "train/lambda": [(0, 10), (2, 8)],
        "test1/accuracy": [(3, 0.75)],
        "test1/loss": [(3, 1.5)],
    }


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SphereFaceError, match="tensorboard.* cannot be imported.*pip install"):
        TensorBoardLog(tmp_path)
