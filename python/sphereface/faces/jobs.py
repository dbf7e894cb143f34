"""Long runs over many pictures: in batches, by several processes, and to be continued.

A run writes one line of JSON a picture to ``OUTPUT.part``, a batch at a time and in the order of
the pictures, and renames it at the end. After a kill the same command cuts a torn line off, goes
back to the last whole batch and continues, so that the result is that of one run, to the last
digit.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path, check_output
from sphereface.progress import Progress

__all__ = [
    "Journal",
    "Record",
    "Worker",
    "begun_with",
    "meta_path",
    "part_path",
    "read_lines",
    "run_job",
    "write_failures",
]

Record = dict[str, Any]
#: Turns a batch of items into a record each; made once in every process.
Worker = Callable[[Sequence[Any]], list[Record]]

_AHEAD = 2  # batches handed out per process


class Journal:
    """The lines that a run has written, kept over kills.

    Parameters
    ----------
    path : path
        The final file; ``.part`` and ``.part.meta.json`` are beside it while the run lasts, and
        ``.meta.json`` after it.
    meta : mapping
        What the lines depend on, as JSON. Another one ends a run that was begun.
    names : sequence of str
        The ``file`` of every line to come, in order.
    batch : int
        Lines that belong together.
    counted : str
        Field of a line with what was found or made, a list.
    overwrite : bool
        Replace `path`, and what another run began.
    still_there : callable
        Whether what a finished line tells of still exists.

    Attributes
    ----------
    counts : Counter
        Lines so far by their ``status``.
    things : int
        What was found or made so far.
    done : int
        Lines so far.
    finished : bool
        The same run has ended before: `path` is whole, and there is nothing to do.

    Raises
    ------
    SphereFaceError
        `path` exists, or a run with other settings was begun there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        meta: Mapping[str, Any],
        names: Sequence[str],
        batch: int,
        *,
        counted: str,
        overwrite: bool = False,
        still_there: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        self.path = Path(path)
        self._part = part_path(self.path)
        self.counted = counted
        self.counts: Counter[str] = Counter()
        self.things = self.done = 0
        self.finished = not overwrite and self._is_whole(meta, names, still_there)
        if self.finished:
            self._count(list(read_lines(self.path)))
            return
        check_output(path, overwrite=overwrite)
        self._begin(meta, overwrite)
        self._continue(names, batch)
        self._stream = self._part.open("ab")

    def append(self, records: Sequence[Record]) -> None:
        """Write a batch."""
        self._stream.write(b"".join(json_line(record) for record in records))
        self._stream.flush()
        self._count(records)

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self._stream.fileno())
        self.close()
        meta_path(self._part).replace(meta_path(self.path))
        self._part.replace(self.path)

    def close(self) -> None:
        """Leave the run as it is, to be continued."""
        self._stream.close()

    def _is_whole(
        self, meta: Mapping[str, Any], names: Sequence[str], still_there: Callable[[Record], bool]
    ) -> bool:
        beside = meta_path(self.path)
        if not (self.path.is_file() and beside.is_file() and beside.read_text() == _text(meta)):
            return False
        found = list(read_lines(self.path))
        same = [record["file"] for record in found] == list(names)
        return same and all(map(still_there, found))

    def _begin(self, meta: Mapping[str, Any], overwrite: bool) -> None:
        if begun_with(self.path, meta):
            return
        if self._part.is_file() and not overwrite:
            raise SphereFaceError(
                "a run with other settings was begun there",
                where=str(self._part),
                fix="repeat its settings to finish it, or --overwrite to begin again",
            )
        self._part.unlink(missing_ok=True)
        with atomic_path(meta_path(self._part)) as temporary:
            temporary.write_text(_text(meta))

    def _continue(self, names: Sequence[str], batch: int) -> None:
        size = 0
        for records, length in _whole_batches(self._part, names, batch):
            size += length
            self._count(records)
        with self._part.open("ab") as stream:
            stream.truncate(size)

    def _count(self, records: Sequence[Record]) -> None:
        self.done += len(records)
        self.counts.update(record["status"] for record in records)
        self.things += sum(len(record[self.counted]) for record in records)


