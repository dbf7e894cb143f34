from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.images import ImageFile, Preprocessing, list_images
from sphereface.inference import (
    ArrayRecords,
    ImageRecords,
    Predictor,
    image_input,
    read_arrays,
    run_arrays,
    run_records,
)

ORL = Path(__file__).parents[1] / "golden" / "orl_sphereface4"

NET = """
input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 6 }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "double" type: "Power" bottom: "pool" top: "double" power_param { scale: 2 } }
"""


def run_images(predictor, paths, form, blobs=(), batch=16, with_mirror=False):
    files = [ImageFile("", path) for path in paths]
    records = ImageRecords(files, predictor.net.inputs[0], form, with_mirror=with_mirror)
    names, found = run_records(predictor, records, blobs, batch=batch)
    assert names == paths
    return found


@pytest.fixture
def predictor():
    return Predictor(load(NET))


@pytest.fixture
def photos(tmp_path, rng):
    """Return five PNG files of 4 x 6 pixels, and the pixels (5, 4, 6, 3)."""
    pixels = rng.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for path, image in zip(paths, pixels, strict=True):
        cv2.imwrite(path, image)
    return paths, pixels


def test_the_photographs_that_the_original_caffe_saw(orl_images, norm_error):
    """Features and AUC of a net that the original trained, from the image files on."""
    golden = np.load(ORL / "orl_golden.npz")
    predictor = Predictor(load(ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel"))
    _, size = image_input(predictor)
    assert size == (112, 96)
    paths = [file.path for file in list_images([ORL / "test.txt"], str(orl_images))]
    assert [str(Path(p).relative_to(orl_images)) for p in paths] == list(golden["paths"])
    form = Preprocessing(size=size, mean=np.array([127.5]), scale=0.0078125)
    features = run_images(predictor, paths, form, ["fc5"], with_mirror=True)["fc5"]
    assert features.shape == (100, 128)
    assert norm_error(features, golden["features"]) < 1e-4
    for row, expected in zip(features, golden["features"], strict=True):
        assert norm_error(row, expected) < 1e-4

    unit = features.astype(float) / np.linalg.norm(features, axis=1, keepdims=True)
    first, second = np.triu_indices(100, 1)
    person = np.array([Path(path).parent.name for path in paths])
    same = person[first] == person[second]
    scores = (unit @ unit.T)[first, second]
    # Probability that a pair of one person scores higher than a pair of two.
    above = scores[same][:, None] > scores[~same][None]
    assert above.mean() == pytest.approx(0.9267, abs=5e-5)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_images_in_batches(predictor, photos, batch, capsys):
    paths, pixels = photos
    blobs = run_images(predictor, paths, Preprocessing(), ["pool", "double"], batch=batch)
    expected = pixels.astype(float).mean((1, 2))
    assert list(blobs) == ["pool", "double"]
    np.testing.assert_allclose(blobs["pool"][:, :, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(blobs["double"], 2 * blobs["pool"], rtol=1e-6)
    assert ("running: 5/5" in capsys.readouterr().err) == (batch < 5)


def test_outputs_when_no_blob_is_named(predictor, photos):
    assert list(run_images(predictor, photos[0], Preprocessing())) == ["double"]


def test_mirror_is_joined_after_the_image(photos):
    net = load("""
      input: "data" input_shape { dim: 1 dim: 1 dim: 1 dim: 2 }
      layer { name: "f" type: "Flatten" bottom: "data" top: "f" }""")
    form = Preprocessing(size=(1, 2), color="gray")
    both = run_images(Predictor(net), photos[0][:1], form, with_mirror=True)["f"][0]
    alone = run_images(Predictor(net), photos[0][:1], form)["f"][0]
    assert alone[0] != alone[1]
    assert list(both) == [*alone, *alone[::-1]]


def test_sizes_that_differ(predictor, photos, tmp_path):
    odd = str(tmp_path / "odd.png")
    cv2.imwrite(odd, np.zeros((8, 6, 3), np.uint8))
    paths = [photos[0][0], odd]
    with pytest.raises(SphereFaceError, match=r"odd\.png: shape \(3, 8, 6\) .*\(3, 4, 6\)"):
        run_images(predictor, paths, Preprocessing())
    # Global pooling makes one shape of them, one by one.
    assert run_images(predictor, paths, Preprocessing(), batch=1)["double"].shape == (2, 3, 1, 1)
    with pytest.raises(SphereFaceError, match='blob "data" has different shapes'):
        run_images(predictor, paths, Preprocessing(), ["data"], batch=1)


def test_a_net_with_other_inputs(rng):
    net = load('input: "x" input_shape { dim: 2 dim: 3 } input: "y" input_shape { dim: 2 dim: 3 } '
               'layer { name: "s" type: "Eltwise" bottom: "x" bottom: "y" top: "s" }')  # fmt: skip
    with pytest.raises(SphereFaceError, match=r"inputs x \(2, 3\), y \(2, 3\).*\.npz"):
        image_input(Predictor(net))
    x, y = rng.normal(size=(2, 5, 3)).astype(np.float32)
    for batch in (2, 16):
        np.testing.assert_array_equal(
            run_records(Predictor(net), ArrayRecords({"x": x, "y": y}), batch=batch)[1]["s"], x + y
        )


def test_arrays_from_files(predictor, tmp_path, rng):
    image = rng.normal(size=(3, 4, 6))
    np.save(tmp_path / "one.npy", image)
    arrays = read_arrays(tmp_path / "one.npy", predictor)
    assert arrays["data"].shape == (1, 3, 4, 6)
    result = run_arrays(predictor, arrays)["double"]
    np.testing.assert_allclose(result[0, :, 0, 0], 2 * image.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.savez(tmp_path / "named.npz", data=image[None])
    np.testing.assert_array_equal(
        read_arrays(tmp_path / "named.npz", predictor)["data"], arrays["data"]
    )
    np.savez(tmp_path / "wrong.npz", image=image)
    with pytest.raises(SphereFaceError, match=r"wrong\.npz: arrays image; expected .*: data"):
        read_arrays(tmp_path / "wrong.npz", predictor)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(SphereFaceError, match=r"bad\.npy: not a readable numpy file \(it does not"):
        read_arrays(tmp_path / "bad.npy", predictor)


def test_a_number_for_a_whole_batch_cannot_be_joined():
    net = load("""
      input: "data" input_shape { dim: 4 dim: 2 }
      layer { name: "r" type: "Reduction" bottom: "data" top: "r" }""")
    records = ArrayRecords({"data": np.ones((4, 2), np.float32)})
    assert run_records(Predictor(net), records, batch=4)[1]["r"] == 8
    with pytest.raises(SphereFaceError, match=r'blob "r" of shape \(\) has no row for each'):
        run_records(Predictor(net), records, batch=2)
