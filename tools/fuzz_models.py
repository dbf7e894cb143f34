"""Feed mutated files of every format to its reader: nothing but SphereFaceError may come out.

Mutates recorded and small synthetic files, seeded, mostly where lengths, keys and shapes are; of
text, words and lines too. Every input is read from a file, its values are touched, nets are built
and run, in child processes under limits of time and address space, so that a crash is counted and
does not end this one. Inputs that break a rule are kept; run number and seed reproduce each.

    python tools/fuzz_models.py --runs 20000 --keep /tmp/crashers
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import mmap
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from fuzz_kinds import KINDS, Kind

from sphereface.errors import SphereFaceError

ADDRESS_SPACE = 2 << 30
LONGEST_MESSAGE = 21_000

INTERESTING = (
    b"\x00", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01", b"\x80" * 10 + b"\x01", b"\xff" * 12, b"\x80" * 3 + b"\x00",
)  # fmt: skip
WORDS = (
    b"-1", b"0", b"2147483647", b"2147483648", b"-9223372036854775808", b"99999999999999999999",
    b"1e999", b"nan", b"-0.0", b"3.5", b"{", b"}", b":", b'"', b"'", b"[", b"]", b",", b"\n", b"\t",
    b"#", b"\xff\xfe", b"\x00", b"", b"true", b"null", b"MAX", b'""', b"\xc3\xa9",
)  # fmt: skip
NUMBERS = (b"0", b"1", b"2", b"3", b"5", b"7", b"16", b"100", b"-1", b"300", b"2147483647",
           b"4294967295", b"0.5", b"1e30")  # fmt: skip


@dataclass
class Seed:
    """A valid file, and which of its bytes are not float payload."""

    data: bytes
    structure: list[int]


@dataclass
class Tally:
    """What came of the inputs."""

    tried: int = 0
    accepted: int = 0
    slowest: float = 0.0
    peak: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def structure(kind: Kind, data: bytes, folder: Path) -> list[int]:
    """Return the offsets of the bytes that are not the payload of an array."""
    path = folder / f"plain{kind.suffix}"
    path.write_bytes(data)
    inside = np.zeros(len(data), bool)
    for array in kind.read(path):
        payload = array.tobytes()
        begin = data.find(payload) if len(payload) >= 16 else -1
        if begin >= 0:
            inside[begin : begin + len(payload)] = True
    return np.flatnonzero(~inside).tolist()


def mutate(rng: random.Random, pool: list[Seed], text: bool) -> bytes:
    """Return a file of `pool` with one to five changes."""
    seed = rng.choice(pool)
    data = bytearray(seed.data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if not data:
            break
        if text and rng.random() < 0.8:
            change_words(rng, data, pool)
            continue
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


def change_words(rng: random.Random, data: bytearray, pool: list[Seed]) -> None:
    """Change a number, put another word in a word's place, or move, repeat or drop a line."""
    numbers = [match.span() for match in re.finditer(rb"(?<![\w.])\d+(?![\w.])", data)]
    if numbers and rng.random() < 0.6:
        begin, end = rng.choice(numbers)
        data[begin:end] = rng.choice(NUMBERS)
        return
    unit = b"\n" if rng.random() < 0.3 else b" "
    parts = bytes(data).split(unit)
    at = rng.randrange(len(parts))
    change = rng.randrange(4)
    if change == 0:
        parts[at] = rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(parts)
    elif change == 1:
        parts[at:at] = [rng.choice(rng.choice(pool).data.split(unit))]
    elif change == 2:
        del parts[at]
    else:
        parts[at] = parts[at] * rng.choice((2, 2, 100))
    data[:] = unit.join(parts)


def attempt(kind: Kind, path: Path, data: bytes, tally: Tally) -> str:
    """Read one input and return what is wrong with the reader, or an empty string."""
    path.write_bytes(data)
    begin = time.perf_counter()
    try:
        for array in kind.read(path):
            np.bitwise_xor.reduce(np.frombuffer(array.tobytes(), np.uint8))
        tally.accepted += 1
        wrong = ""
    except SphereFaceError as error:
        told = str(error)
        tally.problems[error.problem.split(" (")[0].rstrip("0123456789")[:40]] += 1
        wrong = "" if str(path) in told else f"error does not name the file: {error}"
        if len(told) > LONGEST_MESSAGE:
            wrong = f"a message of {len(told)} characters"
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}"
    taken = time.perf_counter() - begin
    tally.tried += 1
    tally.slowest = max(tally.slowest, taken)
    return wrong or (f"took {taken:.2f} s" if taken > kind.seconds else "")


