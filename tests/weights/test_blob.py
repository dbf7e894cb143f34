from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.wire import WireReader, encode_key, encode_varint
from sphereface.weights import Blob, StreamedArray, copy_blob, shape_equals
from sphereface.weights.blob import (
    check_shape,
    encode_blob,
    read_blob,
    total_bytes,
    write_pieces,
)

SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)


def parsed(data: bytes) -> Blob:
    return read_blob(WireReader(data, "file"), 0, len(data))


def encoded(blob: Blob | np.ndarray) -> bytes:
    pieces = encode_blob(blob)
    data = b"".join(pieces)
    assert len(data) == total_bytes(pieces)
    return data


@given(SHAPES, st.sampled_from(["f4", "f8"]), st.booleans(), st.booleans())
def test_bytes_are_those_of_protobuf(shape, dtype, with_diff, legacy) -> None:
    rng = np.random.default_rng(0)
    data, diff = rng.normal(size=(2, *shape)).astype(dtype)
    legacy = legacy and len(shape) <= 4
    blob = Blob(data, diff if with_diff else None, legacy)
    proto = schema.message("BlobProto")()
    if legacy:
        four = (1,) * (4 - len(shape)) + shape
        proto.num, proto.channels, proto.height, proto.width = four
    else:
        proto.shape.dim.extend(shape)
    prefix = "double_" if dtype == "f8" else ""
    getattr(proto, f"{prefix}data").extend(data.ravel().tolist())
    if with_diff:
        getattr(proto, f"{prefix}diff").extend(diff.ravel().tolist())
    assert encoded(blob) == proto.SerializeToString(deterministic=True)

    again = parsed(proto.SerializeToString())
    assert again.data.dtype == np.dtype(dtype if data.size else "f4")
    np.testing.assert_array_equal(again.data, data.reshape(four) if legacy else data)
    assert again.legacy == legacy
    if with_diff and data.size:
        np.testing.assert_array_equal(again.diff.ravel(), diff.ravel())
    else:
        assert again.diff is None


def test_half_precision_of_nvidias_fork() -> None:
    """raw_data_type 10 = FLOAT16 (2), raw_data 12; IEEE halves of 1, -2, 0.5."""
    shape = b"\x3a\x03\x0a\x01\x03"
    data = shape + b"\x50\x02" + b"\x62\x06" + b"\x00\x3c\x00\xc0\x00\x38"
    blob = parsed(data)
    assert blob.data.dtype == np.float16
    assert blob.data.tolist() == [1.0, -2.0, 0.5]
    single = parsed(b"\x3a\x03\x0a\x01\x01" + b"\x50\x01" + b"\x62\x04" + b"\x00\x00\x80\x3f")
    assert single.data.dtype == np.float32
    assert single.data.tolist() == [1.0]
    # Written for BVLC's Caffe, halves become floats.
    assert parsed(encoded(blob)).data.dtype == np.float32
    with pytest.raises(SphereFaceError, match="raw values of type 3"):
        parsed(data.replace(b"\x50\x02", b"\x50\x03"))


def test_values_in_several_pieces() -> None:
    """Protobuf joins packed chunks and unpacked values of one field."""
    value = np.arange(6, dtype="<f4")
    data = b"\x2a\x08" + value[:2].tobytes() + b"\x2d" + value[2:3].tobytes()
    data += b"\x2d" + value[3:4].tobytes() + b"\x2a\x08" + value[4:].tobytes()
    data += b"\x3a\x04\x08\x02\x08\x03"  # shape, dims not packed
    proto = schema.message("BlobProto").FromString(data)
    np.testing.assert_array_equal(parsed(data).data, np.reshape(proto.data, (2, 3)))


def test_doubles_win_over_floats_as_in_caffe() -> None:
    proto = schema.message("BlobProto")(data=[1.0, 2.0], double_data=[3.0, 4.0])
    proto.shape.dim.append(2)
    assert parsed(proto.SerializeToString()).data.tolist() == [3.0, 4.0]


