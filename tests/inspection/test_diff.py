from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.inspection import diff_nets, diff_weights
from sphereface.inspection.diff import FieldChange
from sphereface.resources import prototxt_path
from sphereface.weights import read_caffemodel, rewrite_caffemodel, write_caffemodel_h5

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "train" / "sgd_iter_40.caffemodel"

NET = """
name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { lr_mult: 2 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "act" type: "PReLU" bottom: "fc" top: "fc" }
layer { name: "out" type: "TanH" bottom: "fc" top: "out" }
"""


def changes(new: str, old: str = NET) -> list[tuple[str, str, str | None, str | None]]:
    diff = diff_nets(old, new)
    assert (diff.removed, diff.added, diff.moved) == ((), (), ())
    return [(c.layer, c.field, c.old, c.new) for c in diff.changes]


def test_equal_nets():
    diff = diff_nets(NET, NET)
    assert diff.equal
    assert str(diff) == "the nets are equal"
    assert diff_nets(
        prototxt_path("sphereface_20_train"), prototxt_path("sphereface_20_train")
    ).equal


def test_fields():
    assert changes(NET.replace("num_output: 4", "num_output: 5")) == [
        ("fc", "inner_product_param.num_output", "4", "5")
    ]
    assert changes(NET.replace("num_output: 4", "num_output: 4 bias_term: false")) == [
        ("fc", "inner_product_param.bias_term", None, "false")
    ]
    assert changes(NET.replace("lr_mult: 2", "lr_mult: 0.1")) == [
        ("fc", "param[0].lr_mult", "2", "0.1")
    ]
    assert changes(NET.replace('"xavier"', '"msra" variance_norm: AVERAGE')) == [
        ("fc", "inner_product_param.weight_filler.type", '"xavier"', '"msra"'),
        ("fc", "inner_product_param.weight_filler.variance_norm", None, "AVERAGE"),
    ]
    assert changes(NET.replace('name: "n"', 'name: "m"')) == [("", "name", '"n"', '"m"')]


def test_a_written_default_is_no_difference():
    assert changes(NET.replace("num_output: 4", "num_output: 4 bias_term: true axis: 1")) == []
    assert changes(NET.replace('"PReLU"', '"PReLU" prelu_param { }')) == []


def test_what_is_no_default_is_a_difference_though_it_looks_like_one():
    # An empty filler is constant 0, not PReLU's 0.25; "normalize: false" means BATCH_SIZE.
    assert changes(NET.replace('"PReLU"', '"PReLU" prelu_param { filler { } }')) == [
        ("act", "prelu_param.filler", None, "{ }")
    ]
    assert changes(NET.replace('"TanH"', '"TanH" loss_param { normalize: false }')) == [
        ("out", "loss_param.normalize", None, "false")
    ]


def test_layers():
    without = NET.replace('layer { name: "act" type: "PReLU" bottom: "fc" top: "fc" }\n', "")
    diff = diff_nets(NET, without)
    assert (diff.removed, diff.added, diff.equal) == (("act (PReLU)",), (), False)
    diff = diff_nets(without, NET)
    assert (diff.removed, diff.added) == ((), ("act (PReLU)",))
    assert str(diff) == "+ layer act (PReLU)"
    lines = NET.splitlines(keepends=True)
    swapped = "".join([*lines[:5], lines[6], lines[5], *lines[7:]])
    assert diff_nets(NET, swapped).moved in (("act",), ("out",))


def test_old_and_new_format_are_one_net():
    old = """
      name: "n" input: "data" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 5
      layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 blobs_lr: 2
        weight_decay: 1 weight_decay: 0 convolution_param { num_output: 4 kernel_size: 3 } }"""
    new = """
      name: "n"
      layer { name: "input" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
      layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { }
        param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 4 kernel_size: 3 } }"""
    assert diff_nets(old, new).equal


def test_phases():
    two = NET + 'layer { name: "fc" type: "Silence" bottom: "out" include { phase: TRAIN } }'
    assert diff_nets(NET, two).added == ("fc (Silence)",)
    assert diff_nets(NET, two, "TEST").equal


