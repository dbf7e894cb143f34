"""A file from the network, whole or not at all.

What arrives is kept in ``NAME.part``, continued after a break, and gets its name when it is whole
and its sha256 is right. Mirrors are tried one after the other.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.progress import Progress

__all__ = ["DownloadError", "download", "file_sha256"]

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 18
_ATTEMPTS = 3  # at one mirror, after breaks
_PARTIAL = 206
_BEYOND = 416  # the server has no more than what we have
_SCHEMES = ("http://", "https://")


class DownloadError(SphereFaceError):
    """No mirror gave the file."""


class _BrokenError(Exception):
    """The connection ended early; what arrived is kept."""


def download(urls: Sequence[str], target: Path, sha256: str = "") -> str:
    """Fetch a file.

    Parameters
    ----------
    urls : sequence of str
        Mirrors, http or https.
    target : path
        In a folder that exists.
    sha256 : str
        What it must be; any without it.

    Returns
    -------
    str
        The sha256.

    Raises
    ------
    DownloadError
        No mirror answered, or none had the file of that hash; the error has each reason.
    """
    reasons = []
    for url in urls:
        try:
            found = _from(url, target, resumable=bool(sha256))
        except (OSError, http.client.HTTPException, _BrokenError, SphereFaceError) as error:
            reasons.append(f"{url}: {_reason(error)}")
            continue
        part = _part(target)
        if sha256 and found != sha256:
            part.unlink()
            reasons.append(f"{url}: sha256 {found}")
            continue
        part.replace(target)
        return found
    raise DownloadError(
        f"cannot be fetched ({'; '.join(reasons)})",
        where=target.name,
        expected=f"sha256 {sha256}" if sha256 else "",
    )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _from(url: str, target: Path, *, resumable: bool) -> str:
    if not url.startswith(_SCHEMES):
        raise SphereFaceError("no address", expected=" or ".join(_SCHEMES))
    part = _part(target)
    if not resumable:
        # Without a hash nothing tells that the rest belongs to what is there.
        part.unlink(missing_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch(url, part, target.name)
            break
        except _BrokenError:
            if attempt == _ATTEMPTS:
                raise
    return file_sha256(part)


def _fetch(url: str, part: Path, name: str) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _BEYOND and have:
                return  # whole already, or wrong: the hash will tell
        raise
    with response:
        _refuse_pages(response, name)
        begun = have if response.status == _PARTIAL else 0
        expected = begun + int(response.headers.get("Content-Length", -1 - begun))
        with (
            part.open("ab" if begun else "wb") as stream,
            Progress(max(expected, 0), f"get {name}") as progress,
        ):
            progress.update(begun)
            try:
                while data := response.read(_CHUNK):
                    stream.write(data)
                    progress.update(len(data))
            except (OSError, http.client.IncompleteRead) as error:
                raise _BrokenError(_reason(error)) from error
            got = stream.tell()
    if expected >= 0 and got != expected:
        raise _BrokenError(f"the connection ended after {got:,} of {expected:,} bytes")


def _refuse_pages(response: Any, name: str) -> None:
    # Google Drive answers with a page where a file is too large to scan, or gone.
    if response.headers.get_content_type() == "text/html" and not name.endswith(".html"):
        raise SphereFaceError("the server sent a web page", fix="open it in a browser")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error or type(error).__name__)
