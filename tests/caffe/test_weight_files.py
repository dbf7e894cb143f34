from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.caffe.weight_files import read_weights
from sphereface.checkpoints import write_safetensors, write_state_dict
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.weights import read_caffemodel, read_caffemodel_h5, write_caffemodel

GOLDEN = Path(__file__).parents[1] / "golden"

NET = """
name: "two"
input: "x" input_shape { dim: 2 dim: 6 }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" lr_mult: 3 }
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "p" type: "PReLU" bottom: "y" top: "y" }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
"""


def arrays(rng) -> dict[str, list[np.ndarray]]:
    weight, slopes = rng.normal(size=(6, 6)), rng.normal(size=6)
    return {
        "a": [weight, rng.normal(size=6)],
        "p": [slopes],
        "b": [weight, rng.normal(size=6)],
        "elsewhere": [np.zeros(2)],
    }


def test_copy_from_arrays(rng):
    net = load(NET)
    given = arrays(rng)
    report = net.copy_from(given)
    assert report is net.load_report
    assert set(report.loaded) == {"a", "p", "b"}
    assert "elsewhere" in report.skipped
    np.testing.assert_array_equal(net.layer("a").weight.detach(), given["a"][0].astype(np.float32))
    assert net.layer("a").weight is net.layer("b").weight
    np.testing.assert_array_equal(net.layer("b").bias.detach(), given["b"][1].astype(np.float32))


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_save_and_load(suffix, rng, tmp_path):
    net = load(NET)
    net.copy_from(arrays(rng))
    path = tmp_path / f"net.{suffix}"
    net.save(path)
    again = load(NET, path)
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert not again.load_report.left
    assert not again.load_report.skipped


def test_the_file_holds_what_caffe_writes(rng, tmp_path):
    net = load(NET)
    net.copy_from(arrays(rng))
    net.save(tmp_path / "net.caffemodel")
    model = read_caffemodel(tmp_path / "net.caffemodel")
    assert model.name == "two"
    assert [(layer.name, layer.type, len(layer.blobs)) for layer in model.layers] == [
        ("input", "Input", 0),
        ("a", "InnerProduct", 2),
        ("p", "PReLU", 1),
        ("b", "InnerProduct", 2),
    ]
    header = schema.decode("LayerParameter", model.layers[1].header)
    assert (header.bottom[0], header.top[0]) == ("x", "y")
    assert header.inner_product_param.num_output == 6
    assert header.param[0].lr_mult == 3
    # HDF5 holds a shared blob at its owner only.
    net.save(tmp_path / "net.h5")
    stored = read_caffemodel_h5(tmp_path / "net.h5")
    assert stored["a"][0].shape == (6, 6)
    assert stored["b"][0] is None


@pytest.mark.parametrize("move", [lambda net: net.double(), lambda net: net.half()])
def test_other_dtypes(move, rng, tmp_path):
    net = move(load(NET))
    net.copy_from(arrays(rng))
    dtype = net.layer("a").weight.dtype
    expected = torch.from_numpy(arrays(np.random.default_rng(20170721))["a"][0]).to(dtype)
    assert torch.equal(net.layer("a").weight.detach(), expected)
    net.save(tmp_path / "net.caffemodel")
    again = move(load(NET))
    again.copy_from(tmp_path / "net.caffemodel")
    assert torch.equal(again.layer("a").weight, expected)


def test_layers_not_in_the_file_are_filled(rng, tmp_path):
    small = load(NET.replace('"b"', '"other"'))
    small.save(tmp_path / "net.caffemodel")
    net = load(
        NET.replace('param { name: "w" lr_mult: 3 }', "").replace('param { name: "w" }', ""),
        tmp_path / "net.caffemodel",
        generator=torch.Generator().manual_seed(3),
    )
    assert list(net.load_report.left) == ["b"]
    assert 0 < net.layer("b").weight.abs().max() <= (3 / 6) ** 0.5
    assert torch.equal(net.layer("a").weight, small.layer("a").weight)


def test_a_shared_blob_is_not_filled_over_what_was_loaded(rng, tmp_path):
    load(NET).save(tmp_path / "net.caffemodel")
    net = load(NET.replace('name: "b"', 'name: "new"'), tmp_path / "net.caffemodel")
    assert list(net.load_report.left) == ["new"]
    stored = read_caffemodel(tmp_path / "net.caffemodel").weights()
    np.testing.assert_array_equal(net.layer("new").weight.detach(), stored["a"][0])


def test_a_mismatch_changes_nothing(rng):
    net = load(NET)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    wrong = arrays(rng) | {"b": [np.zeros((6, 5)), np.zeros(6)]}
    with pytest.raises(SphereFaceError, match=r'layer "b": blob 0 .*\(6, 5\) .*\(6, 6\)'):
        net.copy_from(wrong)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    report = net.copy_from(wrong, partial=True)
    assert set(report.loaded) == {"a", "p"}


def test_options_reach_the_matching(rng):
    net = load(NET)
    given = {"A": arrays(rng)["a"], "p": [np.zeros(6)], "odd": [np.zeros(1)]}
    report = net.copy_from(given, rename={"A": "a"}, ignore=["odd"])
    assert set(report.loaded) == {"a", "p"}
    assert report.skipped["odd"] == "ignored"
    with pytest.raises(SphereFaceError, match="strict"):
        net.copy_from(given, rename={"A": "a"}, strict=True)


