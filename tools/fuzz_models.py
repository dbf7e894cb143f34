"""Feed mutated model files to the readers: nothing but SphereFaceError may come out.

Mutates recorded and small synthetic files, seeded, mostly where lengths, keys and shapes are.
Every input is read from a file, with its values touched, under limits of time and address space.
HDF5 runs in child processes, because a fault in libhdf5 would end this one. Inputs that break a
rule are kept; run number and seed reproduce each.

    python tools/fuzz_models.py --runs 100000 --hdf5-runs 5000 --keep /tmp/crashers
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.proto.wire import FIXED32, LENGTH, VARINT, encode_key, encode_varint
from sphereface.weights import (
    Blob,
    load_weights,
    read_binaryproto,
    read_caffemodel,
    read_solverstate,
    write_binaryproto,
    write_caffemodel,
    write_caffemodel_h5,
    write_solverstate,
)
from sphereface.weights.solverstate import SolverState

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
SECONDS, ADDRESS_SPACE, GROWTH = 1.0, 1 << 30, 64 << 20
HDF5_SECONDS = 5

INTERESTING = (
    b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01", b"\x80" * 10 + b"\x01", b"\xff" * 12, b"\x80" * 3 + b"\x00",
)  # fmt: skip


@dataclass
class Seed:
    """A valid file, and which of its bytes are not float payload."""

    name: str
    data: bytes
    structure: list[int]


@dataclass
class Tally:
    """What came of the inputs."""

    tried: int = 0
    accepted: int = 0
    slowest: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)


def arrays_of(kind: str, path: Path) -> Iterator[np.ndarray]:
    """Read a file as `kind` and yield every array in it."""
    if kind == "caffemodel":
        for layer in read_caffemodel(path).layers:
            yield from (blob.data for blob in layer.blobs)
            yield from (blob.diff for blob in layer.blobs if blob.diff is not None)
            _ = layer.header
    elif kind == "binaryproto":
        yield read_binaryproto(path)
    elif kind in ("solverstate", "solverstate.h5"):
        yield from read_solverstate(path).history
    else:
        for arrays in load_weights(path).values():
            yield from (array for array in arrays if array is not None)


def message(number: int, *parts: bytes) -> bytes:
    """Return a length-delimited field."""
    body = b"".join(parts)
    return encode_key(number, LENGTH) + encode_varint(len(body)) + body


def number(field_number: int, value: int) -> bytes:
    """Return a varint field."""
    return encode_key(field_number, VARINT) + encode_varint(value)


def old_formats() -> Iterator[tuple[str, bytes]]:
    """Yield caffemodels of the forms that no current writer makes."""
    four = np.arange(4, dtype="<f4").tobytes()
    legacy = b"".join(number(n, size) for n, size in ((1, 1), (2, 1), (3, 2), (4, 2)))
    packed = message(5, four)
    loose = b"".join(encode_key(5, FIXED32) + four[i : i + 4] for i in range(0, 16, 4))
    shape = message(7, message(1, b"\x02\x02"))
    loose_shape = message(7, number(1, 2), number(1, 2))
    raw = number(10, 2) + message(12, four[:8])
    yield "v1", message(2, message(4, b"ip"), number(5, 14), message(6, legacy, packed))
    yield "v0", message(2, message(1, message(1, b"ip"), message(50, legacy, loose)))
    for name, blob in (("loose", loose + loose_shape), ("fp16", raw + shape)):
        yield name, message(1, b"n") + message(100, message(1, b"ip"), message(7, blob))
    many = b"".join(message(5, four[:4]) + loose[:5] for _ in range(2))
    yield "chunks", message(100, message(1, b"ip"), message(7, many, shape), number(10, 1))


def seeds(kind: str, folder: Path) -> list[Seed]:
    """Return the files to mutate for a kind."""
    rng = np.random.default_rng(0)
    small = {
        "conv": [rng.normal(size=(2, 1, 3, 3)).astype("f4"), np.zeros(2, "f4")],
        "prelu": [np.float32(0.25).reshape(())],
        "bn/dw": [np.ones((2, 2)), np.zeros((0, 3), "f4")],
        "data": [],
    }
    made = folder / f"seed.{kind}"
    files: dict[str, bytes] = {}
    if kind == "caffemodel":
        layers = [(message(1, n.encode()) + number(10, 0), a) for n, a in small.items()]
        layers.append((message(1, b"diff"), [Blob(np.ones(2, "f4"), np.zeros(2, "f4"))]))
        write_caffemodel(made, "small", layers)
        files |= dict(old_formats())
        files["sgd"] = (GOLDEN / "train/sgd_iter_40.caffemodel").read_bytes()
    elif kind == "binaryproto":
        write_binaryproto(made, rng.normal(size=(1, 3, 2, 2)).astype("f4"))
        files["legacy"] = made.read_bytes()
        write_binaryproto(made, rng.normal(size=(2, 5)))
    elif kind == "solverstate":
        write_solverstate(made, SolverState(7, "a.caffemodel", small["conv"], 3))
        files["sgd"] = (GOLDEN / "train/sgd_iter_80.solverstate").read_bytes()
    elif kind == "caffemodel.h5":
        write_caffemodel_h5(made, small)
        files["sgd"] = (GOLDEN / "train/sgd_h5.caffemodel.h5").read_bytes()
    else:
        write_solverstate(made, SolverState(7, "a.caffemodel.h5", small["conv"], 3))
        files["sgd"] = (GOLDEN / "train/sgd_h5.solverstate.h5").read_bytes()
    files["small"] = made.read_bytes()
    return [Seed(name, data, structure(kind, data, folder)) for name, data in files.items()]


def structure(kind: str, data: bytes, folder: Path) -> list[int]:
    """Return the offsets of the bytes that are not the payload of an array."""
    path = folder / f"plain.{kind}"
    path.write_bytes(data)
    inside = np.zeros(len(data), bool)
    for array in arrays_of(kind, path):
        payload = array.tobytes()
        begin = data.find(payload) if len(payload) >= 16 else -1
        if begin >= 0:
            inside[begin : begin + len(payload)] = True
    return np.flatnonzero(~inside).tolist()


def mutate(rng: random.Random, pool: list[Seed]) -> bytes:
    """Return a file of `pool` with one to five changes."""
    seed = rng.choice(pool)
    data = bytearray(seed.data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if not data:
            break
        at = rng.choice(seed.structure) if rng.random() < 0.9 else rng.randrange(len(data))
        at = min(at, len(data) - 1)
        change = rng.randrange(9)
        if change == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[at] = rng.randrange(256)
        elif change == 2:
            data[at] = (data[at] + rng.choice((-1, 1, -8, 8))) % 256  # a length, or a wire type
        elif change == 3:
            del data[at:]
        elif change == 4:
            data[at : at + rng.randrange(1, 5)] = rng.choice(INTERESTING)
        elif change == 5:
            data[at:at] = rng.choice(INTERESTING)
        elif change == 6:
            del data[at : at + rng.choice((1, 2, 4, 8, 64))]
        elif change == 7:
            other = rng.choice(pool).data
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + rng.choice((1, 4, 16, 256))]
        else:
            data[at:at] = data[at : at + rng.choice((2, 8, 32, 512))] * rng.choice((1, 1, 8, 64))
    return bytes(data)


def attempt(kind: str, path: Path, data: bytes, tally: Tally) -> str:
    """Read one input and return what is wrong with the reader, or an empty string."""
    path.write_bytes(data)
    begin = time.perf_counter()
    try:
        for array in arrays_of(kind, path):
            np.bitwise_xor.reduce(np.frombuffer(array.tobytes(), np.uint8))
        tally.accepted += 1
        wrong = ""
    except SphereFaceError as error:
        tally.problems[error.problem.split(" (")[0].rstrip("0123456789")[:40]] += 1
        wrong = "" if str(path) in str(error) else f"error does not name the file: {error}"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    taken = time.perf_counter() - begin
    tally.tried += 1
    tally.slowest = max(tally.slowest, taken)
    limit = HDF5_SECONDS if kind.endswith("h5") else SECONDS
    return wrong or (f"took {taken:.2f} s" if taken > limit else "")


def peak_bytes() -> int:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz_here(kind: str, runs: int, seed: int, folder: Path, keep: Path | None) -> Tally:
    """Fuzz one kind of binary file in this process."""
    tally, pool, path = Tally(), seeds(kind, folder), folder / f"input.{kind}"
    for run in range(runs // 100):  # brings caches and allocator to their level
        attempt(kind, path, mutate(random.Random(f"warm-{seed}-{run}"), pool), Tally())
    before = peak_bytes()
    for run in range(runs):
        data = mutate(random.Random(f"{kind}-{seed}-{run}"), pool)
        wrong = attempt(kind, path, data, tally)
        if wrong:
            record(tally, kind, run, wrong, data, keep)
    grown = peak_bytes() - before
    if grown > GROWTH:
        tally.crashes.append(f"{kind}: memory grew by {grown >> 20} MiB")
    return tally


def fuzz_forked(kind: str, runs: int, seed: int, folder: Path, keep: Path | None) -> Tally:
    """Fuzz one kind of HDF5 file in a child; if it dies, the next one goes on after that input."""
    tally, pool, path = Tally(), seeds(kind, folder), folder / f"input.{kind}"
    shared = np.frombuffer(mmap.mmap(-1, 32), np.int64)  # current run, tried, accepted, slowest us
    wrongs, run = folder / "wrongs", 0
    while run < runs:
        wrongs.write_text("")
        child = os.fork()
        if child == 0:
            work(kind, range(run, runs), seed, pool, path, shared, wrongs)
        status = os.waitpid(child, 0)[1]
        lines = [line.split("\t") for line in wrongs.read_text().splitlines()]
        found = [(int(at), wrong) for at, wrong in lines]
        if status:
            shared[1] += 1
            found.append((int(shared[0]), f"killed by signal {os.WTERMSIG(status)}"))
        for at, wrong in found:
            data = mutate(random.Random(f"{kind}-{seed}-{at}"), pool)
            record(tally, kind, at, wrong, data, keep)
        run = int(shared[0]) + 1
    tally.tried, tally.accepted, tally.slowest = int(shared[1]), int(shared[2]), shared[3] / 1e6
    return tally


def work(
    kind: str, runs: range, seed: int, pool: list[Seed], path: Path, shared: np.ndarray, log: Path
) -> None:
    """Run inputs in a child and leave; the alarm's default action ends an input that hangs."""
    mine = Tally()
    with log.open("a", buffering=1) as stream:
        for run in runs:
            shared[0] = run
            signal.alarm(2 * HDF5_SECONDS)
            accepted = mine.accepted
            wrong = attempt(kind, path, mutate(random.Random(f"{kind}-{seed}-{run}"), pool), mine)
            if wrong:
                stream.write(f"{run}\t{' '.join(wrong.split())}\n")
            shared[1] += 1
            shared[2] += mine.accepted - accepted
            shared[3] = max(shared[3], int(mine.slowest * 1e6))
    os._exit(0)


