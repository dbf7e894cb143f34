from __future__ import annotations

import collections
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import wire
from sphereface.proto.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    encode_key,
    encode_varint,
)
from sphereface.weights import (
    SolverState,
    load_weights,
    read_binaryproto,
    read_caffemodel,
    read_solverstate,
    write_binaryproto,
    write_caffemodel,
    write_solverstate,
)


def message(number: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return encode_key(number, LENGTH) + encode_varint(len(body)) + body


def varint(number: int, value: int) -> bytes:
    return encode_key(number, VARINT) + encode_varint(value)


def layer(*blob: bytes) -> bytes:
    return message(100, message(1, b"conv1"), message(2, b"Convolution"), message(7, *blob))


def dims(*sizes: int) -> bytes:
    return message(7, message(1, *(encode_varint(size) for size in sizes)))


def nested(depth: int) -> bytes:
    """Return a message in a message, `depth` deep, in linear time."""
    sizes = [0]
    while len(sizes) <= depth:
        sizes.append(sizes[-1] + 2 + len(encode_varint(sizes[-1])))
    return b"".join(encode_key(100, LENGTH) + encode_varint(size) for size in sizes[-2::-1])


FOUR = np.arange(4, dtype="<f4").tobytes()
LOOSE = encode_key(5, FIXED32) + FOUR[:4]

ATTACKS = {
    "length 2^63": (encode_key(100, LENGTH) + encode_varint(2**63), "needs 9223372036854775808"),
    "length 2^64-1": (encode_key(1, LENGTH) + encode_varint(2**64 - 1), "needs 184467440737095"),
    "inner length": (message(100, message(1, b"conv1"), b"\x3a\x7f"), "field 7 needs 127 bytes"),
    "long number": (b"\x28" + b"\xff" * 11, "longer than 10 bytes"),
    "group": (encode_key(100, 3) + encode_key(100, 4), "wire type 3"),
    "group in a layer": (message(100, encode_key(9, 3)), "field number 9 with wire type 3"),
    "undefined wire type": (encode_key(100, 7), "wire type 7"),
    "field number 0": (b"\x00\x00", "field number 0"),
    "layer is a varint": (varint(100, 7), r"field 100 \(layer\) is a varint"),
    "layers is 64 bits": (encode_key(2, FIXED64) + bytes(8), r"\(layers\) is a 64-bit value"),
    "blobs is a varint": (message(100, varint(7, 1)), r"field 7 \(blobs\) is a varint"),
    "name is a varint": (message(100, varint(1, 1)), r"field 1 \(layer name\) is a varint"),
    "V1 type is a string": (message(2, message(5, b"Conv")), r"field 5 \(type\) is a length"),
    "data is a varint": (layer(varint(5, 1)), r'layer "conv1": field 5 \(data\) is a varint'),
    "data is 64 bits": (layer(encode_key(5, FIXED64) + bytes(8)), r"\(data\) is a 64-bit"),
    "shape is 32 bits": (layer(encode_key(7, FIXED32) + FOUR[:4]), r"\(shape\) is a 32-bit"),
    "dim is 32 bits": (layer(message(7, encode_key(1, FIXED32) + FOUR[:4])), r"\(dim\) is a 32"),
    "num is packed": (layer(message(1, b"\x01")), r"field 1 \(num\) is a length-delimited"),
    "product 2^64": (layer(dims(2**32, 2**32)), "more than 2147483647 values"),
    "product 2^64, wrapped by zero": (layer(dims(2**62, 4, 0)), "more than 2147483647"),
    "int64 dims": (layer(dims(2**62, 2**62), message(5, FOUR)), "more than 2147483647 values"),
    "33 axes": (layer(dims(*[1] * 33), message(5, FOUR[:4])), "more than 32 axes"),
    "a million axes": (layer(dims(*[1] * 1_000_000)), "more than 32 axes"),
    "negative": (layer(dims(-4), message(5, FOUR)), "a negative dimension"),
    "negative twice": (layer(dims(-1, -4), message(5, FOUR)), "a negative dimension"),
    "legacy negative": (layer(varint(1, -1), message(5, FOUR)), "a negative dimension"),
    "legacy beyond int32": (layer(varint(3, 2**31), message(5, FOUR)), "height is 2147483648"),
    "too little data": (layer(dims(5), message(5, FOUR)), r"shape \(5,\) holds 4 values"),
    "too much data": (layer(dims(3), message(5, FOUR)), r"shape \(3,\) holds 4 values"),
    "no data": (layer(dims(2**31 - 1)), "holds 0 values; expected 2147483647"),
    "diff of another count": (layer(dims(4), message(5, FOUR), message(6, FOUR[:8])), "2 diffs"),
    "no whole floats": (layer(dims(4), message(5, FOUR[:15])), "holds 15 bytes; expected a mult"),
    "no whole doubles": (layer(dims(2), message(8, FOUR[:12])), "holds 12 bytes"),
    "raw of unknown type": (layer(dims(4), varint(10, 9), message(12, FOUR)), "of type 9"),
    "raw halves": (layer(dims(4), varint(10, 2), message(12, FOUR[:7])), "holds 7 bytes"),
    "long name": (message(100, message(1, b"x" * 8_000_000), varint(7, 1)), "blobs"),
    "V0 in V0": (message(2, message(1, message(1, b"\x0a\x01a"), varint(50, 1))), "blobs"),
}


MANY = {
    "tiny fields": varint(5, 1) * 2_000_000,
    "tiny fields in a blob": layer(varint(99, 1) * 2_000_000),
    "alternating keys": layer((LOOSE + varint(99, 1)) * 600_000),
    "alternating chunks": layer((LOOSE + message(5, FOUR)) * 600_000),
    "layers": message(100, message(1, b"a")) * 600_000,
    "blobs": message(100, message(7, message(5, FOUR[:4])) * 600_000),
}


def refused(read: Callable[[Path], object], path: Path, problem: str = r"\S") -> str:
    """Read a file that must not be readable and return the message."""
    with pytest.raises(SphereFaceError, match=problem) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: byte ") or "an empty file" in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str, tmp_path: Path) -> None:
    data, problem = ATTACKS[name]
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        refused(load_weights, path, problem)
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 3 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", MANY)
def test_work_and_memory_are_bounded(name: str, tmp_path: Path, monkeypatch) -> None:
    """A few calls and a few hundred bytes a field, up to the most fields that are read."""
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(MANY[name])
    refused(load_weights, path, f"more than {wire.MAX_FIELDS} fields")
    # Counted on fewer, as counting is slow.
    monkeypatch.setattr(wire, "MAX_FIELDS", 10_000)
    calls = collections.Counter()
    sys.setprofile(lambda _frame, event, _: calls.update([event]))
    try:
        refused(load_weights, path, "more than 10000 fields")
    finally:
        sys.setprofile(None)
    assert 10_000 < calls["call"] + calls["c_call"] < 10_000 * 50
    tracemalloc.start()
    try:
        refused(load_weights, path, "more than 10000 fields")
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 10_000 * 1000
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(nested(100_000))
    assert load_weights(path) == {"": []}


def test_cut_anywhere(tmp_path: Path) -> None:
    """Every beginning of a file is refused, or is a file of fewer layers with equal values."""
    path = tmp_path / "net"
    header = message(1, b"ip") + message(2, b"InnerProduct")
    arrays = [np.arange(6, dtype="f4").reshape(2, 3), np.ones(2)]
    write_caffemodel(path, "net", [(header, arrays)])
    boundary = path.stat().st_size
    write_caffemodel(path, "net", [(header, arrays), (header + varint(10, 1), arrays)])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size != boundary:
            refused(read_caffemodel, path)
            continue
        (record,) = read_caffemodel(path).layers
        for blob, array in zip(record.blobs, arrays, strict=True):
            np.testing.assert_array_equal(blob.data, array)


def test_cut_states(tmp_path: Path) -> None:
    """A state may end after any of its fields: all but iter are optional."""
    path = tmp_path / "file"
    write_solverstate(path, SolverState(7, "net", [np.ones(3, "f4")], 1))
    whole = path.read_bytes()
    complete = {2, 2 + 5, len(whole) - 2}
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size in complete:
            assert read_solverstate(path).iter == 7
        else:
            refused(read_solverstate, path)


def test_cut_means(tmp_path: Path) -> None:
    """A mean cut before its values has a dimension of 0 until all four are there."""
    path = tmp_path / "file"
    write_binaryproto(path, np.ones((1, 2, 2, 2), "f4"))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size in (2, 4, 6):
            assert read_binaryproto(path).size == 0
        else:
            refused(read_binaryproto, path)
