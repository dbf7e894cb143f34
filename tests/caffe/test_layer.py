from __future__ import annotations

import copy
import pickle

import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import SphereFaceError

CONV = (
    'input: "x" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4\n'
    'layer {{ name: "l" type: "Convolution" bottom: "x" top: "y" {} '
    'convolution_param {{ num_output: 3 kernel_size: 2 weight_filler {{ type: "{}" }} }} }}'
)


def test_multipliers_of_each_blob():
    layer = load(CONV.format("param { lr_mult: 2 decay_mult: 0 }", "xavier")).layer("l")
    assert layer.blob_names == ["weight", "bias"]
    assert (layer.lr_mult, layer.decay_mult) == ([2.0, 1.0], [0.0, 1.0])
    frozen = load(CONV.format("param { } param { lr_mult: 0 }", "xavier")).layer("l")
    assert [blob.requires_grad for blob in frozen.blobs] == [True, False]


def test_more_params_than_blobs():
    with pytest.raises(SphereFaceError, match="3 param entries; expected at most 2"):
        load(CONV.format("param { } param { } param { }", "xavier"))


def test_loss_weights_one_a_top():
    assert load(CONV.format("loss_weight: 3", "xavier")).layer("l").loss_weight == [3.0]
    assert load(CONV.format("", "xavier")).layer("l").loss_weight == [0.0]
    with pytest.raises(SphereFaceError, match="2 loss_weight values; expected none, or one"):
        load(CONV.format("loss_weight: [1, 2]", "xavier"))


def test_a_wrong_filler_names_the_layer():
    with pytest.raises(
        SphereFaceError,
        match=r'^prototxt:2: layer "l" \(Convolution\): unknown filler type "xavjer"',
    ):
        load(CONV.format("", "xavjer"))


def test_a_phase_of_its_own_is_kept():
    net = load(CONV.format("phase: TEST", "xavier"), phase="TRAIN")
    assert net.training
    assert not net.layer("l").training
    net.eval()
    net.train()
    assert not net.layer("l").training


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])  # noqa: S301
def test_copies_keep_the_message(copied):
    net = load(CONV.format("param { lr_mult: 2 }", "xavier"))
    twin = copied(net)
    assert twin.layer("l").options.num_output == 3
    assert twin.layer("l").layer_param.param[0].lr_mult == 2
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(twin(x)["y"], net(x)["y"])
    twin.layer("l").weight.data.zero_()
    assert net.layer("l").weight.any()
    assert twin.layer("l") is twin.get_submodule("l")


def test_a_blob_beyond_all_memory_names_the_layer():
    net = (
        'input: "x" input_shape { dim: [1, 2000000000] } layer { name: "fc" type: "InnerProduct" '
        'bottom: "x" top: "y" inner_product_param { num_output: 2000000000 } }'
    )
    with pytest.raises(
        SphereFaceError, match=r'layer "fc" .*no memory for blob weight of shape \(2000000000, 2000'
    ):
        load(net)
