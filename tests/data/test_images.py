import cv2
import numpy as np
import pytest

from sphereface.data.images import decode_image, encode_image, read_image, resize_image
from sphereface.errors import SphereFaceError

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8), (40, 50))


def write(path, image, *options):
    assert cv2.imwrite(str(path), image, *options)
    return str(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "pgm"])
@pytest.mark.parametrize("color", [True, False])
def test_files_are_read_as_opencv_reads_them(tmp_path, suffix, color):
    image = SMOOTH if suffix != "pgm" else SMOOTH[:, :, 0]
    path = write(tmp_path / f"x.{suffix}", image)
    read = read_image(path, color)
    expected = cv2.imread(path, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE)
    assert read.shape == (50, 40, 3 if color else 1)
    assert (read == expected.reshape(read.shape)).all()
    assert read.std() > 20


def test_gray_alpha_and_16_bits_become_what_is_asked(tmp_path):
    gray = write(tmp_path / "gray.png", SMOOTH[:, :, 0])
    assert (read_image(gray, True) == SMOOTH[:, :, :1]).all()
    alpha = write(tmp_path / "alpha.png", np.dstack([SMOOTH, SMOOTH[:, :, 0]]))
    assert (read_image(alpha, True) == SMOOTH).all()
    deep = write(tmp_path / "deep.png", SMOOTH.astype(np.uint16) * 257)
    assert (read_image(deep, True) == SMOOTH).all()


def test_as_the_file_has_it():
    four = np.dstack([SMOOTH, SMOOTH[:, :, 0]])
    for image in (SMOOTH, SMOOTH[:, :, :1], four):
        assert (decode_image(cv2.imencode(".png", image)[1].tobytes(), None) == image).all()
    deep = cv2.imencode(".png", SMOOTH.astype(np.uint16) * 257)[1].tobytes()
    with pytest.raises(SphereFaceError, match="values of uint16; expected 8 bits.*force_color"):
        decode_image(deep, None)


def test_resizing_is_bilinear_with_pixel_centres():
    for image in (SMOOTH, SMOOTH[:, :, :1]):
        resized = resize_image(image, 25, 20)
        # Halving takes the mean of each 2 x 2 block, rounded.
        blocks = image.astype(int).reshape(25, 2, 20, 2, -1).sum((1, 3))
        assert resized.shape == (25, 20, image.shape[2])
        assert np.abs(resized - blocks / 4).max() <= 0.5
    assert resize_image(SMOOTH, 50, 40) is SMOOTH


def test_missing_empty_and_unreadable_files(tmp_path):
    with pytest.raises(SphereFaceError, match="no such image file .*missing.png"):
        read_image(str(tmp_path / "missing.png"), True)
    (tmp_path / "empty.png").touch()
    with pytest.raises(SphereFaceError, match=r"empty.png\" is empty"):
        read_image(str(tmp_path / "empty.png"), True)
    with pytest.raises(SphereFaceError, match="cannot be read .Is a directory"):
        read_image(str(tmp_path), True)
    with pytest.raises(SphereFaceError, match="cannot be read .embedded null byte"):
        read_image("a\0b", True)


def test_text_is_no_image(tmp_path):
    (tmp_path / "x.jpg").write_text("<html>404 Not Found</html>")
    with pytest.raises(SphereFaceError, match="corrupt or no image"):
        read_image(str(tmp_path / "x.jpg"), True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files(suffix, share):
    data = cv2.imencode(f".{suffix}", SMOOTH)[1].tobytes()
    with pytest.raises(SphereFaceError, match="the face is (truncated|corrupt)"):
        decode_image(data[: int(share * len(data))], True, "the face")


def test_a_truncated_jpeg_with_a_whole_thumbnail():
    thumbnail = cv2.imencode(".jpg", SMOOTH[:8, :8])[1].tobytes()
    data = cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + segment + data[2:]
    assert decode_image(whole, True).shape == (50, 40, 3)
    with pytest.raises(SphereFaceError, match="image is truncated: a JPEG without its end"):
        decode_image(whole[:-20], True)


def test_a_jpeg_with_bytes_after_its_end_is_whole():
    data = cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    assert (decode_image(data + bytes(999), True) == decode_image(data, True)).all()


def test_encoding():
    assert (cv2.imdecode(np.frombuffer(encode_image(SMOOTH, "png"), np.uint8), 1) == SMOOTH).all()
    assert encode_image(SMOOTH, "jpg") == cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    with pytest.raises(SphereFaceError, match='encode_type: OpenCV cannot encode as "docx"'):
        encode_image(SMOOTH, "docx")
