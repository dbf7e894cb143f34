"""End trainings by accidents at random moments: the newest snapshot must load, and be right.

A process trains a small net (margin layer, dropout, BatchNorm, shuffled pictures or an LMDB). It
is killed (SIGKILL), terminated (SIGTERM), its log's reader leaves, the disk is full (a limit on
the size of files stands in for it), a picture is deleted, or the LMDB is cut. Every second
training goes on from the newest snapshot. After each accident the newest snapshot is restored and
compared, bit by bit, with a run that nothing happened to; and after those that leave the process
time for it, no iteration that the log told of may be missing.

    python tools/kill_resume.py --count 50
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from sphereface.caffe.open_net import DataOptions
from sphereface.data import ImagesetOptions, convert_imageset
from sphereface.errors import SphereFaceError
from sphereface.solver import CaffeLog, SignalActions, Solver, SolverCallback, newest_snapshot

BATCH, IMAGES, CLASSES = 32, 200, 10
PICTURES = f"""
layer {{ name: "data" type: "ImageData" top: "data" top: "label"
        image_data_param {{ source: "list.txt" root_folder: "pictures/" is_color: false
                           batch_size: {BATCH} shuffle: true }}
        transform_param {{ mean_value: 128 scale: 0.0078125 mirror: true }} }}"""
RECORDS = f"""
layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "records" backend: LMDB batch_size: {BATCH} }}
        transform_param {{ mean_value: 128 scale: 0.0078125 mirror: true }} }}"""
NET = f"""
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
    'net: "{net}.prototxt" base_lr: 0.001 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" '
    'gamma: 0.001 power: 0.75 snapshot_prefix: "{prefix}" random_seed: 1 display: 1 '
    "max_iter: 1000000 snapshot: {interval} snapshot_after_train: true"
)
INTERVAL = 3  # iterations between snapshots, where an accident leaves no time for one
LONGEST = 0.2  # seconds between a line of the log and the accident
ACCIDENTS = ("kill", "terminate", "reader", "disk", "picture", "lmdb")
NO_TIME = ("kill", "disk")


def write_data() -> None:
    """Write pictures of ten patterns, their list, an LMDB of them and the two nets."""
    rng = np.random.default_rng(3)
    patterns = rng.uniform(60, 190, (CLASSES, 8, 8))
    Path("pictures").mkdir()
    lines = []
    for number in range(IMAGES):
        label = int(rng.integers(CLASSES))
        noisy = patterns[label] + rng.normal(size=(8, 8)) * 30
        cv2.imwrite(f"pictures/{number}.png", np.clip(noisy, 0, 255).astype(np.uint8))
        lines.append(f"{number}.png {label}\n")
    Path("list.txt").write_text("".join(lines))
    convert_imageset("pictures/", "list.txt", "records", ImagesetOptions(gray=True))
    Path("pictures.prototxt").write_text(PICTURES + NET)
    Path("lmdb.prototxt").write_text(RECORDS + NET)


def make_solver(accident: str, callbacks: tuple[SolverCallback, ...] = (), **options) -> Solver:
    """Return the solver of an accident, at its start."""
    text = SOLVER.format(
        net="lmdb" if accident == "lmdb" else "pictures",
        prefix=accident,
        interval=INTERVAL if accident in NO_TIME else 0,
    )
    data = DataOptions(workers=2, seed=1)
    return Solver(text, open_source=data, callbacks=callbacks, device="cpu", **options)


def digest(solver: Solver) -> str:
    """Return a checksum of all that is trained."""
    value = hashlib.sha256()
    for tensor in (*solver.net.state_dict().values(), *solver.updater.history):
        value.update(tensor.detach().numpy().tobytes())
    return value.hexdigest()


class Undisturbed:
    """Checksums of a run that nothing happens to."""

    def __init__(self, accident: str) -> None:
        self._solver, self._rng = make_solver(accident), torch.get_rng_state()
        self._digests = {0: ""}

    def at(self, iteration: int) -> str:
        """Return the checksum after `iteration` updates."""
        before = torch.get_rng_state()
        torch.set_rng_state(self._rng)
        while max(self._digests) < iteration:
            self._solver.step(1)
            self._digests[self._solver.iter] = digest(self._solver)
        self._rng = torch.get_rng_state()
        torch.set_rng_state(before)
        return self._digests[iteration]

    def close(self) -> None:
        """End the data's threads."""
        self._solver.source.close()


class DiskIsFull(SolverCallback):
    """From an iteration on, files of this process may only have some bytes."""

    def __init__(self, iterations: int, size: int) -> None:
        self._left, self._size = iterations, size

    def on_forward(self, solver: Solver) -> None:
        """Count."""
        self._left -= 1
        if self._left == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._size))


