from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.errors import SphereFaceError
from sphereface.evaluation.all_pairs import all_pairs
from sphereface.inference import DeviceScorer

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
def test_products_are_those_of_float64(device):
    rng = np.random.default_rng(1)
    left, right = (rng.standard_normal((n, 40)).astype(np.float32) for n in (7, 300))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = DeviceScorer(device)(left, right[::3])
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    expected = left.astype(np.float64) @ right[::3].astype(np.float64).T
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_all_pairs_do_not_depend_on_who_multiplies(device):
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(30), 5)
    features = rng.standard_normal((30, 16))[people] + 0.8 * rng.standard_normal((150, 16))
    ours = all_pairs(features, people, scorer=DeviceScorer(device))
    numpys = all_pairs(features, people)
    np.testing.assert_allclose(ours.genuine, numpys.genuine, atol=1e-6)
    # A rounded score may change sides with its neighbour, one pair of 300 or 10,875 at the most.
    for one, two in zip(ours.points, numpys.points, strict=True):
        assert one.tar == pytest.approx(two.tar, abs=1.1 / 300, nan_ok=True)
    assert ours.eer.value == pytest.approx(numpys.eer.value, abs=1.1 / 300)


def test_no_such_device():
    with pytest.raises(SphereFaceError, match='device "tpu"'):
        DeviceScorer("tpu")
