import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.images import decode_image, encode_image, read_image, write_image

RNG = np.random.default_rng(5)
SMOOTH = cv2.resize(RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8), (40, 50))


def test_encoding():
    assert (decode_image(encode_image(SMOOTH, "png")) == SMOOTH).all()
    assert encode_image(SMOOTH, "jpg") == cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    with pytest.raises(SphereFaceError, match='OpenCV cannot encode as "docx"'):
        encode_image(SMOOTH, "docx")


@pytest.mark.parametrize("shape", [(50, 40), (50, 40, 1), (50, 40, 3)])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_files_are_read_as_they_were_written(tmp_path, shape, color):
    image = SMOOTH[:, :, : shape[2] if len(shape) > 2 else 1].reshape(shape)
    path = tmp_path / "ä.png"
    write_image(path, image, color=color)
    again = read_image(path, color="gray" if shape[2:] != (3,) else color)
    assert (again == image.reshape(again.shape)).all()


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_quality(tmp_path, suffix):
    sizes = []
    for quality in (20, 60, 95):
        write_image(tmp_path / f"x.{suffix}", SMOOTH, quality=quality)
        sizes.append((tmp_path / f"x.{suffix}").stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("image", [SMOOTH / 255.0, SMOOTH[:, :, :2], SMOOTH[:0], SMOOTH[None]])
def test_what_is_no_picture(tmp_path, image):
    with pytest.raises(SphereFaceError, match=r"a picture of shape .*; expected uint8 of shape"):
        write_image(tmp_path / "x.png", image)
    assert not list(tmp_path.iterdir())