def test_net_json():
    diff = diff_nets(NET, NET.replace("num_output: 4", "num_output: 5"))
    assert json.loads(json.dumps(diff.to_dict())) == {
        "kind": "net",
        "equal": False,
        "removed": [],
        "added": [],
        "moved": [],
        "changes": [vars(FieldChange("fc", "inner_product_param.num_output", "4", "5"))],
    }


@pytest.fixture
def changed(tmp_path):
    """Return a model with one value of conv1's weight changed, and the model's weights."""
    model = read_caffemodel(MODEL)
    weights = model.weights()
    weight = weights["conv1"][0].copy()
    weight.flat[7] += 0.5
    path = tmp_path / "changed.caffemodel"
    rewrite_caffemodel(model, path, {"conv1": [weight, *weights["conv1"][1:]]})
    return path, weights


def test_equal_models(tmp_path):
    assert diff_weights(MODEL, MODEL).equal
    weights = read_caffemodel(MODEL).weights()
    write_caffemodel_h5(tmp_path / "same.caffemodel.h5", weights)
    diff = diff_weights(MODEL, tmp_path / "same.caffemodel.h5")
    assert diff.equal
    assert len(diff.blobs) == 9
    assert all(blob.max_abs == blob.relative == 0 for blob in diff.blobs)


def test_one_value(changed):
    path, weights = changed
    diff = diff_weights(MODEL, path)
    different = [blob for blob in diff.blobs if not blob.equal]
    assert [(blob.layer, blob.index) for blob in different] == [("conv1", 0)]
    old = weights["conv1"][0].astype(np.float64)
    step = np.float64(np.float32(old.flat[7]) + np.float32(0.5)) - old.flat[7]
    assert different[0].max_abs == pytest.approx(step, rel=1e-12)
    assert different[0].relative == pytest.approx(step / np.linalg.norm(old), rel=1e-12)
    assert "8 blobs" not in str(diff)
    assert "1 blobs differ" in str(diff)
    assert diff_weights(MODEL, path, tolerance=0.51).equal


def test_missing_extra_and_shapes(tmp_path):
    weights = read_caffemodel(MODEL).weights()
    other = {name: list(blobs) for name, blobs in weights.items()}
    del other["conv1"]
    other["new"] = [np.zeros(3, np.float32)]
    other["fc5"] = [other["fc5"][0][:, :-1], other["fc5"][1].reshape(1, 1, 1, -1)]
    write_caffemodel_h5(tmp_path / "other.h5", other)
    diff = diff_weights(MODEL, tmp_path / "other.h5")
    assert diff.removed == ("conv1[0]", "conv1[1]")
    assert diff.added == ("new[0]",)
    blobs = {(blob.layer, blob.index): blob for blob in diff.blobs}
    assert blobs["fc5", 0].max_abs is None
    assert not blobs["fc5", 0].equal
    assert blobs["fc5", 1].equal  # the legacy shape of the same bias
    assert f"shape {blobs['fc5', 0].old_shape} -> {blobs['fc5', 0].new_shape}" in str(diff)


def test_not_a_number(tmp_path):
    nan = np.array([np.nan, 1, np.inf], np.float32)
    write_caffemodel_h5(tmp_path / "a.h5", {"a": [nan]})
    write_caffemodel_h5(tmp_path / "b.h5", {"a": [np.array([0, 1, np.inf], np.float32)]})
    assert diff_weights(tmp_path / "a.h5", tmp_path / "a.h5").equal
    diff = diff_weights(tmp_path / "a.h5", tmp_path / "b.h5", tolerance=1e9)
    assert not diff.equal
    assert json.loads(json.dumps(diff.to_dict(), allow_nan=False))["blobs"][0]["max_abs"] == "inf"


def test_damaged_model(tmp_path):
    (tmp_path / "bad.caffemodel").write_bytes(MODEL.read_bytes()[:1000])
    with pytest.raises(SphereFaceError, match=r"bad\.caffemodel"):
        diff_weights(MODEL, tmp_path / "bad.caffemodel")
