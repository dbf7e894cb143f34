"""Weights into a net and a net into a file, whatever the formats; one module a format does it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sphereface.caffe import Net
from sphereface.checkpoints import (
    read_checkpoint,
    to_clcarwin,
    write_safetensors,
    write_state_dict,
)
from sphereface.convert.aot_inductor import write_aot_inductor
from sphereface.convert.onnx import write_onnx
from sphereface.convert.state_dict import load_state_dict, net_state
from sphereface.convert.torch_export import write_torch_export
from sphereface.errors import SphereFaceError, nearest
from sphereface.files import check_output
from sphereface.weights import weight_format

__all__ = ["TARGETS", "check_target", "load_net", "save_net"]

TARGETS = ("pt", "safetensors", "onnx", "pt2", "aoti", "caffemodel", "caffemodel.h5",
           "clcarwin")  # fmt: skip

_WRITERS: dict[str, Callable[..., None]] = {
    "onnx": write_onnx,
    "pt2": write_torch_export,
    "aoti": write_aot_inductor,
}

_SUFFIXES = {
    ".pt": "pt",
    ".pth": "pt",
    ".safetensors": "safetensors",
    ".onnx": "onnx",
    ".pt2": "pt2",
    ".caffemodel": "caffemodel",
    ".h5": "caffemodel.h5",
}


def check_target(path: str | os.PathLike[str], name: str = "", *, overwrite: bool = False) -> str:
    """Return the entry of `TARGETS` to write, `name` or by suffix, if `path` may be written.

    Raises
    ------
    SphereFaceError
        The suffix is unknown, there is no such folder, or the file exists and `overwrite` is false.
    """
    name = name or _by_suffix(path)
    if name not in TARGETS:
        raise _unknown(path)
    check_output(path, overwrite=overwrite)
    return name


def load_net(net: Net, path: str | os.PathLike[str], name: str = "") -> list[str]:
    """Load all weights of `net` from a file.

    Parameters
    ----------
    net : Net
        Every parameter must be in the file, in its shape.
    path : path-like
        A caffemodel (binary or HDF5), state dict, safetensors file, sphere20a's or OpenSphere's
        checkpoint, told by its content.
    name : str
        ``"clcarwin"`` for a sphere20a checkpoint of exactly 512 classes, which nothing else tells.

    Returns
    -------
    list of str
        What the file has and the net does not: layers of a caffemodel, or sphere20a's fc6.

    Raises
    ------
    SphereFaceError
        Weights are missing, unexpected (in a state dict) or of other shapes.
    """
    where = os.fspath(path)
    if weight_format(path) not in ("safetensors", "torch"):
        report = net.copy_from(path)
        if report.left:
            raise SphereFaceError(
                f"no weights for {', '.join(report.left)}",
                where=where,
                expected="weights of every layer",
                fix="use the prototxt that the caffemodel was trained with",
            )
        return [f"{layer}: {why}" for layer, why in report.skipped.items()]
    state, left = read_checkpoint(path, clcarwin=name == "clcarwin"), []
    if "fc6.weight" in state and "fc6" not in net.keys:
        rows = state["fc6.weight"].shape[0]
        left.append(f"fc6: the classifier of {rows} classes; no such layer in the net")
        state = {key: tensor for key, tensor in state.items() if not key.startswith("fc6.")}
    load_state_dict(net, state, where)
    return left


def save_net(
    net: Net,
    path: str | os.PathLike[str],
    name: str = "",
    *,
    prototxt: str = "",
    images: bool = False,
    overwrite: bool = False,
) -> None:
    """Write `net` with its weights.

    Parameters
    ----------
    net : Net
        In phase TEST for ONNX, TorchExport and AOTInductor.
    path : path-like
        File to write; it is whole or untouched, whatever happens.
    name : str
        Entry of `TARGETS`; without it the suffix tells.
    prototxt : str
        Text of the net, for the metadata of safetensors.
    images : bool
        Let image sizes be free in them.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    SphereFaceError
        The file exists, or the net has no form in that format.
    """
    name = check_target(path, name, overwrite=overwrite)
    if name in _WRITERS:
        if net.phase != "TEST":
            raise SphereFaceError(
                f'net "{net.name}" is in phase {net.phase}',
                where=os.fspath(path),
                expected="phase TEST, and a deploy prototxt",
            )
        _WRITERS[name](net, path, images=images)
    elif name == "pt":
        write_state_dict(net_state(net), path)
    elif name == "safetensors":
        write_safetensors(net_state(net), path, prototxt)
    elif name == "clcarwin":
        write_state_dict(to_clcarwin(net_state(net), f'net "{net.name}"'), path)
    else:
        _save_caffe(net, path, name)


def _save_caffe(net: Net, path: str | os.PathLike[str], name: str) -> None:
    # Net.save chooses between Caffe's two formats by the suffix.
    if (Path(path).suffix == ".h5") != (name == "caffemodel.h5"):
        suffix = ".caffemodel.h5" if name == "caffemodel.h5" else ".caffemodel"
        raise SphereFaceError(
            f"not a name for {name}",
            where=os.fspath(path),
            expected=f"a name that ends in {suffix}",
        )
    net.save(path)


def _by_suffix(path: str | os.PathLike[str]) -> str:
    return _SUFFIXES.get(Path(path).suffix.lower(), "")


def _unknown(path: str | os.PathLike[str]) -> SphereFaceError:
    suffixes, suffix = [*_SUFFIXES], Path(path).suffix
    return SphereFaceError(
        f'the suffix "{suffix}" tells no format that fits here',
        where=os.fspath(path),
        expected=", ".join(suffixes),
        fix=nearest(suffix, suffixes) or f"name the format: {', '.join(TARGETS)}",
    )
