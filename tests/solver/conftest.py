"""Recorded runs of the original Caffe, and small solvers to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sphereface.solver import IterationRecord, Solver, SolverCallback, TestRecord

GOLDEN = Path(__file__).parent.parent / "golden" / "train"
RUNS = ("sgd", "adam", "adadelta", "sgd_clip_iter2")


class Recording(SolverCallback):
    """Keeps everything that a solver tells."""

    def __init__(self) -> None:
        self.records: list[IterationRecord] = []
        self.tests: list[TestRecord] = []
        self.messages: list[str] = []

    def on_iteration(self, record: IterationRecord) -> None:
        self.records.append(record)

    def on_test(self, record: TestRecord) -> None:
        self.tests.append(record)

    def on_message(self, text: str) -> None:
        self.messages.append(text)


@dataclass
class Run:
    """A recorded run: texts, initial and final weights, batches, loss and lambda."""

    net: str
    solver: str
    init: dict[str, list[np.ndarray]]
    final: dict[str, list[np.ndarray]]
    batches: list[dict[str, np.ndarray]]
    loss: np.ndarray
    lam: np.ndarray


def _weights(arrays: Any, folder: str) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for key in arrays.files:
        kind, _, rest = key.partition("/")
        if kind == folder:
            found.setdefault(rest.split("/")[0], []).append(arrays[key])
    return found


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.images / 16).astype(np.float32)[:, None], data.target.astype(np.float32)


@pytest.fixture(scope="session")
def recorded_run(digits: tuple[np.ndarray, np.ndarray]) -> Callable[[str], Run]:
    def read(name: str) -> Run:
        arrays = np.load(GOLDEN / f"{name}.npz")
        images, labels = digits
        return Run(
            str(arrays["net"]),
            str(arrays["solver"]),
            _weights(arrays, "init"),
            _weights(arrays, "final"),
            [{"data": images[rows], "label": labels[rows]} for rows in arrays["index"]],
            arrays["loss"],
            arrays["lam"],
        )

    return read


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recording() -> Recording:
    return Recording()


REGRESSION = """
name: "regression"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { lr_mult: 1 decay_mult: 2 }
        param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture
def regression(folder: Path, recording: Recording) -> Callable[..., Solver]:
    """Return ``regression(solver text, net text=REGRESSION, **options) -> Solver``."""

    def build(text: str, net: str = REGRESSION, **options: Any) -> Solver:
        (folder / "net.prototxt").write_text(net)
        options.setdefault("callbacks", [recording])
        return Solver(f'net: "net.prototxt" random_seed: 3 {text}', **options)

    return build


@pytest.fixture
def rows() -> Callable[[int], list[dict[str, np.ndarray]]]:
    """Return ``rows(count)``: different batches for the net of `regression`."""

    def make(count: int) -> list[dict[str, np.ndarray]]:
        rng = np.random.default_rng(5)
        return [
            {
                "data": rng.normal(size=(4, 3)).astype(np.float32),
                "label": rng.normal(size=(4, 2)).astype(np.float32),
            }
            for _ in range(count)
        ]

    return make
