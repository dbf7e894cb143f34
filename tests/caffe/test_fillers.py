from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sphereface.caffe.fillers import FILLERS, fan, fill_
from sphereface.errors import SphereFaceError
from sphereface.proto import schema, text


def filler(options: str):
    return text.parse(options, "FillerParameter").message


def filled(options: str, shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return fill_(torch.zeros(shape, dtype=torch.float64), filler(options), generator).numpy()


@pytest.mark.parametrize(
    ("norm", "shape", "n"),
    [
        ("FAN_IN", (8, 4, 3, 5), 60),
        ("FAN_OUT", (8, 4, 3, 5), 120),
        ("AVERAGE", (8, 4, 3, 5), 90),
        ("FAN_IN", (10572, 512), 512),
        ("FAN_OUT", (10572, 512), 10572),
        ("FAN_OUT", (7,), 7),
    ],
)
def test_fan_is_that_of_the_shape(norm, shape, n):
    assert fan(shape, filler(f"variance_norm: {norm}")) == n


def test_constant():
    assert (filled("value: 0.5", (2, 3)) == 0.5).all()
    assert not filled("", (2, 3)).any()


def test_uniform():
    values = filled('type: "uniform" min: -1 max: 3', (100, 100))
    assert -1 <= values.min() < -0.99
    assert 2.99 < values.max() <= 3
    assert abs(values.mean() - 1) < 0.05


def test_gaussian():
    values = filled('type: "gaussian" mean: 2 std: 0.1', (100, 100))
    assert abs(values.mean() - 2) < 0.01
    assert abs(values.std() - 0.1) < 0.005


def test_sparse_gaussian_keeps_that_many_weights_an_output():
    """The probability is sparse / outputs, so a column of 100 outputs keeps 15 on average."""
    values = filled('type: "gaussian" std: 1 sparse: 15', (100, 400))
    assert abs((values != 0).mean() - 0.15) < 0.01
    assert abs(values[values != 0].std() - 1) < 0.05


def test_positive_unitball_rows_sum_to_one():
    values = filled('type: "positive_unitball"', (6, 4, 5))
    assert values.min() >= 0
    np.testing.assert_allclose(values.sum((1, 2)), 1)


def test_gaussian_unitball_rows_have_norm_one():
    values = filled('type: "gaussian_unitball"', (6, 50))
    assert values.min() < 0
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1)


@pytest.mark.parametrize(("norm", "n"), [("FAN_IN", 60), ("FAN_OUT", 3000), ("AVERAGE", 1530)])
def test_xavier_and_msra(norm, n):
    shape = (200, 4, 3, 5)
    values = filled(f'type: "xavier" variance_norm: {norm}', shape)
    bound = math.sqrt(3 / n)
    assert 0.99 * bound < np.abs(values).max() <= bound
    assert abs(values.var() * n - 1) < 0.05
    values = filled(f'type: "msra" variance_norm: {norm}', shape)
    assert abs(values.var() * n / 2 - 1) < 0.05
    assert np.abs(values).max() > 3 * math.sqrt(2 / n)


@pytest.mark.parametrize(
    ("width", "ramp"), [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1, 0.5]), (2, [0.5, 0.5])]
)
def test_bilinear(width, ramp):
    values = filled('type: "bilinear"', (2, 3, width, width))
    expected = np.outer(ramp, ramp)
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape))


def test_a_generator_repeats_itself():
    for name in FILLERS:
        options, shape = f'type: "{name}"', (3, 2, 4, 4)
        np.testing.assert_array_equal(filled(options, shape), filled(options, shape))
    assert (filled('type: "xavier"', (3, 4)) != filled('type: "xavier"', (3, 4), seed=6)).any()


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ('type: "xavjer"', (2, 2), 'did you mean "xavier"'),
        ('type: "xavier" sparse: 3', (2, 2), 'sparse only in filler "gaussian"'),
        ('type: "gaussian" std: -1', (2, 2), r'"gaussian" cannot fill .* \(2, 2\) \(.*std'),
        ('type: "uniform" min: 1 max: 0', (2, 2), '"uniform" cannot fill'),
        ('type: "bilinear"', (2, 2), "4 axes with a square filter"),
        ('type: "bilinear"', (2, 2, 3, 4), "4 axes with a square filter"),
    ],
)
def test_wrong_fillers(options, shape, message):
    with pytest.raises(SphereFaceError, match=message):
        filled(options, shape)


def test_default_message_fills_zeros():
    assert not fill_(torch.ones(2), schema.message("FillerParameter")()).any()


def test_msra_for_a_leaky_rectifier():
    values = filled('type: "msra" alpha: 0.5', (200, 4, 3, 5))
    assert abs(values.var() * 60 * 1.25 / 2 - 1) < 0.05


def test_intels_scale_of_msra():
    values = filled('type: "msra" scale: 0.5', (200, 4, 3, 5))
    assert abs(values.var() * 60 / 2 * 4 - 1) < 0.05