def train(accident: str, resume: Path | None, log: int, rng: random.Random) -> None:
    """Train in a forked process until an accident; never returns."""
    try:
        with SignalActions() as action, os.fdopen(log, "w", buffering=1) as stream:
            callbacks: tuple[SolverCallback, ...] = (CaffeLog(stream),)
            if accident == "disk":
                callbacks += (DiskIsFull(rng.randint(2, 12), rng.randint(1, 40_000)),)
            make_solver(accident, callbacks, action=action).solve(resume=resume or "")
    except (SphereFaceError, OSError):
        os._exit(3)  # what a command would tell
    except BaseException as error:
        print(f"{accident}: {error!r}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def happen(accident: str, child: int, rng: random.Random) -> Callable[[], object]:
    """Let it happen; return what makes it good again."""
    if accident in ("kill", "terminate"):
        os.kill(child, signal.SIGKILL if accident == "kill" else signal.SIGTERM)
    if accident == "picture":
        picture = Path("pictures", f"{rng.randrange(IMAGES)}.png")
        return functools.partial(picture.rename(picture.with_suffix(".gone")).rename, picture)
    if accident == "lmdb":
        file = Path("records/data.mdb")
        whole = file.read_bytes()
        os.truncate(file, rng.randrange(len(whole) // 2))
        return functools.partial(file.write_bytes, whole)
    return lambda: None


def one(accident: str, number: int, rng: random.Random) -> tuple[int, int]:
    """Start a training and end it by an accident; return its status and the iterations told."""
    newest = newest_snapshot(accident)
    if number % 2 and accident not in NO_TIME:  # what starts anew may not lean on older ones
        for file in Path().glob(f"{accident}_iter_*"):
            file.unlink()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        train(accident, None if number % 2 else newest, writer, rng)
    os.close(writer)
    told, wait, make_good = 0, rng.randint(1, 8), lambda: None
    with os.fdopen(reader) as log:
        for line in log:
            if "Iteration " not in line or ", loss = " not in line:
                continue
            told = int(line.split("Iteration ")[1].split()[0]) + 1
            wait -= 1
            if wait == 0:
                time.sleep(rng.uniform(0, LONGEST))
                if accident == "reader":
                    break
                make_good = happen(accident, child, rng)
    _, status = os.waitpid(child, 0)
    make_good()
    return os.waitstatus_to_exitcode(status), told


@dataclass
class Outcome:
    """What the accidents left."""

    counts: dict[str, int] = field(default_factory=dict)
    right: int = 0
    in_snapshot: int = 0  # a half-written snapshot lay there
    problems: list[str] = field(default_factory=list)


def check(accident: str, told: int, reference: Undisturbed) -> str:
    """Return what is wrong with the newest snapshot; empty if nothing."""
    newest = newest_snapshot(accident)
    if newest is None:
        return "no snapshot" if told > INTERVAL or accident not in NO_TIME else ""
    solver = make_solver(accident)
    try:
        solver.restore(newest)
    except SphereFaceError as error:
        return str(error)
    finally:
        solver.source.close()
    if accident not in NO_TIME and solver.iter < told:
        return f"the snapshot is of iteration {solver.iter}, the log told of {told}"
    return "" if digest(solver) == reference.at(solver.iter) else f"iteration {solver.iter} differs"


def run(count: int, accidents: tuple[str, ...], seed: int) -> Outcome:
    """Let `count` accidents happen in the current folder and check what each leaves."""
    write_data()
    rng, outcome = random.Random(seed), Outcome()
    references = {accident: Undisturbed(accident) for accident in accidents}
    expected = {"kill": (-signal.SIGKILL,), "terminate": (0,)}
    for number in range(count):
        accident = accidents[number % len(accidents)]
        code, told = one(accident, number // len(accidents), rng)
        outcome.counts[accident] = outcome.counts.get(accident, 0) + 1
        outcome.in_snapshot += Path(f".{accident}.partial").exists()
        shutil.rmtree(f".{accident}.partial", ignore_errors=True)
        if code not in expected.get(accident, (3,)):
            problem = f"the training ended with {code}"
        else:
            problem = check(accident, told, references[accident])
        if problem:
            outcome.problems.append(f"{accident} {number}: {problem}")
        outcome.right += not problem
    for reference in references.values():
        reference.close()
    return outcome


def main() -> int:
    """Parse the command line, run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--accident", action="append", choices=ACCIDENTS, help="default: each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads do not survive a fork
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        outcome = run(options.count, tuple(options.accident or ACCIDENTS), options.seed)
        os.chdir("/")
    for problem in outcome.problems:
        print(problem)
    kinds = ", ".join(f"{count} {kind}" for kind, count in outcome.counts.items())
    print(
        f"{outcome.right} of {options.count} accidents ({kinds}) left a newest snapshot that loads "
        f"and equals the undisturbed run; {outcome.in_snapshot} came while one was being written"
    )
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
