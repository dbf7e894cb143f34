"""From any source to any target through a net; files that exist, and formats by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.cli import convert as command
from sphereface.convert.formats import TARGETS, check_target, load_net, save_net
from sphereface.errors import SphereFaceError
from sphereface.weights import load_weights as read_blobs

ORL = Path(__file__).parents[1] / "golden" / "orl_sphereface4"
DEPLOY, WEIGHTS = ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".caffemodel.h5", ".caffemodel"])
def test_there_and_back_keeps_every_bit(suffix, tmp_path):
    net = load(DEPLOY)
    left = load_net(net, WEIGHTS)
    assert [line.split(":")[0] for line in left] == ["fc6"]
    save_net(net, tmp_path / f"net{suffix}")
    other = load(DEPLOY)
    assert load_net(other, tmp_path / f"net{suffix}") == []
    save_net(other, tmp_path / "again.caffemodel")
    original, again = read_blobs(WEIGHTS), read_blobs(tmp_path / "again.caffemodel")
    compared = 0
    for name, arrays in again.items():
        if not arrays:
            continue
        for array, recorded in zip(arrays, original[name], strict=True):
            np.testing.assert_array_equal(array, recorded.reshape(array.shape))
            compared += array.size
    assert compared == sum(blob.numel() for layer in net.layers for blob in layer.blobs) > 10**5


def test_weights_that_are_missing_are_told(tmp_path):
    text = DEPLOY.read_text() + (
        'layer { name: "fc9" type: "InnerProduct" bottom: "fc5" top: "fc9"'
        " inner_product_param { num_output: 2 } }"
    )
    with pytest.raises(SphereFaceError, match=r"orl_iter_300\.caffemodel: no weights for fc9"):
        load_net(load(text), WEIGHTS)


def test_a_file_that_exists_is_kept(tmp_path):
    path = tmp_path / "net.pt"
    path.write_text("mine")
    net = load(DEPLOY)
    with pytest.raises(
        SphereFaceError, match=r"net\.pt: exists already; give another name, or pass overwrite=True"
    ):
        save_net(net, path)
    assert path.read_text() == "mine"
    save_net(net, path, overwrite=True)
    assert torch.load(path, weights_only=True).keys() == net.state_dict().keys()


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    net = load(DEPLOY)
    with pytest.raises(SphereFaceError, match="fc5"):
        save_net(net, path, images=True, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_graphs_are_of_test_nets(name, tmp_path):
    with pytest.raises(SphereFaceError, match="in phase TRAIN; expected phase TEST"):
        save_net(load(DEPLOY, phase="TRAIN"), tmp_path / name)


def test_formats_by_suffix(tmp_path):
    assert check_target(tmp_path / "a.CAFFEMODEL") == "caffemodel"
    assert check_target(tmp_path / "a.pth") == "pt"
    assert check_target(tmp_path / "a.pt2") == "pt2"
    assert check_target(tmp_path / "a.bin", "onnx") == "onnx"
    with pytest.raises(SphereFaceError, match=r'did you mean "\.safetensors"'):
        check_target(tmp_path / "a.safetensor")
    with pytest.raises(SphereFaceError, match=r"a\.pt: no folder .*nowhere"):
        check_target(tmp_path / "nowhere" / "a.pt")
    with pytest.raises(SphereFaceError, match=r"expected a name that ends in \.caffemodel\.h5"):
        save_net(load(DEPLOY), tmp_path / "a.bin", "caffemodel.h5")


def test_the_command_offers_all_formats():
    assert command._TARGETS == TARGETS
