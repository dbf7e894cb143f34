"""Figures of the steps: how a step prints one, and what is made of all of them.

A step prints a figure as one line, ``figure: {"name": ..., "value": ..., "unit": ...}``, as soon as
it has it, so that what a step had when its time was over is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["figure", "parse_line", "pytest_figures", "table", "write"]

_PREFIX = "figure: "
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error|errors|xfailed)\b")


def figure(name: str, value: float | str, unit: str = "") -> None:
    """Print a figure for the driver; a text as `value` says why there is no number."""
    print(_PREFIX + json.dumps({"name": name, "value": value, "unit": unit}), flush=True)


def parse_line(line: str) -> dict[str, Any] | None:
    """Return the figure of a line of output, None for any other line."""
    if not line.startswith(_PREFIX):
        return None
    try:
        found = json.loads(line[len(_PREFIX) :])
    except json.JSONDecodeError:
        return None  # the step was ended within the line
    return found if isinstance(found, dict) and {"name", "value", "unit"} <= set(found) else None


def pytest_figures(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Return the counts of pytest's last line and the names of what failed."""
    figures: list[dict[str, Any]] = []
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):
            figures.append({"name": line.split(" ", 1)[1].strip(), "value": "failed", "unit": ""})
    ends = [line for line in lines if _COUNT.search(line) and " in " in line]
    for count, kind in _COUNT.findall(ends[-1]) if ends else ():
        figures.append({"name": kind, "value": int(count), "unit": "tests"})
    return figures


def table(report: Mapping[str, Any]) -> str:
    """Return the report as text: the machine, then a line for each step and figure."""
    lines = [f"{key}: {value}" for key, value in report["machine"].items()]
    for step in report["steps"]:
        lines.append(f"\n{step['name']}: {step['state']}, {step['seconds']:.1f} s")
        for item in step["figures"]:
            value = item["value"]
            text = value if isinstance(value, str) else f"{value:.4g}"
            lines.append(f"  {item['name']:64} {text:>10} {item['unit']}".rstrip())
    return "\n".join(lines) + "\n"


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``results.json`` and ``table.txt``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.json", json.dumps(report, indent=1) + "\n"),
        ("table.txt", table(report)),
    ):
        beside = folder / f".{name}.part"
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / name)
