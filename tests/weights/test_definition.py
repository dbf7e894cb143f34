"""Nets out of weight files: of files that Caffe wrote, and of every old form."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from sphereface.caffe import list_layers
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.text import parse
from sphereface.weights import (
    definition_text,
    is_weights,
    read_caffemodel,
    read_definition,
    write_caffemodel_h5,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ORL = GOLDEN / "orl_sphereface4"

V1 = """
name: "old"
input: "data"
layers { name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip"
         blobs { num: 1 channels: 1 height: 2 width: 3 data: [1, 2, 3, 4, 5, 6] }
         inner_product_param { num_output: 2 bias_term: false } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" top: "loss" }
"""
V0 = """
name: "older"
input: "data" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1
layers { layer { name: "ip" type: "innerproduct" num_output: 2 biasterm: false
                 blobs { num: 1 channels: 1 height: 2 width: 3 data: [1, 2, 3, 4, 5, 6] } }
         bottom: "data" top: "ip" }
"""


@pytest.fixture(autouse=True)
def _layers():
    list_layers()


def binary(text, path):
    path.write_bytes(schema.encode(parse(text).message))
    return path


def listed(net):
    return [(layer.name, layer.type) for layer in net.layer]


def test_a_snapshot_of_caffe():
    """Recorded from the original solver: MarginInnerProduct, its Splits and the loss go."""
    stored = read_caffemodel(ORL / "orl_iter_300.caffemodel")
    types = {layer.type for layer in stored.layers}
    assert {"MarginInnerProduct", "SoftmaxWithLoss", "Split"} <= types
    file = read_definition(ORL / "orl_iter_300.caffemodel")
    by_hand = read_definition(ORL / "deploy.prototxt")
    kept = [pair for pair in listed(by_hand.net) if pair[1] != "Input"]
    assert [pair for pair in listed(file.net) if pair[1] != "Input"] == kept
    assert file.where(1).startswith(str(ORL / "orl_iter_300.caffemodel") + ': layer "conv1_1"')


def test_v1_without_the_shape_of_its_input(tmp_path):
    file = read_definition(binary(V1, tmp_path / "v1.caffemodel"))
    assert listed(file.net) == [("input", "Input"), ("ip", "InnerProduct")]
    assert list(file.net.layer[0].top) == ["data"]
    assert not file.net.layer[0].input_param.shape
    assert "V1 layers to layer" in file.changes


def test_v0(tmp_path):
    file = read_definition(binary(V0, tmp_path / "v0.caffemodel"))
    assert listed(file.net) == [("input", "Input"), ("ip", "InnerProduct")]
    assert list(file.net.layer[0].input_param.shape[0].dim) == [1, 3, 1, 1]
    assert file.net.layer[1].inner_product_param.num_output == 2
    assert not file.net.layer[1].blobs


def test_text_stays_text(tmp_path):
    text = (ORL / "deploy.prototxt").read_text()
    assert definition_text(ORL / "deploy.prototxt") == definition_text(text) == text
    assert not is_weights(text)
    assert not is_weights(ORL / "deploy.prototxt")
    assert not is_weights(tmp_path / "nothing")
    assert is_weights(ORL / "orl_iter_300.caffemodel")


def test_the_text_of_a_snapshot_is_its_net(tmp_path):
    text = definition_text(ORL / "orl_iter_300.caffemodel")
    assert "blobs" not in text
    assert parse(text).message == read_definition(ORL / "orl_iter_300.caffemodel").net


def test_hdf5_with_its_net(tmp_path):
    net = """
    layer { name: "d" type: "Data" top: "data" top: "label" transform_param { crop_size: 5 } }
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }"""
    path = tmp_path / "net.h5"
    write_caffemodel_h5(path, {"c": [np.ones((2, 3, 1, 1), np.float32)]}, net)
    file = read_definition(path)
    assert listed(file.net) == [("d", "Input"), ("c", "Convolution")]
    assert list(file.net.layer[0].input_param.shape[0].dim) == [1, 3, 5, 5]


def test_safetensors_with_its_net(tmp_path):
    path = tmp_path / "net.safetensors"
    text = (ORL / "deploy.prototxt").read_text()
    save_file({"a": np.ones(2, np.float32)}, path, {"prototxt": text})
    assert definition_text(path) == text
    assert read_definition(path).net == read_definition(text).net


def _torch(path):
    path.write_bytes(b"\x80\x02}q\0.")  # as torch.save wrote before 1.6


def _safetensors(path):
    save_file({"a": np.ones(2, np.float32)}, path)


def _not_safetensors(path):
    path.write_bytes(b'\x08\0\0\0\0\0\0\0{"a": 1}')


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_group("data")


def _names_alone(path):
    blob = "blobs { shape { dim: 2 } data: [1, 2] }"
    binary(f'name: "n" layer {{ name: "fc" type: "InnerProduct" {blob} }}', path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_torch, "weights without their net; .*the prototxt comes before the weights"),
        (_safetensors, "weights without their net"),
        (_not_safetensors, "damaged"),
        (_hdf5, "weights without their net"),
        (_names_alone, 'net "n": its layers do not say .*; give its prototxt'),
    ],
)
def test_files_without_a_net(make, message, tmp_path):
    path = tmp_path / "weights.bin"
    make(path)
    with pytest.raises(SphereFaceError, match=rf"weights\.bin: {message}"):
        read_definition(path)
