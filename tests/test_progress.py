from __future__ import annotations

import io

import pytest

from sphereface.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(stream: io.StringIO, step: float, total: int) -> str:
    clock = Clock()
    with Progress(total, "job", stream, clock) as progress:
        for index in range(total):
            clock.now += step
            progress.update(note=f"n{index}")
    return stream.getvalue()


def test_a_pipe_gets_a_line_every_five_seconds() -> None:
    assert run(io.StringIO(), step=2.5, total=5).splitlines() == [
        "job: 2/5 (40 %), 0.4/s, 8 s left n1",
        "job: 4/5 (80 %), 0.4/s, 2 s left n3",
        "job: 5/5 (100 %), 0.4/s, 12 s",
    ]


def test_a_terminal_line_is_rewritten() -> None:
    text = run(Terminal(), step=0.25, total=3)
    assert text.split("\r")[1:] == [
        "job: 1/3 (33 %), 4.0/s, 0 s left n0\x1b[K",
        "job: 2/3 (66 %), 4.0/s, 0 s left n1\x1b[K",
        "job: 3/3 (100 %), 4.0/s, 1 s\x1b[K\n",
    ]


def test_a_terminal_is_not_flooded() -> None:
    assert run(Terminal(), step=0.001, total=1000).count("\r") == 10


def test_long_times() -> None:
    lines = run(io.StringIO(), step=1800, total=4).splitlines()
    assert lines[0].endswith("1 h 30 min left n0")
    assert run(io.StringIO(), step=35, total=3).splitlines()[0].endswith("1 min 10 s left n0")


def test_a_failure_ends_the_line_and_goes_on() -> None:
    stream = Terminal()

    def fail() -> None:
        with Progress(3, "job", stream, Clock()) as progress:
            progress.update()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert stream.getvalue() == "\rjob: 1/3 (33 %), 0 s\x1b[K\n"


def test_a_job_without_steps() -> None:
    assert run(io.StringIO(), step=1, total=0) == "job: 0/0 (100 %), 0 s\n"
