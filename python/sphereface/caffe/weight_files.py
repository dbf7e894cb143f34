"""Weights between files and built layers.

Source: Caffe's Net::CopyTrainedLayersFrom, ToProto and ToHDF5 (net.cpp). Matching and file formats
are those of sphereface.weights; this module puts the arrays into tensors and takes them out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe.layer import Layer
from sphereface.proto import schema
from sphereface.weights import (
    Blob,
    LoadReport,
    copy_blob,
    load_weights,
    match_weights,
    write_caffemodel,
    write_caffemodel_h5,
)

__all__ = ["copy_weights", "save_weights"]


def copy_weights(
    layers: Sequence[Layer],
    source: str | os.PathLike[str] | Mapping[str, Sequence[Any]],
    shared: Collection[tuple[int, int]],
    options: Mapping[str, Any],
    generator: torch.Generator | None,
) -> LoadReport:
    """Copy arrays into the layers of their names; layers left over run their fillers.

    Parameters
    ----------
    layers : sequence of Layer
        Of several with one name the first is meant, as in Caffe.
    source : path or mapping
        A caffemodel, or {layer name: [arrays]}.
    shared : collection of (int, int)
        Layer and blob index of the blobs that another layer owns.
    options : mapping
        Options of `match_weights`.
    generator : torch.Generator, optional
        For the fillers.
    """
    by_name: dict[str, Layer] = {}
    for layer in layers:
        by_name.setdefault(layer.name, layer)
    arrays_by_name, where = (
        (source, "") if isinstance(source, Mapping) else (load_weights(source), os.fspath(source))
    )
    report = match_weights(
        arrays_by_name,
        {name: [tuple(blob.shape) for blob in layer.blobs] for name, layer in by_name.items()},
        shared=[(layers[layer].name, blob) for layer, blob in shared],
        where=where,
        **options,
    )
    # Fillers first: a blob that a left layer shares with a loaded one keeps the loaded values.
    for layer in layers:
        if layer.name not in report.loaded or layer is not by_name[layer.name]:
            layer.fill(generator)
        layer.drop_fillers()
    for name, arrays in report.loaded.items():
        for blob, array in zip(by_name[name].blobs, arrays, strict=True):
            if array is not None:
                _copy(array, blob)
    return report


def save_weights(
    path: str | os.PathLike[str],
    net_name: str,
    layers: Sequence[Layer],
    shared: Collection[tuple[int, int]],
    diffs: bool = False,
) -> None:
    """Write a caffemodel, binary or (``.h5``) HDF5; HDF5 holds a shared blob once, as Caffe's."""
    stored = _with_diff if diffs else _array
    if Path(path).suffix != ".h5":
        records = ((_header(layer), [stored(blob) for blob in layer.blobs]) for layer in layers)
        write_caffemodel(path, net_name, records)
        return
    arrays = {
        layer.name: [
            None if (position, index) in shared else stored(blob)
            for index, blob in enumerate(layer.blobs)
        ]
        for position, layer in enumerate(layers)
    }
    write_caffemodel_h5(path, arrays)


def _copy(array: np.ndarray, blob: Tensor) -> None:
    out = blob.detach()
    if out.device.type == "cpu" and out.dtype == torch.float32 and out.is_contiguous():
        copy_blob(array, out.numpy())
    else:
        out.copy_(torch.from_numpy(np.array(array)))


def _array(blob: Tensor) -> np.ndarray:
    dtype = torch.float64 if blob.dtype == torch.float64 else torch.float32
    return blob.detach().to("cpu", dtype).contiguous().numpy()


def _with_diff(blob: Tensor) -> Blob:
    data = _array(blob)
    return Blob(data, np.zeros_like(data) if blob.grad is None else _array(blob.grad))


def _header(layer: Layer) -> bytes:
    param = type(layer.layer_param)()
    param.CopyFrom(layer.layer_param)
    param.ClearField("blobs")
    return schema.encode(param)
