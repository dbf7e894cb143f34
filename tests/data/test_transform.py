import numpy as np
import pytest
from scipy import stats

from reference.datum_wire import encode_mean
from sphereface.data.order import random_bits
from sphereface.data.transform import Transform
from sphereface.errors import SphereFaceError

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
EVEN, ODD = 0, 1  # the mirror's coin


def run(transform, image, bits=(EVEN, 0, 0)):
    height, width, channels = image.shape
    out = np.full(transform.output_shape(channels, height, width), np.nan, np.float32)
    transform(image, bits, out)
    return out


def test_nothing_to_do_is_the_pixels(transform_param):
    out = run(Transform(transform_param("")), IMAGE)
    assert (out == IMAGE.transpose(2, 0, 1)).all()


def test_mean_comes_before_scale_in_float32(transform_param):
    text = "mean_value: 104.01 mean_value: 117.3 mean_value: 123.7 scale: 0.017"
    out = run(Transform(transform_param(text)), IMAGE)
    means, scale = np.float32([104.01, 117.3, 123.7]), np.float32(0.017)
    for channel in range(3):
        pixels = IMAGE[:, :, channel].astype(np.float32)
        assert (out[channel] == (pixels - means[channel]) * scale).all()
    one = run(Transform(transform_param("mean_value: 127.5 scale: 0.0078125")), IMAGE)
    assert (one == (IMAGE.transpose(2, 0, 1).astype(float) - 127.5) / 128).all()


def test_mirror_is_the_coins_in_either_phase(transform_param):
    for phase in ("TRAIN", "TEST"):
        transform = Transform(transform_param("mirror: true"), phase)
        plain, mirrored = run(transform, IMAGE, (EVEN, 0, 0)), run(transform, IMAGE, (ODD, 0, 0))
        assert (plain == IMAGE.transpose(2, 0, 1)).all()
        assert (mirrored == IMAGE[:, ::-1].transpose(2, 0, 1)).all()
    assert (run(Transform(transform_param("")), IMAGE, (ODD, 0, 0)) == plain).all()


def test_crop_is_centred_in_test(transform_param):
    out = run(Transform(transform_param("crop_size: 4"), "TEST"), IMAGE, (EVEN, 5, 5))
    assert (out == IMAGE[2:6, 1:5].transpose(2, 0, 1)).all()  # (9 - 4) // 2, (7 - 4) // 2


def test_crop_is_uniform_in_train_and_mirror_a_fair_coin(transform_param):
    transform = Transform(transform_param("crop_size: 4 mirror: true"), "TRAIN")
    rows, columns = np.mgrid[:9, :7]
    image = (10 * rows + columns)[:, :, None].astype(np.uint8)
    counts = np.zeros((6, 4, 2), int)
    for bits in random_bits(1, np.arange(4800)[:, None], np.arange(3)).tolist():
        left, right = run(transform, image, bits)[0, 0, [0, -1]]
        row, column = divmod(int(min(left, right)), 10)
        counts[row, column, int(left > right)] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_mean_image_is_cropped_with_the_image_and_then_mirrored(transform_param, tmp_path):
    mean = RNG.random((3, 9, 7)).astype(np.float32) * 200
    (tmp_path / "mean.binaryproto").write_bytes(encode_mean(mean))
    text = f'mean_file: "{tmp_path}/mean.binaryproto" crop_size: 4 mirror: true scale: 0.5'
    out = run(Transform(transform_param(text), "TRAIN"), IMAGE, (ODD, 3, 2))
    expected = (IMAGE.transpose(2, 0, 1)[:, 3:7, 2:6].astype(np.float32) - mean[:, 3:7, 2:6]) / 2
    assert (out == expected[:, :, ::-1]).all()
    assert np.abs(out).max() > 10


def test_float_images_of_another_layout(transform_param):
    planes = RNG.random((2, 9, 7)).astype(np.float32)
    out = run(Transform(transform_param("mean_value: 0.25 scale: 3")), planes.transpose(1, 2, 0))
    assert (out == (planes - np.float32(0.25)) * np.float32(3)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('mean_file: "m" mean_value: 1', "mean_file and mean_value; expected one of them"),
        ("force_color: true force_gray: true", "force_color and force_gray; expected one"),
        ('mean_file: "missing"', "here: mean_file: missing: no such"),
        ("max_distort: 1", "max_distort, which is temporal segment networks'; expected Caffe's"),
        ("scale_ratios: 0.8", "scale_ratios, which is temporal segment"),
        ("min_side: 4", "min_side, which is caffe-augmentation's"),
        ("random_resize_param { }", "random_resize_param, which is Intel's"),
        ("rotation_angle: 30", "rotation_angle, which is caffe-augmentation's"),
        ("allow_upscale: true", "allow_upscale, which is NVIDIA's"),
        ("resize_param { height: 9 }", "resize_param, which is SSD's; expected Caffe's options"),
    ],
)
def test_options_that_exclude_each_other(transform_param, text, message):
    with pytest.raises(SphereFaceError, match=message):
        Transform(transform_param(text), where="here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean_value: 1 mean_value: 2", "2 mean_value; expected 1, or 3 as the image's channels"),
        ("crop_size: 8", "crop_size 8 of an image of 9 x 7"),
    ],
)
def test_options_that_do_not_fit_the_image(transform_param, text, message):
    with pytest.raises(SphereFaceError, match=message):
        run(Transform(transform_param(text)), IMAGE)


def test_a_mean_of_another_size(transform_param, tmp_path):
    (tmp_path / "mean").write_bytes(encode_mean(np.zeros((3, 4, 7))))
    with pytest.raises(
        SphereFaceError, match=r"a mean of 3 channels of 4 x 7; expected 3 channels of 9 x 7"
    ):
        run(Transform(transform_param(f'mean_file: "{tmp_path}/mean"')), IMAGE)


def test_an_image_of_another_size_than_the_batch(transform_param):
    with pytest.raises(SphereFaceError, match="3 channels of 9 x 7; expected 3 channels of 9 x 6"):
        Transform(transform_param(""))(IMAGE, (0, 0, 0), np.empty((3, 9, 6), np.float32))


@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 3, 9, 7), (3,)])
def test_a_mean_file_may_be_of_numpy(transform_param, tmp_path, shape):
    mean = (RNG.random(shape) * 200).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    out = run(Transform(transform_param(f'mean_file: "{tmp_path}/mean.npy"')), IMAGE)
    expected = IMAGE.transpose(2, 0, 1) - (mean.reshape(-1, 1, 1) if len(shape) == 1 else mean)
    assert (out == expected.reshape(out.shape)).all()