def test_payloads_of_a_caffe_file_are_kept(tmp_path):
    folder = GOLDEN / "orl_sphereface4"
    net = load(folder / "deploy.prototxt", folder / "orl_iter_300.caffemodel")
    net.save(tmp_path / "again.caffemodel")
    original = read_caffemodel(folder / "orl_iter_300.caffemodel").weights()
    saved = read_caffemodel(tmp_path / "again.caffemodel").weights()
    compared = 0
    for name, blobs in saved.items():
        for index, blob in enumerate(blobs):
            assert blob.tobytes() == original[name][index].tobytes()
            compared += 1
    assert compared == 14


FORMATS = ["caffemodel", "caffemodel.h5", "pt", "safetensors"]


def write_as(net, path, name):
    state = {key: tensor.detach().clone() for key, tensor in net.state_dict().items()}
    if name == "pt":
        write_state_dict(state, path)
    elif name == "safetensors":
        write_safetensors(state, path)
    else:
        saved = path.with_name(f"saved.{name}")
        net.save(saved)
        saved.rename(path)


@pytest.mark.parametrize("name", FORMATS)
def test_any_format_under_any_name(name, rng, tmp_path):
    net = load(NET)
    net.copy_from(arrays(rng))
    path = tmp_path / "weights.bin"
    write_as(net, path, name)
    again = load(NET, path)
    assert set(again.load_report.loaded) == {"a", "p", "b"}
    assert not again.load_report.skipped
    for key, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


BLOBS = """
input: "x" input_shape { dim: [2, 3, 4] } input: "cont" input_shape { dim: [2, 3] }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "y"
        recurrent_param { num_output: 5 weight_filler { type: "uniform" } } }
layer { name: "bn.1" type: "BatchNorm" bottom: "x" top: "z" }
layer { name: "type" type: "Scale" bottom: "z" top: "z" scale_param { bias_term: true } }
"""


@pytest.mark.parametrize("name", ["pt", "safetensors"])
@pytest.mark.parametrize("known", [True, False])
def test_blobs_are_in_caffes_order(name, known, tmp_path):
    """safetensors sorts its keys, and a file alone has to tell the same as one with its net."""
    net = load(BLOBS)
    for position, tensor in enumerate(net.state_dict().values()):
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) + 100.0 * position)
    write_as(net, tmp_path / "w", name)
    layers = dict(zip(net.keys, net.layers, strict=True)) if known else {}
    found = read_weights(tmp_path / "w", layers)
    names = {"type_": "type"} if not known else {}
    assert {names.get(key, key) for key in found} == {"lstm", "bn.1", "type"}
    for key, blobs in found.items():
        expected = net.layer(names.get(key, key)).blobs
        assert len(blobs) == len(expected) > 1
        for array, blob in zip(blobs, expected, strict=True):
            np.testing.assert_array_equal(array, blob.detach())


def test_matching_options_for_a_state_dict(tmp_path):
    state = {"old.weight": torch.ones(6, 6), "old.bias": torch.full((6,), 2.0),
             "head.bias": torch.ones(3), "p.weight": torch.ones(6).half(),
             "head.iteration": torch.tensor(7)}  # fmt: skip
    write_safetensors(state, tmp_path / "w")
    net = load(NET)
    report = net.copy_from(tmp_path / "w", rename={"old": "a"})
    assert set(report.loaded) == {"a", "p"}
    assert list(report.skipped) == ["head"]
    assert list(report.left) == ["b"]
    assert (net.layer("a").weight == 1).all()
    assert (net.layer("a").bias == 2).all()
    with pytest.raises(SphereFaceError, match='layer "p": the source has 2 blobs'):
        net.copy_from(_saved({**state, "p.bias": torch.ones(6)}, tmp_path / "more"))
    with pytest.raises(SphereFaceError, match="strict"):
        net.copy_from(tmp_path / "w", rename={"old": "a"}, strict=True)


def _saved(state, path):
    write_state_dict(state, path)
    return path


def test_a_prototxt_for_weights(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    with pytest.raises(SphereFaceError, match=r"net\.prototxt: a text file; .*comes before"):
        load(NET, tmp_path / "net.prototxt")


@pytest.mark.parametrize("name", ["caffemodel", "caffemodel.h5"])
def test_a_file_that_a_train_net_saved_is_a_deploy_net(name, tmp_path):
    train = load(
        'layer { name: "d" type: "MemoryData" top: "data" top: "label"'
        " memory_data_param { batch_size: 4 channels: 2 height: 3 width: 3 } }"
        'layer { name: "fc5" type: "InnerProduct" bottom: "data" top: "fc5"'
        ' inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }'
        'layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6"'
        ' margin_inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" }',
        phase="TRAIN",
    )
    path = tmp_path / f"net.{name}"
    train.save(path)
    net = load(path)
    assert (net.inputs, net.outputs, net.phase) == (("data",), ("fc5",), "TEST")
    assert net.blob_shapes["data"] == (1, 2, 3, 3)
    assert list(net.load_report.skipped) == ["fc6"]
    x = torch.randn(5, 2, 3, 3)
    expected = x.view(5, 18) @ train.layer("fc5").weight.t() + train.layer("fc5").bias
    torch.testing.assert_close(net(x)["fc5"], expected)
    assert expected.abs().max() > 0


def test_only_the_shape_is_asked_for(tmp_path):
    load(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 4] } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"'
        " inner_product_param { num_output: 2 } }"
    ).save(tmp_path / "net.caffemodel")
    model = read_caffemodel(tmp_path / "net.caffemodel")
    write_caffemodel(
        tmp_path / "bare.caffemodel",
        "bare",
        [(layer.header, layer.blobs) for layer in model.layers if layer.type != "Input"],
    )
    with pytest.raises(SphereFaceError, match='does not tell the shape of input "data"'):
        load(tmp_path / "bare.caffemodel")
    assert load(tmp_path / "bare.caffemodel", input_shapes={"data": (3, 4)}).outputs == ("fc",)
