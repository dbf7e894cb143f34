from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.pycaffe import io

FOLDER = Path(__file__).parents[1] / "golden" / "pycaffe"


@pytest.mark.parametrize("color", [True, False])
def test_a_photograph_as_scikit_image_read_it(color):
    expected = np.load(FOLDER / "images.npz")["photo/color" if color else "photo/grey"]
    image = io.load_image(FOLDER / "photo.jpg", color)
    assert image.dtype == np.float32
    assert image.shape == (24, 20, 3 if color else 1)
    # Decoders may differ by one in 255.
    np.testing.assert_allclose(image.squeeze(), expected, atol=1.01 / 255)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_any_depth(tmp_path, rng, dtype, top, channels):
    shape = (4, 5) if channels == 1 else (4, 5, channels)
    pixels = rng.integers(0, top + 1, shape).astype(dtype)
    path = str(tmp_path / "ä.png")
    cv2.imencode(".png", pixels)[1].tofile(path)
    rgb = np.stack([pixels] * 3, 2) if channels == 1 else pixels[:, :, 2::-1]
    np.testing.assert_allclose(io.load_image(path), rgb / top, rtol=1e-6)
    grey = pixels / top if channels == 1 else rgb / top @ [0.2125, 0.7154, 0.0721]
    np.testing.assert_allclose(io.load_image(path, color=False)[:, :, 0], grey, rtol=1e-6)


def test_file_objects(tmp_path):
    path = FOLDER / "photo.jpg"
    expected = io.load_image(path)
    with path.open("rb") as file:
        np.testing.assert_array_equal(io.load_image(file), expected)
    np.testing.assert_array_equal(io.load_image(BytesIO(path.read_bytes())), expected)
    with pytest.raises(SphereFaceError, match="file object: .*"):
        io.load_image(BytesIO(b"no image"))
    (tmp_path / "text.jpg").write_text("no image")
    with (
        (tmp_path / "text.jpg").open() as file,
        pytest.raises(
            SphereFaceError, match='text.jpg: text; expected bytes; open it with mode "rb"'
        ),
    ):
        io.load_image(file)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for name, problem in (("text.jpg", "no picture"), ("empty.jpg", "empty file")):
        with pytest.raises(SphereFaceError, match=f"{name}: {problem}"):
            io.load_image(tmp_path / name)
    with pytest.raises(SphereFaceError, match="missing.jpg: no such picture"):
        io.load_image(tmp_path / "missing.jpg")


def test_oversample_order():
    image = np.arange(7 * 6).reshape(7, 6, 1).astype(float)
    crops = io.oversample([image, image + 100], (4, 3))
    assert crops.shape == (20, 4, 3, 1)
    corners = [(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]
    for index, (top, left) in enumerate(corners):
        np.testing.assert_array_equal(crops[index], image[top : top + 4, left : left + 3])
        np.testing.assert_array_equal(crops[5 + index], crops[index][:, ::-1])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)
    with pytest.raises(SphereFaceError, match="crops that fit"):
        io.oversample([image], (8, 3))


def test_datums():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    datum = io.array_to_datum(pixels, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 2, 2, 7)
    assert datum.data == bytes(range(12))
    np.testing.assert_array_equal(io.datum_to_array(datum), pixels)
    floats = io.array_to_datum(pixels / 8)
    assert not floats.data
    assert not floats.HasField("label")
    np.testing.assert_array_equal(io.datum_to_array(floats), pixels / 8)
    with pytest.raises(SphereFaceError, match="Incorrect array shape"):
        io.array_to_datum(pixels[0])


def test_blobprotos():
    array = np.arange(6.0).reshape(1, 2, 3)
    blob = io.array_to_blobproto(array, array + 10)
    assert list(blob.shape.dim) == [1, 2, 3]
    np.testing.assert_array_equal(io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), array + 10)


def test_blobprotos_of_other_times():
    old = io.caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    assert io.blobproto_to_array(old).shape == (1, 2, 1, 3)
    double = io.caffe_pb2.BlobProto(double_data=[0.1, 0.2])
    double.shape.dim.append(2)
    np.testing.assert_array_equal(io.blobproto_to_array(double), [0.1, 0.2])


def test_a_mean_file_as_scripts_read_it(tmp_path):
    mean = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(io.array_to_blobproto(mean).SerializeToString())
    blob = io.caffe_pb2.BlobProto()
    blob.ParseFromString(path.read_bytes())
    np.testing.assert_array_equal(io.blobproto_to_array(blob)[0], mean[0])


def test_blob_vectors():
    arrays = [np.arange(4.0).reshape(2, 2), np.ones((1, 3))]
    back = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    for one, other in zip(arrays, back, strict=True):
        np.testing.assert_array_equal(one, other)
