from __future__ import annotations

import gc
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sphereface.errors import SphereFaceError
from sphereface.proto import schema, wire
from sphereface.proto.wire import FIXED32, FIXED64, LENGTH, VARINT, WireReader

INT64 = st.integers(-(2**63), 2**63 - 1)


def read(data: bytes) -> list[wire.Field]:
    return list(WireReader(data, "file").fields(0, len(data)))


@given(INT64)
def test_varint_is_protobufs(value: int) -> None:
    shape = schema.message("BlobShape")(dim=[value])
    packed = wire.encode_varint(value)
    assert shape.SerializeToString() == bytes([0x0A, len(packed)]) + packed
    reader = WireReader(packed, "file")
    field = wire.Field(1, LENGTH, 0, 0, len(packed), 0, 1)
    assert list(reader.packed_signed(field, "dim")) == [value]


@given(st.integers(1, 2**29 - 1), st.sampled_from([VARINT, FIXED64, LENGTH, FIXED32]))
def test_key(number: int, kind: int) -> None:
    payload = {VARINT: b"\x05", FIXED64: b"8 bytes.", LENGTH: b"\x02ab", FIXED32: b"four"}[kind]
    key = wire.encode_key(number, kind)
    (field,) = read(key + payload)
    assert (field.number, field.kind, field.start) == (number, kind, 0)
    assert (field.begin, field.end) == (len(key) + (kind == LENGTH), len(key) + len(payload))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_runs_of_unpacked_floats(lengths: list[int]) -> None:
    """Alternate runs of two fields: every value arrives, in order, as one field a run."""
    data, expected = b"", []
    for index, length in enumerate(lengths):
        number = 5 + index % 2
        values = np.arange(length, dtype="<f4") + 1000 * index
        expected.append((number, values))
        data += b"".join(wire.encode_key(number, FIXED32) + v.tobytes() for v in values)
    reader = WireReader(data, "file")
    fields = list(reader.fields(0, len(data)))
    assert [(f.number, f.values) for f in fields] == [(n, v.size) for n, v in expected]
    for field, (_, values) in zip(fields, expected, strict=True):
        np.testing.assert_array_equal(reader.numbers(field, "data", "<f4"), values)


def test_run_of_doubles_that_is_cut_off() -> None:
    one = wire.encode_key(8, FIXED64) + struct.pack("<d", 0.5)
    with pytest.raises(SphereFaceError, match=r"byte 18: field 8 needs 8 bytes, 4 are left"):
        read((one * 3)[:-4])


def test_packed_floats_are_views_that_hold_the_map(tmp_path) -> None:
    path = tmp_path / "floats"
    values = np.linspace(-1, 1, 10_000, dtype="<f4")
    path.write_bytes(
        wire.encode_key(5, LENGTH) + wire.encode_varint(values.nbytes) + values.tobytes()
    )
    reader = wire.map_file(path, "model")
    (field,) = reader.fields(0, reader.size)
    view = reader.numbers(field, "data", "<f4")
    other = reader.numbers(field, "data", "<f4")
    assert np.shares_memory(view, other)
    assert not view.flags.owndata
    assert not view.flags.writeable
    del reader, other
    gc.collect()
    path.unlink()
    np.testing.assert_array_equal(view, values)


def test_released_pages_read_the_same(tmp_path) -> None:
    path = tmp_path / "floats"
    values = np.random.default_rng(0).standard_normal(100_000).astype("<f4")
    path.write_bytes(b"abc" + values.tobytes())
    reader = wire.map_file(path, "model")
    view = np.frombuffer(reader.buffer, "<f4", values.size, 3)
    for piece in (view, view[5_000:6_000].reshape(10, 100), view[::2], view[:0], values):
        wire.release_pages(piece)
    np.testing.assert_array_equal(view, values)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0b", "field number 1 with wire type 3"),
        (b"\x0c", "field number 1 with wire type 4"),
        (b"\x0e", "field number 1 with wire type 6"),
        (b"\x00\x01", "field number 0 with wire type 0"),
        (b"\xff\xff\xff\xff\x7f\x00", "field number 4294967295 with wire type 7"),
        (b"\x08" + b"\xff" * 10, "byte 1: a number is longer than 10 bytes"),
        (b"\x08\xff\xff", "byte 1: a number runs on past the end"),
        (b"\x0a\x05abcd", "byte 0: field 1 needs 5 bytes, 4 are left"),
        (
            b"\x0a" + b"\xff" * 9 + b"\x01abc",
            "field 1 needs 18446744073709551615 bytes, 3 are left",
        ),
        (b"\x0d123", "field 1 needs 4 bytes, 3 are left"),
        (b"\x09123", "field 1 needs 8 bytes, 3 are left"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(SphereFaceError, match=message) as caught:
        read(data)
    assert str(caught.value).startswith("file: byte ")


def test_number_of_fields_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(wire, "MAX_FIELDS", 1000)
    assert len(read(b"\x08\x01" * 1000)) == 1000
    with pytest.raises(SphereFaceError, match="byte 2000: more than 1000 fields"):
        read(b"\x08\x01" * 1001)


def test_wrong_wire_type_names_both() -> None:
    reader = WireReader(b"\x38\x01", "file")
    reader.layer = "conv1"
    (field,) = reader.fields(0, 2)
    with pytest.raises(
        SphereFaceError,
        match=r'^file: byte 0: layer "conv1": field 7 \(blobs\) is a varint; expected length-del',
    ):
        reader.expect(field, "blobs", LENGTH)


def test_payload_of_a_broken_size() -> None:
    reader = WireReader(b"\x2a\x05abcde", "file")
    (field,) = reader.fields(0, 7)
    with pytest.raises(SphereFaceError, match="holds 5 bytes; expected a multiple of 4"):
        reader.numbers(field, "data", "<f4")


def test_text_that_is_no_utf8_is_escaped() -> None:
    reader = WireReader(b"\x0a\x03\xe5\xb7a", "file")
    (field,) = reader.fields(0, 5)
    assert reader.text(field, "name") == "\\xe5\\xb7a"


def test_files_that_cannot_be_mapped(tmp_path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, problem in (
        ("missing", "no such model"),
        ("empty", "an empty file; expected a model"),
        ("pipe", "a pipe; expected a model: a regular file"),
        (".", "a folder; expected a model"),
    ):
        with pytest.raises(SphereFaceError, match=problem) as caught:
            wire.map_file(tmp_path / name, "model")
        assert str(tmp_path) in str(caught.value)


def test_a_file_of_another_kind_is_told_instead_of_a_byte(tmp_path) -> None:
    reader = WireReader(b"version https://git-lfs.github.com/spec/v1\n", "file", "caffemodel")
    assert str(reader.error(3, "odd")) == (
        "file: a Git LFS pointer, not the file; expected a caffemodel; fetch the file: git lfs pull"
    )
    state = WireReader(b"\x08\x05\x12\x0ea_5.caffemodel\x1a", "file", "solverstate")
    assert str(state.error(3, "odd")) == "file: byte 3: odd"
    state.what = "caffemodel"
    assert "file: a solverstate; expected a caffemodel" in str(state.error(3, "odd"))
