"""Datum and BlobProto byte by byte, from the protobuf wire format: what Caffe's tools write."""

import numpy as np

VARINT, LENGTH, FIXED32 = 0, 2, 5
DATUM = {1: "channels", 2: "height", 3: "width", 4: "data", 5: "label", 6: "float_data",
         7: "encoded"}  # fmt: skip


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def take_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def number(field, value):
    return varint(field << 3 | VARINT) + varint(value)


def chunk(field, data):
    return varint(field << 3 | LENGTH) + varint(len(data)) + data


def encode_datum(image=None, label=0, encoded=None, floats=None):
    """`image` (H, W, C) raw, `encoded` bytes of a file, or `floats` (C, H, W)."""
    if encoded is not None:
        return chunk(4, encoded) + number(5, label) + number(7, 1)
    chw = image.transpose(2, 0, 1) if floats is None else floats
    head = b"".join(number(field, size) for field, size in zip((1, 2, 3), chw.shape, strict=True))
    if floats is None:
        return head + chunk(4, chw.astype(np.uint8).tobytes()) + number(5, label)
    values = b"".join(varint(6 << 3 | FIXED32) + v.tobytes() for v in floats.ravel())
    return head + number(5, label) + values


def decode_datum(data):
    """{field name: int or bytes} of a Datum without float_data."""
    fields, at = {}, 0
    while at < len(data):
        key, at = take_varint(data, at)
        if key & 7 == VARINT:
            value, at = take_varint(data, at)
        else:
            assert key & 7 == LENGTH
            size, at = take_varint(data, at)
            value, at = bytes(data[at : at + size]), at + size
        fields[DATUM[key >> 3]] = value
    return fields


def encode_mean(mean):
    """A binaryproto as compute_image_mean writes it: num, channels, height, width, packed data."""
    sizes = (1, *mean.shape)
    return b"".join(
        number(field, size) for field, size in zip((1, 2, 3, 4), sizes, strict=True)
    ) + (chunk(5, mean.astype("<f4").tobytes()))


def decode_mean(data):
    sizes, at, values = {}, 0, None
    while at < len(data):
        key, at = take_varint(data, at)
        if key & 7 == VARINT:
            sizes[key >> 3], at = take_varint(data, at)
        else:
            size, at = take_varint(data, at)
            assert key >> 3 == 5
            values, at = np.frombuffer(data[at : at + size], "<f4"), at + size
    return values.reshape([sizes[field] for field in (1, 2, 3, 4)])
