"""Runs the blocks of a page of docs/journeys as a reader would, from top to bottom.

A block that names a file (```` ```prototxt train.prototxt ````) is written there; the lines of an
``sh`` block are run, ``sphereface`` in this process; a ``python`` block is run; the lines that a
``text`` block shows are printed by the block before it, in this order, ``...`` being anything. A
command whose comment says ``# Ctrl-C after iteration N`` is interrupted there, and
``# exit code N`` is its code.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interrupting import Interrupting
from sphereface.cli.main import main

__all__ = ["Block", "blocks_of", "run_page"]

JOURNEYS = Path(__file__).parents[2] / "docs" / "journeys"
_FENCE = re.compile(r"^```(\w+) ?([\w./-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it names or "", its text and where it begins."""

    kind: str
    file: str
    text: str
    line: int


def blocks_of(page: str) -> list[Block]:
    text = (JOURNEYS / page).read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], found[3], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def run_page(blocks: list[Block], capfd: Any, monkeypatch: Any) -> None:
    """Run the blocks in the current folder; fail with all that is not printed as they show."""
    printed, names, missing = "", {"__name__": "__page__"}, []
    for block in blocks:
        if block.kind == "text":
            missing += _missing(block, printed)
            continue
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
            continue
        capfd.readouterr()
        # In one stream, as a terminal shows it.
        with contextlib.redirect_stderr(sys.stdout):
            if block.kind == "python":
                exec(compile(block.text, f"line {block.line}", "exec"), names)
            else:
                assert block.kind == "sh", f"line {block.line}: nobody runs {block.kind}"
                for line in block.text.replace("\\\n", " ").splitlines():
                    _run_line(line, monkeypatch)
        printed = "".join(capfd.readouterr())
    assert not missing, "\n".join(missing)


def _missing(block: Block, printed: str) -> list[str]:
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    first, missing = 0, []
    for line in block.text.splitlines():
        if line.strip() == "...":
            continue
        parts = [re.escape(part) for part in " ".join(line.split()).split("...")]
        wanted = re.compile(".*".join(parts))
        places = [n for n in range(first, len(lines)) if wanted.fullmatch(lines[n])]
        if places:
            first = places[0] + 1
        else:
            missing.append(f'line {block.line}: no "{line}" from line {first} on of\n{printed}')
    return missing


def _run_line(line: str, monkeypatch: Any) -> None:
    command, _, note = line.partition("#")
    words = shlex.split(command)
    if not words:
        return
    stop = re.search(r"Ctrl-C after iteration (\d+)", note)
    wanted = re.search(r"exit code (\d+)", note)
    if words[0] == "sphereface":
        with monkeypatch.context() as patch:
            if stop:
                patch.setattr(sys, "stderr", Interrupting(f"Iteration {stop[1]} "))
            code = main(words[1:])
    elif words[:3] == ["python", "-m", "sphereface.pycaffe"]:
        code = subprocess.run([sys.executable, *words[1:]], check=False, env=_environment())
        code = code.returncode
    elif words[0] == "python":
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
        code = 0
    else:
        code = subprocess.run(["bash", "-ec", command], check=False).returncode
    assert code == (int(wanted[1]) if wanted else 0), f"exit code {code}: {line}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
