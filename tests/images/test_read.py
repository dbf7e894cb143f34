import os
import struct

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.images import (
    ImageTooLargeError,
    UnreadableImageError,
    decode_image,
    image_size,
    read_image,
)

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8), (40, 50))
#: What OpenCV writes, and so reads; one of each format.
SUFFIXES = ["jpg", "png", "bmp", "gif", "webp", "tiff", "ppm", "pam", "jp2", "avif"]


def encoded(image=SMOOTH, suffix="png"):
    return cv2.imencode(f".{suffix}", image)[1].tobytes()


def with_exif(data, orientation, order="<"):
    """A JPEG or PNG with an EXIF that has nothing but an orientation."""
    mark = {"<": b"II", ">": b"MM"}[order]
    exif = mark + struct.pack(order + "HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    if data[:2] == b"\xff\xd8":
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    import zlib

    chunk = b"eXIf" + exif
    packed = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + packed + data[33:]


@pytest.mark.parametrize("suffix", [*SUFFIXES, "pgm", "pbm"])
@pytest.mark.parametrize("color", ["bgr", "gray"])
def test_files_are_read_as_opencv_reads_them(tmp_path, suffix, color):
    image = {"pgm": SMOOTH[:, :, 0], "pbm": SMOOTH[:, :, 0] // 128 * 255}.get(suffix, SMOOTH)
    path = tmp_path / f"ä \udcff.{suffix}"  # any name
    path.write_bytes(encoded(image, suffix))
    read = read_image(path, color=color)
    flag = cv2.IMREAD_COLOR if color == "bgr" else cv2.IMREAD_GRAYSCALE
    expected = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    assert read.shape == (50, 40, 3 if color == "bgr" else 1)
    assert (read == expected.reshape(read.shape)).all()
    assert read.std() > 20
    assert image_size(path) == (50, 40)


def test_rgb():
    assert (decode_image(encoded(), color="rgb") == SMOOTH[:, :, ::-1]).all()
    assert decode_image(encoded(), color="rgb").flags.c_contiguous


def test_grey_alpha_and_16_bits_become_what_is_asked():
    assert (decode_image(encoded(SMOOTH[:, :, 0])) == SMOOTH[:, :, :1]).all()
    assert (decode_image(encoded(np.dstack([SMOOTH, SMOOTH[:, :, 0]]))) == SMOOTH).all()
    deep = encoded(SMOOTH.astype(np.uint16) * 256 + 255)
    assert (decode_image(deep) == SMOOTH).all()
    assert (decode_image(deep, color="rgb") == SMOOTH[:, :, ::-1]).all()
    gray = decode_image(encoded(SMOOTH[:, :, 0].astype(np.uint16) * 256 + 255), color="gray")
    assert (gray[:, :, 0] == SMOOTH[:, :, 0]).all()


def test_palette_and_cmyk():
    image_module = pytest.importorskip("PIL.Image", reason="Pillow writes the palette and CMYK")
    from io import BytesIO

    pixels = np.zeros((8, 6, 3), np.uint8)
    pixels[:4] = [200, 30, 90]
    pixels[4:, 3:] = [5, 250, 40]
    for mode, suffix, atol in (("P", "png", 0), ("P", "gif", 0), ("CMYK", "jpeg", 6)):
        file = BytesIO()
        image = image_module.fromarray(pixels)
        image = image.quantize(4) if mode == "P" else image.convert(mode)
        image.save(file, suffix, **({"quality": 100, "subsampling": 0} if mode == "CMYK" else {}))
        read = decode_image(file.getvalue(), color="rgb").astype(int)
        assert np.abs(read - pixels).max() <= atol, (mode, suffix)


def test_as_the_file_has_it():
    four = np.dstack([SMOOTH, SMOOTH[:, :, 0]])
    for image in (SMOOTH, SMOOTH[:, :, :1], four, four.astype(np.uint16) * 257):
        assert (decode_image(encoded(image), color="unchanged") == image).all()
    with pytest.raises(UnreadableImageError, match="values of float32; expected 8 or 16 bits"):
        decode_image(encoded(SMOOTH.astype(np.float32), "tiff"), color="unchanged")


#: Where row 0 and column 0 of the file are in the upright picture, as EXIF 2.3 names them.
UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x.swapaxes(0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation(tmp_path, orientation, suffix, order):
    plain = encoded(SMOOTH, suffix)
    stored = decode_image(plain)
    data = with_exif(plain, orientation, order)
    for color in ("bgr", "unchanged"):
        assert (decode_image(data, color=color) == UPRIGHT[orientation](stored)).all()
        assert (decode_image(data, color=color, exif=False) == stored).all()
    if suffix == "jpg":
        assert (decode_image(data) == cv2.imdecode(np.frombuffer(data, np.uint8), 1)).all()
    (tmp_path / "x").write_bytes(data)
    assert image_size(tmp_path / "x") == UPRIGHT[orientation](stored).shape[:2]
    assert image_size(tmp_path / "x", exif=False) == (50, 40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_ignored(orientation):
    data = with_exif(encoded(suffix="jpg"), orientation)
    assert decode_image(data).shape == (50, 40, 3)
    assert decode_image(data.replace(b"II*\0", b"IIII")).shape == (50, 40, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_size_is_refused_before_decoding(tmp_path, suffix, monkeypatch):
    (tmp_path / "x").write_bytes(encoded(suffix=suffix))
    assert read_image(tmp_path / "x", max_pixels=2000).shape == (50, 40, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLargeError, match="x: 50 x 40 pixels; expected at most 1,999") as e:
        read_image(tmp_path / "x", max_pixels=1999)
    assert e.value.status == "too_large"


def test_a_small_file_of_a_huge_picture_takes_no_memory():
    # 25,000 x 25,000 grey pixels of 0 are 600 kB of PNG, and 1.9 GB in colour.
    head = struct.pack(">IIBBBBB", 25_000, 25_000, 8, 0, 0, 0, 0)
    data = encoded()[:16] + head + encoded()[29:]
    with pytest.raises(
        ImageTooLargeError, match="25000 x 25000 pixels; expected at most 100,000,0"
    ):
        decode_image(data)


def test_missing_empty_and_unreadable_files(tmp_path):
    for path, message in (
        (tmp_path / "missing.png", "missing.png: no such picture"),
        (tmp_path, "a folder; expected a picture"),
        ("a\0b", "cannot be read .embedded null byte"),
    ):
        with pytest.raises(UnreadableImageError, match=message) as error:
            read_image(path)
        assert error.value.status == "unreadable"
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImageError, match=r"empty.png: empty file"):
        read_image(tmp_path / "empty.png")


def test_text_is_no_picture(tmp_path):
    (tmp_path / "x.jpg").write_text("<html>404 Not Found</html>")
    with pytest.raises(UnreadableImageError, match="x.jpg: no picture: it begins with b'<html>"):
        read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_files(suffix, share):
    data = encoded(suffix=suffix)
    with pytest.raises(UnreadableImageError, match="truncated|no picture"):
        decode_image(data[: int(share * len(data))])


def test_a_truncated_jpeg_with_a_whole_thumbnail():
    thumbnail = encoded(SMOOTH[:8, :8], "jpg")
    data = encoded(suffix="jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert decode_image(whole).shape == (50, 40, 3)
    with pytest.raises(SphereFaceError, match="truncated: a JPEG without its end"):
        decode_image(whole[:-20])


def test_a_jpeg_with_bytes_after_its_end_is_whole():
    data = encoded(suffix="jpg")
    assert (decode_image(data + bytes(999)) == decode_image(data)).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_damage_of_a_header_raises_anything_else(suffix):
    """Every byte of the first 64 changed, and every beginning of the file cut."""
    whole = encoded(SMOOTH[:40], suffix)
    damaged = [whole[:cut] for cut in range(min(len(whole), 300))]
    for place in range(min(len(whole), 64)):
        for flip in (1, 255):
            damaged.append(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
    refused = 0
    for data in damaged:
        try:
            image = decode_image(data, max_pixels=10_000)
        except UnreadableImageError:
            refused += 1
        except ImageTooLargeError:
            pass
        else:
            assert image.shape[2] == 3
    assert refused > 64


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match=r"pipe\.png: a pipe; expected a picture"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match="/dev/zero: a device"):
        read_image("/dev/zero")


def test_the_error_keeps_its_class_at_an_outer_place():
    with pytest.raises(ImageTooLargeError) as error:
        decode_image(encoded(), max_pixels=1, where="x.png")
    outer = error.value.at("list.txt:3")
    assert str(outer).startswith("list.txt:3: x.png: 50 x 40 pixels")
    assert outer.status == "too_large"
