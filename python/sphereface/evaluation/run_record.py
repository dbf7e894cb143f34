"""What a result must say about where it came from, so that it can be made again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from sphereface.files import atomic_path, open_regular

__all__ = ["SCHEMA_VERSION", "run_record", "write_json"]

# Raised when a field changes its meaning or goes; new fields do not raise it.
SCHEMA_VERSION = 1


def run_record(
    command: str, options: dict[str, Any], inputs: Iterable[str | os.PathLike[str]]
) -> dict[str, Any]:
    """Return schema and package version, command, options, and the SHA-256 of every input."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sphereface": metadata.version("sphereface"),
        "command": command,
        "options": options,
        "inputs": {os.fspath(path): _sha256(path) for path in inputs},
    }


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write `content`, whole or not at all; NaN and infinity are an error, for JSON has none."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


def _sha256(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
