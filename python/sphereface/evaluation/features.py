"""Features of images by name: what ``sphereface extract`` writes, and other programs' text.

Read are ``.npz`` with ``path`` and ``features`` (never with pickles inside), text with a path and
its numbers on each line, as MagFace writes, and folders of MegaFace's ``.bin`` files, one an image:
four int32 (rows, 1, 4, 5: OpenCV's size of an element and code of float32), then float32. Images
are looked up by folder and name without suffix (``PERSON/PERSON_0001``), so that lists made for
.jpg fit features of .png crops.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.files import open_regular, read_bytes

__all__ = ["Features", "image_key", "person", "read_arrays", "read_features"]

_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"]
)
_MEGAFACE_LIMIT = 1 << 20


@dataclass
class Features:
    """S images' features.

    Attributes
    ----------
    path : list of S str
    features : ndarray of shape (S, K), float32
    where : str
        The file, for errors.
    """

    path: list[str]
    features: NDArray[np.float32]
    where: str
    _rows: dict[str, int] = field(init=False, repr=False)
    _files: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keys = [image_key(path) for path in self.path]
        self._rows = {key: row for row, key in enumerate(keys)}
        if len(self._rows) < len(keys):
            twice = next(row for row, key in enumerate(keys) if self._rows[key] != row)
            raise SphereFaceError(
                f'"{self.path[twice]}" and "{self.path[self._rows[keys[twice]]]}" have one name',
                where=self.where,
                expected="names that differ in folder or file, suffixes aside",
            )
        files = [key.rpartition("/")[2] for key in keys]
        self._files = {name: row for row, name in enumerate(files)}
        if len(self._files) < len(files):
            self._files = {}

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each name, -1 where there is none.

        A name finds its image by folder and file; where one of the two has no folder, by the file
        alone, if no two images have one file name.
        """
        flat = not any("/" in key for key in self._rows)
        rows = []
        for key in map(image_key, names):
            row = self._rows.get(key, -1)
            if row < 0 and (flat or "/" not in key):
                row = self._files.get(key.rpartition("/")[2], -1)
            rows.append(row)
        return np.array(rows, np.int64)

    @property
    def persons(self) -> list[str]:
        """Who is in each image."""
        return [person(path) for path in self.path]


def image_key(path: str) -> str:
    """Return folder and name of an image, without what is above and without the suffix.

    Examples
    --------
    >>> image_key("lfw-112X112/Aaron_Eckhart/Aaron_Eckhart_0001.jpg")
    'Aaron_Eckhart/Aaron_Eckhart_0001'
    """
    parts = list(PurePosixPath(path.replace("\\", "/")).parts[-2:])
    stem, _, suffix = parts[-1].rpartition(".")
    if f".{suffix.lower()}" in _SUFFIXES:
        parts[-1] = stem
    return "/".join(parts)


def person(path: str) -> str:
    """Return who is in an image: its folder; without one, its name less ``_0001``."""
    folder, _, name = image_key(path).rpartition("/")
    return folder or name.rpartition("_")[0] or name


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Return the arrays of an ``.npz`` file.

    Raises
    ------
    SphereFaceError
        It is none, or holds pickled objects, which are never loaded.
    """
    where = os.fspath(path)
    with open_regular(path, "features") as stream:
        try:
            with np.load(stream, allow_pickle=False) as data:
                return {name: data[name] for name in data.files}
        except Exception as error:  # what numpy and zipfile raise on damage is not documented
            raise SphereFaceError(
                f"no readable .npz ({error})", where=where, expected="arrays without pickles"
            ) from None


def read_features(path: str | os.PathLike[str]) -> Features:
    """Read features by image.

    Raises
    ------
    SphereFaceError
        The file does not hold a path and K finite numbers for each image.
    """
    where = os.fspath(path)
    if Path(path).is_dir():
        names, features = _read_megaface(Path(path))
    elif where.endswith(".npz"):
        arrays = read_arrays(path)
        if not {"path", "features"} <= set(arrays):
            raise SphereFaceError(
                f"holds {', '.join(sorted(arrays)) or 'nothing'}",
                where=where,
                expected="path and features, as sphereface extract writes them",
            )
        names, features = [str(name) for name in arrays["path"]], arrays["features"]
    else:
        names, features = _read_text(where)
    if features.ndim != 2 or len(features) != len(names) or not features.size:
        raise SphereFaceError(
            f"{len(names)} paths and features of shape {features.shape}",
            where=where,
            expected="features (images, K)",
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise SphereFaceError(
            f'the feature of "{names[bad[0]]}" is not finite, as are {bad.size - 1} more',
            where=where,
        )
    return Features(names, features.astype(np.float32, copy=False), where)


def _read_megaface(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    paths = sorted(folder.rglob("*.bin"))
    rows = [_megaface_feature(path) for path in paths]
    if len({len(row) for row in rows}) != 1:
        raise SphereFaceError(
            f"{len(paths)} .bin files, of features of {sorted({len(row) for row in rows})} numbers",
            where=os.fspath(folder),
            expected="MegaFace features of one length",
        )
    return [path.relative_to(folder).with_suffix("").as_posix() for path in paths], np.stack(rows)


def _megaface_feature(path: Path) -> NDArray[np.float32]:
    content = read_bytes(path, limit=_MEGAFACE_LIMIT, what="MegaFace feature")
    header = np.frombuffer(content[: len(content) // 4 * 4][:16], "<i4")
    if len(content) < 20 or header[1:].tolist() != [1, 4, 5] or header[0] * 4 != len(content) - 16:
        raise SphereFaceError(
            f"{len(content)} bytes that begin with {header.tolist()}",
            where=os.fspath(path),
            expected="int32 rows, 1, 4, 5, then as many float32 as rows",
        )
    return np.frombuffer(content, "<f4", offset=16)


def _read_text(where: str) -> tuple[list[str], NDArray[np.float32]]:
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    with open_regular(where, "features") as stream:
        for number, line in enumerate(stream, 1):
            text = line.decode("utf-8", "surrogateescape").split()
            if not text:
                continue
            try:
                row = np.array(text[1:], np.float32)
            except ValueError:
                row = np.empty(0, np.float32)
            if not row.size or (rows and len(row) != len(rows[0])):
                raise SphereFaceError(
                    f"{len(text) - 1} fields after the path",
                    where=f"{where}:{number}",
                    expected=f"{len(rows[0])} numbers" if rows else "a path and its numbers",
                )
            names.append(text[0])
            rows.append(row)
    return names, np.array(rows, np.float32)
