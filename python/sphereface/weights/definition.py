"""The nets that weight files define beside the weights.

Source: Net::ToProto, which writes every layer's definition into a caffemodel. Caffe reads nothing
of them but names and blobs. An HDF5 file of `write_caffemodel_h5` and a safetensors file of this
package hold the net's prototxt as text.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.extras import require
from sphereface.files import refuse_other_kinds
from sphereface.proto import schema
from sphereface.proto.deploy import deploy_net
from sphereface.proto.net_file import NetFile, net_of_text
from sphereface.proto.source import is_text, load_text
from sphereface.proto.text import parse, write
from sphereface.proto.upgrade import upgrade_net
from sphereface.weights.caffemodel import read_caffemodel
from sphereface.weights.file_format import weight_format
from sphereface.weights.hdf5 import PROTOTXT, H5Reader

__all__ = ["definition_text", "is_weights", "read_definition"]


def is_weights(source: str | os.PathLike[str]) -> bool:
    """Tell whether `source`, where a prototxt could be, is a file of weights."""
    if is_text(source) or not os.path.isfile(source):  # noqa: PTH113 - a str may be too long
        return False
    return weight_format(source) != "text"


def read_definition(
    source: str | os.PathLike[str], types: Collection[str] | None = None
) -> NetFile:
    """Read a net, its layers of all phases, from a prototxt, its text or a file of weights.

    Of a caffemodel, or an HDF5 file that holds its net, this is the deploy net of what was trained:
    see `deploy_net`.

    Parameters
    ----------
    source : path or str
        A prototxt, its text, or a caffemodel, ``.caffemodel.h5`` or ``.safetensors``.
    types : collection of str, optional
        The layer types that are known; see `sphereface.proto.net_file.net_of_text`.

    Raises
    ------
    SphereFaceError
        The file is damaged, wrong, or holds weights alone.
    """
    if not is_weights(source):
        return net_of_text(*load_text(source), types)
    path, kind = os.fspath(source), weight_format(source)
    if kind == "safetensors":
        return net_of_text(_safetensors_prototxt(path), path, types)
    if kind == "torch":
        raise _weights_alone(path)
    if kind == "caffemodel":
        refuse_other_kinds(path, "a prototxt or a caffemodel")
    net, shapes = (_stored_net if kind == "caffemodel" else _stored_net_h5)(path)
    upgraded = upgrade_net(net, path)
    try:
        deploy = deploy_net(upgraded.message, shapes)
    except SphereFaceError as error:
        raise error.at(path) from None
    return NetFile(deploy, path, (0,) * len(deploy.layer), upgraded.changes)


def definition_text(source: str | os.PathLike[str]) -> str:
    """Return a net as prototxt text: a text as it is, a definition in a file of weights written."""
    if not is_weights(source):
        return load_text(source)[0]
    if weight_format(source) == "safetensors":
        return _safetensors_prototxt(os.fspath(source))
    return write(read_definition(source).net)


def _stored_net(path: str) -> tuple[Any, dict[str, tuple[int, ...]]]:
    model = read_caffemodel(path)
    shapes = {layer.name: layer.blobs[0].data.shape for layer in model.layers if layer.blobs}
    return schema.decode("NetParameter", model.header, path), shapes


def _stored_net_h5(path: str) -> tuple[Any, dict[str, tuple[int, ...]]]:
    with H5Reader.open(path) as reader:
        if not reader.holds(PROTOTXT):
            raise _weights_alone(path)
        text = reader.string(PROTOTXT)
        shapes = {
            name: arrays[0].shape
            for name, arrays in reader.layers("data")
            if arrays and arrays[0] is not None
        }
    return parse(text, "NetParameter", path).message, shapes


def _safetensors_prototxt(path: str) -> str:
    package = require("safetensors", "safetensors")
    try:
        with package.safe_open(path, "np") as file:
            text = str((file.metadata() or {}).get("prototxt", ""))
    except package.SafetensorError as error:
        raise SphereFaceError(
            f"damaged: {error}", where=path, expected="a safetensors file"
        ) from None
    if not text:
        raise _weights_alone(path)
    return text


def _weights_alone(path: str) -> SphereFaceError:
    return SphereFaceError(
        "weights without their net",
        where=path,
        expected="a prototxt, or a caffemodel, which holds the layers' definitions",
        fix="the prototxt comes before the weights",
    )