def test_scalar_and_no_shape() -> None:
    """No shape at all is Caffe's 0-axis blob of one value (PReLU with channel_shared)."""
    assert parsed(b"\x2a\x04\x00\x00\x80\x3e").data.shape == ()
    assert parsed(encoded(np.float32(0.25).reshape(()))).data == np.float32(0.25)
    with pytest.raises(SphereFaceError, match=r"a blob of shape \(\) holds 2 values; expected 1"):
        parsed(b"\x2a\x08" + bytes(8))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((1,) * 33, "33 axes"),
        ((2, -1), "negative dimension"),
        ((2**31,), "more than 2147483647 values"),
        ((2**16, 2**16), "more than 2147483647 values"),
        ((2**62, 2**62, 0), "more than 2147483647 values"),
        ((2**31 - 1,), ""),
        ((), ""),
        ((0, 5), ""),
    ],
)
def test_check_shape(shape, problem) -> None:
    found = check_shape(shape)
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("source", "target", "equal"),
    [
        ((1, 1, 1, 64), (64,), True),
        ((1, 1, 10, 20), (10, 20), True),
        ((64, 3, 3, 3), (64, 3, 3, 3), True),
        ((1, 1, 1, 1), (), True),
        ((64, 1, 1, 1), (64,), False),
        ((1, 64), (64,), False),
        ((1, 1, 1, 64), (1, 64, 1), False),
        ((1, 1, 1, 1, 64), (64,), False),
        ((1, 1, 2, 3), (1, 1, 1, 2, 3), False),
        ((10, 20), (20, 10), False),
    ],
)
def test_shape_equals(source, target, equal) -> None:
    assert shape_equals(source, target) is equal


def test_legacy_numbers_out_of_range() -> None:
    for number, value in ((1, 2**31), (3, 2**40)):
        data = encode_key(number, 0) + encode_varint(value)
        with pytest.raises(SphereFaceError, match=f"is {value}; expected an int32"):
            parsed(data)
    with pytest.raises(SphereFaceError, match="a negative dimension"):
        parsed(encode_key(2, 0) + encode_varint(-3))


def test_copy_blob_casts_and_crosses_pieces() -> None:
    source = np.random.default_rng(0).normal(size=(3, (1 << 19) + 7))
    out = np.zeros(source.size, np.float32)
    copy_blob(source, out)
    np.testing.assert_array_equal(out.reshape(source.shape), source.astype(np.float32))
    with pytest.raises(SphereFaceError, match=r"shape \(3, 524295\) into shape \(4,\)"):
        copy_blob(source, np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (np.arange(3), "an array of int64"),
        (Blob(np.zeros(2, "f4"), np.zeros(3, "f4")), "a diff of shape"),
        (Blob(np.zeros((1,) * 5, "f4"), legacy=True), "num, channels, height, width"),
        (np.zeros((1,) * 33, "f4"), "33 axes"),
    ],
)
def test_unwritable_blobs(blob, problem) -> None:
    with pytest.raises(SphereFaceError, match=problem):
        encode_blob(blob)


def test_a_streamed_array_has_the_bytes_of_the_whole() -> None:
    whole = np.arange(12, dtype="f4").reshape(4, 3)
    streamed = encode_blob(StreamedArray(whole.shape, lambda: iter([whole[:1], whole[1:]])))
    stream = io.BytesIO()
    write_pieces(stream, streamed)
    assert stream.getvalue() == encoded(whole)
    assert total_bytes(streamed) == len(stream.getvalue())
    short = encode_blob(StreamedArray(whole.shape, lambda: iter([whole[1:]])))
    with pytest.raises(SphereFaceError, match="36 bytes of values; expected 48"):
        write_pieces(io.BytesIO(), short)
    with pytest.raises(SphereFaceError, match="of more than 2147483647 values"):
        encode_blob(StreamedArray((1 << 22, 512), lambda: iter(())))


def test_non_contiguous_and_big_endian_arrays() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    np.testing.assert_array_equal(parsed(encoded(array)).data, array)
