"""A training's numbers for TensorBoard, which is an extra, imported here only."""

from __future__ import annotations

import os

from sphereface.extras import require
from sphereface.solver.records import IterationRecord, SolverCallback, TestRecord
from sphereface.solver.tables import named_values

__all__ = ["TensorBoardLog"]


class TensorBoardLog(SolverCallback):
    """Writes ``train/loss``, ``train/lr``, every output, and ``test0/...``.

    Parameters
    ----------
    folder : path
        Of the event files.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require("tensorboard", "tensorboard")
        module = require("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(os.fspath(folder))

    def on_iteration(self, record: IterationRecord) -> None:
        """Write the values of an iteration that is to be displayed."""
        if record.display:
            values = {"loss": record.smoothed_loss, "lr": record.rate}
            self._write("train", {**named_values(record.scores), **values}, record.iteration)

    def on_test(self, record: TestRecord) -> None:
        """Write the scores of a test net."""
        loss = {} if record.loss is None else {"loss": record.loss}
        values = {**named_values(record.scores), **loss}
        self._write(f"test{record.net}", values, record.iteration)

    def close(self) -> None:
        """Close the files."""
        self._writer.close()

    def _write(self, group: str, values: dict[str, float], iteration: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, iteration)
        self._writer.flush()