def fuzz(kind: Kind, runs: int, seed: int, folder: Path, keep: Path | None) -> Tally:
    """Fuzz one format in a child; if it dies, the next one goes on after that input."""
    # Where a net and its solver lie, files of the seeds are found.
    pool = [Seed(data, structure(kind, data, folder)) for data in kind.seeds(folder).values()]
    tally, path = Tally(), folder / f"input{kind.suffix}"
    # Current run, tried, accepted, slowest in us, peak in KiB.
    shared = np.frombuffer(mmap.mmap(-1, 40), np.int64)
    wrongs, problems, run = folder / "wrongs", folder / "problems", 0
    while run < runs:
        wrongs.write_text("")
        problems.write_text("")
        child = os.fork()
        if child == 0:
            try:
                work(kind, range(run, runs), seed, pool, path, shared, wrongs, problems)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        found = [
            (int(at), wrong)
            for at, wrong in (line.split("\t") for line in wrongs.read_text().splitlines())
        ]
        if status:
            shared[1] += 1
            found.append(
                (int(shared[0]), f"the process ended with {os.waitstatus_to_exitcode(status)}")
            )
        for line in problems.read_text().splitlines():
            count, problem = line.split("\t")
            tally.problems[problem] += int(count)
        for at, wrong in found:
            tally.broken.append(f"{kind.name} run {at}: {wrong}")
            if keep:
                data = mutate(random.Random(f"{kind.name}-{seed}-{at}"), pool, kind.text)
                (keep / f"{at}{kind.suffix}").write_bytes(data)
        run = int(shared[0]) + 1
    tally.tried, tally.accepted = int(shared[1]), int(shared[2])
    tally.slowest, tally.peak = shared[3] / 1e6, int(shared[4]) * 1024
    return tally


def work(
    kind: Kind,
    runs: range,
    seed: int,
    pool: list[Seed],
    path: Path,
    shared: np.ndarray,
    wrongs: Path,
    problems: Path,
) -> None:
    """Run inputs in a child and leave; the alarm's default action ends an input that hangs."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable()
    with contextlib.suppress(OSError):  # what libraries print of damaged files
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE,) * 2)
    mine = Tally()
    with wrongs.open("a", 1, "utf-8", "backslashreplace") as stream:
        for run in runs:
            shared[0] = run
            signal.alarm(int(2 * kind.seconds) + 1)
            accepted = mine.accepted
            data = mutate(random.Random(f"{kind.name}-{seed}-{run}"), pool, kind.text)
            wrong = attempt(kind, path, data, mine)
            if wrong:
                stream.write(f"{run}\t{' '.join(wrong.split())[:500]}\n")
            shared[1] += 1
            shared[2] += mine.accepted - accepted
            shared[3] = max(shared[3], int(mine.slowest * 1e6))
            shared[4] = max(shared[4], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            if run % 1000 == 999:
                gc.collect()
    lines = (f"{count}\t{' '.join(what.split())}\n" for what, count in mine.problems.items())
    problems.write_text("".join(lines), "utf-8", "backslashreplace")
    os._exit(0)  # nothing of the parent's is to be closed


def main() -> int:
    """Fuzz every format and print the figures; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20_000, help="inputs of each format")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: every format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that broke a rule")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # threads do not survive a fork
    broken = 0
    memory = Path("/dev/shm")
    for name in options.kind or KINDS:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            tally = fuzz(KINDS[name], options.runs, options.seed, Path(folder), options.keep)
        seconds = time.perf_counter() - begin
        print(
            f"{name}: {tally.tried} inputs, {tally.accepted} read, "
            f"{tally.tried - tally.accepted - len(tally.broken)} refused, "
            f"{len(tally.broken)} broken rules, {tally.tried / max(seconds, 1e-9):.0f}/s, "
            f"slowest {1e3 * tally.slowest:.1f} ms, peak {tally.peak >> 20} MiB",
            flush=True,
        )
        for problem, count in tally.problems.most_common(12):
            print(f"    {count:6d}  {problem}")
        for wrong in tally.broken[:20]:
            print(f"    {wrong[:300]}")
        broken += len(tally.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
