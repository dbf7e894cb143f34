"""What the machine is: the card as nvidia-smi tells it, versions, the commit."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["Card", "describe", "find_card", "parse_card"]

_PACKAGES = ("torch", "numpy", "triton", "pytest", "protobuf", "lmdb", "liger-kernel",
             "cut-cross-entropy")  # fmt: skip


class Card(NamedTuple):
    """The first card."""

    name: str
    driver: str
    capability: str


def parse_card(text: str) -> Card | None:
    """Return the first line of ``nvidia-smi --query-gpu=name,driver_version,compute_cap``."""
    fields = [part.strip() for part in text.strip().partition("\n")[0].split(",")]
    if len(fields) != 3 or not fields[2].replace(".", "", 1).isdigit():
        return None
    return Card(*fields)


def find_card() -> Card | None:
    """Ask nvidia-smi for a card."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return parse_card(done.stdout) if done.returncode == 0 else None


def describe(card: Card | None, root: Path, pack: Path) -> dict[str, str]:
    """Return what the figures belong to; without git the pack's manifest tells the commit."""
    machine = {
        "device": card.name if card else "none",
        "driver": card.driver if card else "none",
        "capability": card.capability if card else "none",
        "python": platform.python_version(),
        "commit": _commit(root, pack),
        "pack": "present" if (pack / "manifest.json").exists() else "absent (make gpu-pack)",
    }
    for name in _PACKAGES:
        try:
            machine[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            machine[name] = "absent"
    return machine


def _commit(root: Path, pack: Path) -> str:
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    if (root / ".git").exists() and shutil.which("git"):
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    manifest = pack / "manifest.json"
    return json.loads(manifest.read_text())["commit"] if manifest.exists() else "unknown"