def record(tally: Tally, kind: str, run: int, wrong: str, data: bytes, keep: Path | None) -> None:
    """Note a broken rule and keep its input."""
    tally.crashes.append(f"{kind} run {run}: {wrong}")
    if keep:
        (keep / f"{run}.{kind}").write_bytes(data)


def main() -> int:
    """Fuzz every kind and print the figures; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of the binary kinds")
    parser.add_argument("--hdf5-runs", type=int, default=4_000, help="inputs of the HDF5 kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that broke a rule")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE,) * 2)
    shares = {
        "caffemodel": options.runs * 6 // 10,
        "solverstate": options.runs * 2 // 10,
        "binaryproto": options.runs - options.runs * 8 // 10,
        "caffemodel.h5": options.hdf5_runs // 2,
        "solverstate.h5": options.hdf5_runs - options.hdf5_runs // 2,
    }
    broken = 0
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        for kind, runs in shares.items():
            fuzz = fuzz_forked if kind.endswith("h5") else fuzz_here
            begin = time.perf_counter()
            tally = fuzz(kind, runs, options.seed, Path(name), options.keep)
            seconds = time.perf_counter() - begin
            print(
                f"{kind}: {tally.tried} inputs, {tally.accepted} read, "
                f"{tally.tried - tally.accepted - len(tally.crashes)} refused, "
                f"{len(tally.crashes)} crashes, {tally.tried / max(seconds, 1e-9):.0f}/s, "
                f"slowest {1e3 * tally.slowest:.1f} ms",
                flush=True,
            )
            for problem, count in tally.problems.most_common(12):
                print(f"    {count:6d}  {problem}")
            for crash in tally.crashes[:20]:
                print(f"    {crash[:300]}")
            broken += len(tally.crashes)
    print(f"peak memory {peak_bytes() >> 20} MiB, seed {options.seed}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
