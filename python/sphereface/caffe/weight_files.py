"""Weights between files and built layers.

Source: Caffe's Net::CopyTrainedLayersFrom, ToProto and ToHDF5 (net.cpp). Matching and Caffe's
formats are those of sphereface.weights, torch's those of sphereface.checkpoints; this module puts
the arrays into tensors and takes them out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe.layer import Layer
from sphereface.checkpoints import read_checkpoint
from sphereface.errors import SphereFaceError
from sphereface.files import refuse_other_kinds
from sphereface.proto import schema
from sphereface.proto.text import write
from sphereface.weights import (
    Blob,
    LoadReport,
    StreamedArray,
    copy_blob,
    load_weights,
    match_weights,
    weight_format,
    write_caffemodel,
    write_caffemodel_h5,
)

__all__ = ["copy_weights", "read_weights", "save_weights"]

_EXPECTED = "weights: a caffemodel, .h5, .pt or .safetensors"

Arrays = dict[str, list[np.ndarray | None]]

# Caffe's order of all the blob names that one layer can have, for layers that no net tells about.
_ORDER = (
    "weight",
    "bias",
    "mean",
    "variance",
    "scale_factor",
    "weight_static",
    "weight_hidden",
    "weight_output",
    "bias_output",
)


def read_weights(
    path: str | os.PathLike[str],
    layers: Mapping[str, Layer] | None = None,
    rename: Mapping[str, str] | None = None,
) -> Arrays:
    """Return {layer name: [arrays]} of a file of weights, its format told by its content.

    Parameters
    ----------
    path : path-like
        A caffemodel, binary or HDF5; a state dict (``.pt``, ``.pth``), safetensors, or a checkpoint
        of clcarwin's sphere20a or OpenSphere's.
    layers : mapping of str to Layer, optional
        Prefix in the net's state dict to the layer, for the order of its blobs.
    rename : mapping of str to str, optional
        Layer in the file to layer of the net, as for `match_weights`.

    Raises
    ------
    SphereFaceError
        The file is damaged or holds no weights.
    """
    kind = weight_format(path)
    if kind == "text":
        refuse_other_kinds(path, _EXPECTED)
        raise SphereFaceError(
            "a text file",
            where=os.fspath(path),
            expected=_EXPECTED,
            fix="the prototxt comes before the weights",
        )
    if kind in ("safetensors", "torch"):
        return _by_layer(read_checkpoint(path), layers or {}, rename or {})
    return load_weights(path)


def copy_weights(
    layers: Mapping[str, Layer],
    source: str | os.PathLike[str] | Mapping[str, Sequence[Any]],
    shared: Collection[tuple[int, int]],
    options: Mapping[str, Any],
    generator: torch.Generator | None,
) -> LoadReport:
    """Copy arrays into the layers of their names; layers left over run their fillers.

    Parameters
    ----------
    layers : mapping of str to Layer
        Prefix in the state dict to layer, in the net's order. Of several with one name the first
        is meant, as in Caffe.
    source : path or mapping
        A file that `read_weights` reads, or {layer name: [arrays]}.
    shared : collection of (int, int)
        Layer and blob index of the blobs that another layer owns.
    options : mapping
        Options of `match_weights`.
    generator : torch.Generator, optional
        For the fillers.
    """
    order = list(layers.values())
    by_name: dict[str, Layer] = {}
    for layer in order:
        by_name.setdefault(layer.name, layer)
    if isinstance(source, Mapping):
        arrays_by_name, where = source, ""
    else:
        arrays_by_name = read_weights(source, layers, options.get("rename"))
        where = os.fspath(source)
    report = match_weights(
        arrays_by_name,
        {name: layer.stored_shapes for name, layer in by_name.items()},
        shared=[(order[layer].name, blob) for layer, blob in shared],
        where=where,
        **options,
    )
    # Fillers first: a blob that a left layer shares with a loaded one keeps the loaded values.
    for layer in order:
        if layer.name not in report.loaded or layer is not by_name[layer.name]:
            layer.fill(generator)
        layer.drop_fillers()
    for name, arrays in report.loaded.items():
        layer = by_name[name]
        for blob, array, shape in zip(layer.blobs, arrays, layer.stored_shapes, strict=True):
            if array is not None:
                whole = array.reshape(shape)
                _copy(whole if layer.part is None else whole[layer.part.rows], blob)
    return report


def save_weights(
    path: str | os.PathLike[str],
    net_name: str,
    layers: Sequence[Layer],
    shared: Collection[tuple[int, int]],
    diffs: bool = False,
    gathered: Callable[[Tensor], StreamedArray] | None = None,
) -> None:
    """Write a caffemodel, binary or (``.h5``) HDF5; HDF5 holds a shared blob once, as Caffe's.

    `gathered` returns the whole of a blob that is split over processes.
    """

    def stored(blob: Tensor) -> Any:
        if id(blob) in split:
            assert gathered is not None
            return gathered(blob)
        return _with_diff(blob) if diffs else _array(blob)

    split = {id(blob) for layer in layers if layer.part is not None for blob in layer.blobs}
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
    net = schema.message("NetParameter")(name=net_name)
    for layer in layers:
        net.layer.add().CopyFrom(schema.current(_definition(layer)))
    write_caffemodel_h5(path, arrays, write(net))


def _by_layer(
    state: Mapping[str, Tensor], layers: Mapping[str, Layer], rename: Mapping[str, str]
) -> Arrays:
    """Sort a state dict's tensors into layers; other buffers (a count of forwards) are no blobs."""
    stored = {target: source for source, target in rename.items()}
    arrays: Arrays = {}
    used: set[str] = set()
    for prefix, layer in layers.items():
        source = stored.get(layer.name, layer.name)
        if source != layer.name:
            prefix = source.replace(".", "%2E")
        names = [f"{prefix}.{name}" for name in layer.blob_names]
        if any(name in state for name in names):
            arrays.setdefault(source, [_tensor_array(state.get(name)) for name in names])
            used.update(names)
    left = [key for key in state if key not in used and state[key].is_floating_point()]
    for key in sorted(left, key=_rank):
        prefix = key.rpartition(".")[0]
        arrays.setdefault(prefix.replace("%2E", "."), []).append(_tensor_array(state[key]))
    return arrays


def _rank(key: str) -> int:
    name = key.rpartition(".")[2]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _tensor_array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else _array(tensor)


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
    return schema.encode(_definition(layer))


def _definition(layer: Layer) -> Any:
    param = type(layer.layer_param)()
    param.CopyFrom(layer.layer_param)
    param.ClearField("blobs")
    return param
