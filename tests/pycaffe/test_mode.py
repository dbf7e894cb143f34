from __future__ import annotations

import pytest
import torch

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe import mode


@pytest.fixture(autouse=True)
def _restore():
    yield
    mode.set_mode_cpu()
    mode._gpu_index = 0


def test_the_seed_is_that_of_fillers(small_net):
    weights = []
    for seed in (7, 7, 8):
        caffe.set_random_seed(seed)
        weights.append(small_net().params["conv"][0].data.copy())
    assert (weights[0] == weights[1]).all()
    assert not (weights[0] == weights[2]).any()


def test_gpu_mode_without_a_gpu_warns_and_stays_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="no GPU"):
        caffe.set_mode_gpu()
    assert mode.current_device() == torch.device("cpu")


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    caffe.set_device(1)
    caffe.set_mode_gpu()
    assert mode.current_device() == torch.device("cuda", 1)
    caffe.set_mode_cpu()
    assert mode.current_device() == torch.device("cpu")
    with pytest.raises(SphereFaceError, match="0 to 1"):
        caffe.set_device(2)
