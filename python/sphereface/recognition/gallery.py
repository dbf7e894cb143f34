"""People and their embeddings in one file, searched exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation.features import read_arrays
from sphereface.extras import require
from sphereface.files import atomic_path

__all__ = ["Gallery", "Match"]

_VERSION = 1
_CHUNK = 1 << 16  # rows of a gallery that are multiplied at once: 128 MB at 512 numbers
_UNIT = 1e-3


@dataclass(frozen=True, slots=True)
class Match:
    """The person of a gallery who is nearest.

    Attributes
    ----------
    name : str
    score : float
        The cosine with the nearest of the person's pictures.
    source : str
        That picture.
    """

    name: str
    score: float
    source: str


class Gallery:
    """Embeddings of enrolled people.

    Parameters
    ----------
    names : sequence of str
        The person of each embedding.
    embeddings : array of shape (M, K)
        Of length 1.
    sources : sequence of str
        The picture of each.
    embedder : str
        `Embedder.identity` of the net that made them.
    label : str
        `Embedder.label` of it.

    Raises
    ------
    SphereFaceError
        Numbers that do not fit, or embeddings that are not of length 1.
    """

    def __init__(
        self,
        names: Sequence[str],
        embeddings: ArrayLike,
        sources: Sequence[str],
        *,
        embedder: str,
        label: str = "",
    ) -> None:
        rows = np.ascontiguousarray(embeddings, np.float32)
        if rows.ndim != 2 or not len(rows) or not len(names) == len(sources) == len(rows):
            raise SphereFaceError(
                f"{len(names)} names, {len(sources)} sources, embeddings of shape {rows.shape}",
                where="gallery",
                expected="a name and a source for each of (M, K) embeddings, M at least 1",
            )
        lengths = np.sqrt(np.einsum("ik,ik->i", rows, rows, dtype=np.float64))
        if not (np.abs(lengths - 1) < _UNIT).all():
            raise SphereFaceError("embeddings of other lengths", where="gallery", expected="1")
        self.names, self.sources = tuple(names), tuple(sources)
        self.embeddings: NDArray[np.float32] = rows
        self.embedder, self.label = embedder, label
        self._index: Any = None

    @property
    def people(self) -> list[str]:
        """The people, sorted."""
        return sorted(set(self.names))

    def check(self, embedder: str, label: str) -> None:
        """Refuse to compare with embeddings of another net.

        Raises
        ------
        SphereFaceError
            `embedder` is not the gallery's.
        """
        if embedder != self.embedder:
            raise SphereFaceError(
                f"a gallery of {self.label or self.embedder}",
                where="gallery",
                expected=f"one of {label}: embeddings of two nets cannot be compared",
                fix="enroll again, or use the gallery's model",
            )

    def use_faiss(self) -> None:
        """Search by FAISS's exact index from now on (``pip install "sphereface[faiss]"``)."""
        index = require("faiss", "faiss").IndexFlatIP(self.embeddings.shape[1])
        index.add(self.embeddings)
        self._index = index

    def search(self, embeddings: ArrayLike) -> list[Match]:
        """Return who is nearest to each of (N, K) embeddings of length 1; exact, in chunks.

        Raises
        ------
        SphereFaceError
            They have another number of values.
        """
        rows = np.ascontiguousarray(embeddings, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.embeddings.shape[1]:
            raise SphereFaceError(
                f"embeddings of shape {rows.shape}",
                expected=f"(N, {self.embeddings.shape[1]}), as the gallery's",
            )
        if self._index is not None:
            scores, places = self._index.search(rows, 1)
            best, at = scores[:, 0], places[:, 0]
        else:
            best, at = self._nearest(rows)
        return [
            Match(self.names[place], float(score), self.sources[place])
            for place, score in zip(at.tolist(), best.tolist(), strict=True)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the gallery as ``.npz``, without pickles."""
        meta = {"version": _VERSION, "embedder": self.embedder, "label": self.label}
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                meta=np.array(json.dumps(meta)),
                name=np.array(self.names),
                source=np.array(self.sources),
                embedding=self.embeddings,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Gallery:
        """Read what `save` wrote.

        Raises
        ------
        SphereFaceError
            It is no gallery.
        """
        arrays, where = read_arrays(path), os.fspath(path)
        try:
            meta = json.loads(str(arrays["meta"][()]))
            version, embedder, label = (meta[key] for key in ("version", "embedder", "label"))
            names, sources = (arrays[key].astype(str).tolist() for key in ("name", "source"))
            rows = arrays["embedding"].astype(np.float32)
        except (KeyError, ValueError, TypeError) as error:
            raise SphereFaceError(
                f"no gallery ({error})", where=where, expected="what `sphereface enroll` writes"
            ) from None
        if version != _VERSION:
            raise SphereFaceError(
                f"a gallery of version {version}", where=where, expected=f"{_VERSION}"
            )
        try:
            return cls(names, rows, sources, embedder=str(embedder), label=str(label))
        except SphereFaceError as error:
            raise error.at(where) from None

    def _nearest(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        best = np.full(len(rows), -np.inf, np.float32)
        at = np.zeros(len(rows), np.int64)
        for begin in range(0, len(self.embeddings), _CHUNK):
            scores = rows @ self.embeddings[begin : begin + _CHUNK].T
            places = scores.argmax(axis=1)
            top = scores[np.arange(len(rows)), places]
            better = top > best
            best[better], at[better] = top[better], begin + places[better]
        return best, at
