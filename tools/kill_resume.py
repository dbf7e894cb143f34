"""Kill a training with SIGKILL at random moments: the newest snapshot must load, and be right.

A process trains a small digits-like net (margin layer, dropout, BatchNorm, shuffled data) with a
snapshot every few iterations; each goes on from the newest snapshot, every second one starts anew
and overwrites. After each kill the newest snapshot is restored and compared, bit by bit, with a run
that was never interrupted.

    python tools/kill_resume.py --kills 50
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from sphereface.errors import SphereFaceError
from sphereface.solver import Solver, newest_snapshot
from sphereface.solver.snapshot import read_snapshot

BATCH, IMAGES, CLASSES = 32, 500, 10
NET = f"""
name: "killed"
layer {{ name: "data" type: "MemoryData" top: "data" top: "label"
        memory_data_param {{ batch_size: {BATCH} channels: 1 height: 8 width: 8 }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "norm1" type: "BatchNorm" bottom: "conv1" top: "conv1" }}
layer {{ name: "relu1" type: "PReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "fc5" type: "InnerProduct" bottom: "conv1" top: "fc5"
        inner_product_param {{ num_output: 64 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "drop5" type: "Dropout" bottom: "fc5" top: "fc5" }}
layer {{ name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
        margin_inner_product_param {{ num_output: {CLASSES} type: QUADRUPLE base: 1000 gamma: 0.12
                                     lambda_min: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }}
"""  # noqa: E501
SOLVER = (
    'net: "net.prototxt" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" '
    'gamma: 0.001 power: 0.75 snapshot_prefix: "kill" random_seed: 1 snapshot: '
)


class Images:
    """Noisy pictures of ten patterns, in an order of its own; a source for a solver."""

    shapes: ClassVar = {}

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)
        self.labels = self.rng.integers(0, CLASSES, IMAGES)
        patterns = self.rng.normal(size=(CLASSES, 1, 8, 8))
        noise = self.rng.normal(size=(IMAGES, 1, 8, 8)) * 0.5
        self.images = (patterns[self.labels] + noise).astype(np.float32)

    def next_batch(self) -> dict[str, np.ndarray]:
        """Return a random batch."""
        rows = self.rng.integers(0, IMAGES, BATCH)
        return {"data": self.images[rows], "label": self.labels[rows].astype(np.float32)}

    def state(self) -> dict[str, Any]:
        """Return the generator's state."""
        return {"rng": self.rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.rng.bit_generator.state = state["rng"]


def make_solver(interval: int) -> Solver:
    """Return the solver, at its start."""
    return Solver(SOLVER + str(interval), open_source=lambda graph, phase: Images())


def digest(solver: Solver) -> str:
    """Return a checksum of all that is trained."""
    value = hashlib.sha256()
    for tensor in (*solver.net.state_dict().values(), *solver.updater.history):
        value.update(tensor.detach().numpy().tobytes())
    return value.hexdigest()


@dataclass
class Outcome:
    """What the kills left."""

    kills: int = 0
    in_snapshot: int = 0  # a half-written snapshot lay there
    failures: int = 0
    newest: int = 0


class Uninterrupted:
    """Checksums of a run that nobody kills."""

    def __init__(self, interval: int) -> None:
        self.solver, self.rng = make_solver(0), torch.get_rng_state()
        self.interval, self.digests = interval, {0: ""}

    def at(self, iteration: int) -> str:
        """Return the checksum after `iteration` updates."""
        torch.set_rng_state(self.rng)
        while max(self.digests) < iteration:
            self.solver.step(self.interval)
            self.digests[self.solver.iter] = digest(self.solver)
        self.rng = torch.get_rng_state()
        return self.digests[iteration]


def train_until_killed(interval: int, resume: bool, ready: int) -> None:
    """Train in a forked process; never returns."""
    try:
        solver = make_solver(interval)
        newest = newest_snapshot("kill")
        if resume and newest is not None:
            solver.restore(newest)
        os.write(ready, b"x")
        solver.step(10**9)
    finally:
        os._exit(1)


def kill_one(interval: int, resume: bool, seconds: float) -> bool:
    """Start a training, kill it `seconds` after its first iteration; tell whether it lived on."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        train_until_killed(interval, resume, writer)
    os.close(writer)
    started = os.read(reader, 1) == b"x"
    os.close(reader)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return started and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def run(kills: int, interval: int, longest: float, seed: int) -> Outcome:
    """Kill `kills` trainings in the current folder and check what each leaves."""
    Path("net.prototxt").write_text(NET)
    rng, outcome = random.Random(seed), Outcome()
    reference = Uninterrupted(interval)
    make_solver(interval).step(interval)  # so that there is a snapshot to lose
    for number in range(kills):
        if not kill_one(interval, number % 2 == 0, rng.uniform(0, longest)):
            raise SystemExit("the training ended by itself")
        outcome.kills += 1
        outcome.in_snapshot += Path(".kill.partial").exists()
        newest = newest_snapshot("kill")
        assert newest is not None
        solver = make_solver(interval)
        try:
            solver.restore(newest)
            outcome.newest = solver.iter
            right = digest(solver) == reference.at(solver.iter)
        except SphereFaceError as error:
            print(f"kill {number}: {error}")
            right = False
        outcome.failures += not right
    for state in Path().glob("kill_iter_*.solverstate"):
        assert read_snapshot(state).sidecar is not None
    return outcome


def main() -> int:
    """Parse the command line, run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--snapshot", type=int, default=3, help="iterations between snapshots")
    parser.add_argument("--longest", type=float, default=0.4, help="seconds before a kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        outcome = run(options.kills, options.snapshot, options.longest, options.seed)
        os.chdir("/")
    print(
        f"{outcome.kills - outcome.failures} of {outcome.kills} kills left a newest snapshot that "
        f"loads and equals the uninterrupted run; {outcome.in_snapshot} came while a snapshot was "
        f"being written; the last was of iteration {outcome.newest}"
    )
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
