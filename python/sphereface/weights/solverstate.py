"""`.solverstate` and `.solverstate.h5`: what a solver needs beside the weights to go on.

Source: SGDSolver::SnapshotSolverStateTo{BinaryProto,HDF5} and their Restore counterparts.
What differs: the content decides which of the two a file is, not its name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path
from sphereface.proto.wire import (
    LENGTH,
    VARINT,
    Field,
    WireReader,
    encode_key,
    encode_varint,
    map_file,
)
from sphereface.weights.blob import (
    encode_blob,
    read_blob,
    total_bytes,
    write_pieces,
)
from sphereface.weights.hdf5 import H5Reader, is_hdf5, open_writer, write_array, write_string

__all__ = ["SolverState", "read_solverstate", "write_solverstate"]

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class SolverState:
    """A snapshot of a solver.

    Parameters
    ----------
    iter : int
        Iterations done.
    learned_net : str
        Path of the caffemodel saved with it, as the solver wrote it.
    history : sequence of ndarray (or, to write, StreamedArray)
        Momentum and the like, one array per learnable parameter in their order (Adam and
        AdaDelta: twice as many).
    current_step : int
        Steps of the multistep or step policy taken.
    """

    iter: int
    learned_net: str = ""
    history: Sequence[Any] = field(default_factory=tuple)
    current_step: int = 0


def read_solverstate(path: str | os.PathLike[str]) -> SolverState:
    """Read a solver state of either format.

    The history of a binary file consists of read-only views of the mapped file.

    Raises
    ------
    SphereFaceError
        The file is damaged or no solver state.
    """
    return _read_h5(path) if is_hdf5(path) else _read_binary(map_file(path, "solverstate"))


def _read_binary(reader: WireReader) -> SolverState:
    numbers = {_ITER: -1, _CURRENT_STEP: 0}
    learned_net, history = "", []
    for item in reader.fields(0, reader.size):
        if item.number in numbers:
            numbers[item.number] = _count(reader, item)
        elif item.number == _LEARNED_NET:
            learned_net = reader.text(item, "learned_net")
        elif item.number == _HISTORY:
            reader.expect(item, "history", LENGTH)
            history.append(read_blob(reader, item.begin, item.end).data)
    if numbers[_ITER] < 0:
        raise reader.error(0, "no iter", expected="a SolverState", fix="is the file a solverstate?")
    return SolverState(numbers[_ITER], learned_net, tuple(history), numbers[_CURRENT_STEP])


def _count(reader: WireReader, item: Field) -> int:
    name = "iter" if item.number == _ITER else "current_step"
    value = reader.signed(item, name)
    if not 0 <= value <= _INT32_MAX:
        raise reader.error(item.start, f"{name} is {value}", expected="a count")
    return value


def _read_h5(path: str | os.PathLike[str]) -> SolverState:
    with H5Reader.open(path) as reader:
        counts = [reader.integer("iter"), reader.integer("current_step")]
        for name, count in zip(("iter", "current_step"), counts, strict=True):
            if not 0 <= count <= _INT32_MAX:
                raise reader.error(name, f"{count}", "a count")
        history = []
        for array in reader.sequence("history"):
            if array is None:
                raise reader.error("history", "a gap in the numbering", "0, 1, 2, ...")
            history.append(array)
        learned_net = reader.string("learned_net")
    return SolverState(counts[0], learned_net, tuple(history), counts[1])


def write_solverstate(path: str | os.PathLike[str], state: SolverState) -> None:
    """Write a solver state that the original Caffe restores, atomically.

    HDF5 if `path` ends in ``.h5``, else binary; Caffe tells them apart by the name too.

    Raises
    ------
    SphereFaceError
        A count is negative or an array is no float array.
    """
    for name, count in (("iter", state.iter), ("current_step", state.current_step)):
        if not 0 <= count <= _INT32_MAX:
            raise SphereFaceError(f"{name} is {count}", where=os.fspath(path), expected="a count")
    if os.fspath(path).endswith(".h5"):
        _write_h5(path, state)
        return
    learned_net = state.learned_net.encode()
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(encode_key(_ITER, VARINT) + encode_varint(state.iter))
        stream.write(encode_key(_LEARNED_NET, LENGTH) + encode_varint(len(learned_net)))
        stream.write(learned_net)
        for index, array in enumerate(state.history):
            pieces = encode_blob(array, f"{os.fspath(path)}: history {index}")
            stream.write(encode_key(_HISTORY, LENGTH) + encode_varint(total_bytes(pieces)))
            write_pieces(stream, pieces)
        stream.write(encode_key(_CURRENT_STEP, VARINT) + encode_varint(state.current_step))


def _write_h5(path: str | os.PathLike[str], state: SolverState) -> None:
    with open_writer(path) as file:
        for name, count in (("iter", state.iter), ("current_step", state.current_step)):
            file.create_dataset(name, data=np.array([count], "<i4"), track_times=False)
        write_string(file, "learned_net", state.learned_net)
        file.create_group("history")
        for index, array in enumerate(state.history):
            where = f"{os.fspath(path)}: history {index}"
            write_array(file, f"history/{index}", array, where)
