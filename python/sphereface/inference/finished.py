"""Whether a file of features is already what a command would make of the same settings.

What a result depends on is kept beside it, in ``OUTPUT.meta.json``. A result appears whole or not
at all, so there is nothing partial to go on with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sphereface.files import atomic_path, read_text

__all__ = ["file_digest", "finish", "forget", "is_finished", "names_digest"]

_LIMIT = 1 << 20
_BLOCK = 1 << 20


def is_finished(output: str | os.PathLike[str], settings: Mapping[str, Any]) -> bool:
    """Tell whether `output` is there and is known to have been made of `settings`."""
    meta = _meta(output)
    if not Path(output).exists() or not meta.is_file():
        return False
    known: bool = _read(meta) == json.loads(json.dumps(settings))
    return known


def finish(output: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Note that `output` is whole and what it was made of."""
    with atomic_path(_meta(output)) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def forget(output: str | os.PathLike[str]) -> None:
    """Drop the note before `output` is replaced: an interruption must not leave it for another."""
    _meta(output).unlink(missing_ok=True)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return a hash of a file's content."""
    found = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def names_digest(names: Iterable[str]) -> str:
    """Return a hash of names in their order."""
    found = hashlib.blake2b(digest_size=16)
    for name in names:
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()


def _meta(output: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(output)}.meta.json")


def _read(meta: Path) -> Any:
    try:
        return json.loads(read_text(meta, limit=_LIMIT, what="note of a result's settings"))
    except ValueError:
        return None