def begun_with(path: Path, meta: Mapping[str, Any]) -> bool:
    """Whether a run towards `path` with the same `meta` is unfinished."""
    part = part_path(path)
    beside = meta_path(part)
    return part.is_file() and beside.is_file() and beside.read_text() == _text(meta)


def _text(meta: Mapping[str, Any]) -> str:
    return json.dumps(meta, indent=1, sort_keys=True)


def part_path(path: Path) -> Path:
    """Return where the lines are while the run lasts."""
    return path.with_name(f"{path.name}.part")


def meta_path(path: Path) -> Path:
    """Return the place of what a file of lines depends on."""
    return path.with_name(f"{path.name}.meta.json")


def json_line(record: Record) -> bytes:
    """Return a record as a line; names that are no UTF-8 are escaped."""
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(record) + "\n").encode()


def read_lines(path: Path) -> Iterator[Record]:
    """Yield the records of a file that `Journal` wrote; a torn last line ends them."""
    with path.open("rb") as stream:
        for line in stream:
            record = _record(line)
            if not record:
                return
            yield record


def _whole_batches(
    path: Path, names: Sequence[str], batch: int
) -> Iterator[tuple[list[Record], int]]:
    """Yield the batches that are whole and those of `names`, with their length in bytes."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for start in range(0, len(names), batch):
            expected = names[start : start + batch]
            lines = [stream.readline() for _ in expected]
            records = [_record(line) for line in lines]
            if [record.get("file") for record in records] != list(expected):
                return
            yield records, sum(map(len, lines))


def _record(line: bytes) -> Record:
    try:
        record = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) and "status" in record else {}


def run_job(
    journal: Journal,
    items: Sequence[Any],
    make_worker: Callable[[], Worker],
    *,
    batch: int,
    workers: int,
    label: str,
) -> None:
    """Do what `journal` lacks and finish it.

    Parameters
    ----------
    journal : Journal
    items : sequence
        One for each line.
    make_worker : callable
        Makes the worker of a process; with several processes it is pickled.
    batch : int
        Items that a worker gets at a time. The same in a run that is continued.
    workers : int
        Processes; 1 works in this one.
    label : str
        For the progress.

    Raises
    ------
    SphereFaceError
        A process died. What is done is kept, as after Ctrl-C.
    """
    if journal.finished:
        return
    left = [items[start : start + batch] for start in range(journal.done, len(items), batch)]
    results = _in_processes(left, make_worker, workers) if workers > 1 else None
    try:
        with Progress(len(items), label) as progress:
            progress.update(journal.done)
            for records in results or map(make_worker(), left):
                journal.append(records)
                progress.update(len(records), f"{journal.things} {journal.counted}")
        journal.finish()
    except BrokenProcessPool:
        raise SphereFaceError(
            f"a process died after {journal.done:,} of {len(items):,} pictures",
            fix="the machine may lack memory: try fewer --workers; the same command continues",
        ) from None
    finally:
        journal.close()


def _in_processes(
    batches: Sequence[Sequence[Any]], make_worker: Callable[[], Worker], workers: int
) -> Iterator[list[Record]]:
    context = multiprocessing.get_context("spawn")
    threads = max((os.cpu_count() or 1) // workers, 1)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(make_worker, threads)
    )
    try:
        pending: deque[Future[list[Record]]] = deque()
        for records in batches:
            pending.append(pool.submit(_work, records))
            if len(pending) > _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Worker | None = None


def _begin(make_worker: Callable[[], Worker], threads: int) -> None:
    global _worker
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker = make_worker()


def _follow_parent() -> None:
    # A killed parent leaves the pool's processes waiting for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(batch: Sequence[Any]) -> list[Record]:
    assert _worker is not None
    return _worker(batch)


def write_failures(path: Path, stage: str, records: Iterator[Record]) -> int:
    """Write a CSV of the records whose status is not ``ok``; return their number.

    Columns: path, stage, status, reason.
    """
    count = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(["path", "stage", "status", "reason"])
        for record in records:
            if record["status"] != "ok":
                count += 1
                writer.writerow([record["file"], stage, record["status"], record.get("reason", "")])
    return count
