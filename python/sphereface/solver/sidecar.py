"""`NAME_iter_N.solverstate.npz`: what Caffe's two files lose and an exact resume needs.

Counters of margin layers and other state that is no blob, random generators, and where the data
sources are. It also holds checksums of the two files that it belongs to, so that files of different
snapshots are never taken for one. Arrays and JSON, no pickle; Caffe does not know the file.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from sphereface.caffe import Net
from sphereface.errors import SphereFaceError
from sphereface.files import open_regular

__all__ = [
    "Sidecar",
    "checksum",
    "load_buffers",
    "net_buffers",
    "read_sidecar",
    "write_sidecar",
]

_VERSION = 2
_READ = (1, 2)  # 1: no state of passes; pycaffe's sources by number, lists without a hash
_CHUNK = 1 << 22


@dataclass
class Sidecar:
    """The content of a sidecar.

    Attributes
    ----------
    iteration : int
        Updates done.
    checksums : dict
        CRC-32 of the caffemodel (``model``) and the solverstate (``state``).
    buffers : dict
        State of the nets that is no blob: key to array.
    generators : dict
        torch's generator states by device type.
    sources : list
        State of each net's data, the train net's first: by the names of its data layers, for data
        that `sphereface.data` reads; None for a net without.
    passes : dict
        State of the way to compute: the loss scale of fp16.
    """

    iteration: int
    checksums: dict[str, int] = field(default_factory=dict)
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    generators: dict[str, np.ndarray] = field(default_factory=dict)
    sources: list[dict[str, Any] | None] = field(default_factory=list)
    passes: dict[str, Any] = field(default_factory=dict)


def checksum(path: str | os.PathLike[str]) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def net_buffers(nets: Iterable[Net]) -> dict[str, torch.Tensor]:
    """Return the tensors of `nets` that are neither parameters nor blobs of a layer, by key."""
    found: dict[str, torch.Tensor] = {}
    for index, net in enumerate(nets):
        for key, layer in zip(net.keys, net.layers, strict=True):
            for name, tensor in layer.named_buffers():
                if name not in layer.blob_names:
                    found[f"{index}/{key}.{name}"] = tensor
    return found


def load_buffers(nets: Sequence[Net], arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Put `arrays` into the buffers of `nets` that they were taken from.

    Raises
    ------
    SphereFaceError
        The nets have other buffers.
    """
    buffers = net_buffers(nets)
    if buffers.keys() != arrays.keys():
        names = sorted(buffers.keys() ^ arrays.keys())
        raise SphereFaceError(
            f"state of other nets ({', '.join(names)})",
            where=where,
            expected="the nets that it was saved with",
            fix="remove the file to resume without it",
        )
    for key, array in arrays.items():
        value = torch.from_numpy(array)
        if buffers[key].shape == value.shape:
            buffers[key].copy_(value)
        else:  # a recurrent state follows the batch size
            index, _, name = key.partition("/")
            module, _, attribute = name.rpartition(".")
            layer = nets[int(index)].get_submodule(module)
            setattr(layer, attribute, value.to(buffers[key]))


def write_sidecar(path: str | os.PathLike[str], sidecar: Sidecar) -> None:
    """Write `sidecar` as npz; `path` should be a temporary one."""
    arrays = {f"buffer:{key}": array for key, array in sidecar.buffers.items()}
    arrays |= {f"generator:{kind}": array for kind, array in sidecar.generators.items()}
    plain: list[dict[str, Any] | None] = []
    for index, state in enumerate(sidecar.sources):
        big = {k: v for k, v in (state or {}).items() if isinstance(v, np.ndarray)}
        arrays |= {f"source:{index}:{k}": v for k, v in big.items()}
        plain.append(state and {k: v for k, v in state.items() if k not in big})
    meta = {
        "version": _VERSION,
        "iteration": sidecar.iteration,
        "checksums": sidecar.checksums,
        "sources": plain,
        "passes": sidecar.passes,
    }
    with Path(path).open("wb") as stream:
        np.savez(stream, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)
        stream.flush()
        os.fsync(stream.fileno())


def read_sidecar(path: str | os.PathLike[str]) -> Sidecar:
    """Read a sidecar.

    Raises
    ------
    SphereFaceError
        The file is damaged, or no sidecar of this version.
    """
    where = os.fspath(path)
    try:
        # A stream of our own: np.load leaves its file open when it is no archive.
        with open_regular(path, "sidecar") as stream:
            _check_sizes(stream)
            with np.load(stream, allow_pickle=False) as archive:
                meta = json.loads(str(archive["meta"][()]))
                version = meta["version"]
                if version not in _READ:
                    raise SphereFaceError(
                        f"a sidecar of version {version}",
                        where=where,
                        expected=f"{_VERSION} or older",
                        fix="resume with the program that wrote it, or remove the file to resume "
                        "without it",
                    )
                arrays = {key: archive[key] for key in archive.files if key != "meta"}
        sidecar = Sidecar(
            int(meta["iteration"]),
            dict(meta["checksums"]),
            sources=list(meta["sources"]),
            passes=dict(meta.get("passes", {})),
        )
        _distribute(arrays, sidecar)
    except SphereFaceError:
        raise
    except Exception as error:  # what numpy and zipfile raise on damaged files is not documented
        raise SphereFaceError(
            f"not a readable sidecar ({error or type(error).__name__})",
            where=where,
            fix="remove the file to resume without it",
        ) from None
    return sidecar


def _check_sizes(stream: BinaryIO) -> None:
    """Refuse an archive that unpacks to more than its own size: ours are not compressed."""
    size = os.fstat(stream.fileno()).st_size
    with zipfile.ZipFile(stream) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > size:
        raise ValueError(f"{size} bytes that unpack to {unpacked}")
    stream.seek(0)


def _distribute(arrays: Mapping[str, np.ndarray], sidecar: Sidecar) -> None:
    for key, array in arrays.items():
        kind, _, rest = key.partition(":")
        if kind == "source":
            index, _, name = rest.partition(":")
            state = sidecar.sources[int(index)]
            if state is None:
                raise KeyError(key)
            state[name] = array
        else:
            {"buffer": sidecar.buffers, "generator": sidecar.generators}[kind][rest] = array
