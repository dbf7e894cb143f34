"""`.safetensors`: the tensors of a state dict, and the net's prototxt beside them.

Source: the safetensors format, which holds tensors only and so runs no code. The prototxt is in
the metadata under ``prototxt``, so that such a file is a whole net. The package safetensors is an
extra.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import atomic_path

__all__ = ["read_safetensors", "write_safetensors"]


def write_safetensors(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], prototxt: str = ""
) -> None:
    """Write tensors and the text of their net.

    Tensors that share memory are written once each: the format knows no sharing.
    """
    package = _package()
    metadata = {"format": "pt"}
    if prototxt:
        # Comments may be in a legacy encoding; the metadata are UTF-8.
        metadata["prototxt"] = prototxt.encode("utf-8", "replace").decode("utf-8")
    # Copies, because the package refuses tensors that share memory.
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    with atomic_path(path) as temporary:
        package.torch.save_file(tensors, temporary, metadata)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a file by key.

    Raises
    ------
    SphereFaceError
        The file is damaged, or no safetensors file.
    """
    package = _package()
    try:
        tensors: dict[str, Tensor] = package.torch.load_file(path)
    except (package.SafetensorError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from None
    return tensors


def _package() -> Any:
    require("safetensors.torch", "safetensors")
    return require("safetensors", "safetensors")


def _damaged(path: str | os.PathLike[str], error: Exception) -> SphereFaceError:
    return SphereFaceError(
        f"damaged: {error}", where=os.fspath(path), expected="a safetensors file"
    )
