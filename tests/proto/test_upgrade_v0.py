"""Expectations are Caffe's V0 rules applied by hand."""

from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.proto.upgrade import upgrade_net
from sphereface.proto.upgrade_v0 import upgrade_v0

# CaffeNet's opening in the form of 2013, with its padding layer.
OLD = """
name: "CaffeNet"
layers {
  layer {
    name: "data" type: "data" source: "/data/train" meanfile: "/data/mean" batchsize: 256
    cropsize: 227 mirror: true scale: 0.5 rand_skip: 3
  }
  top: "data" top: "label"
}
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers {
  layer {
    name: "conv1" type: "conv" num_output: 96 kernelsize: 11 stride: 4 group: 2 biasterm: false
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 1. }
    blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0.
  }
  bottom: "pad1" top: "conv1"
}
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers {
  layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1 }
  bottom: "conv1" top: "pool1"
}
layers {
  layer { name: "norm1" type: "lrn" local_size: 5 alpha: 0.0001 beta: 0.75 k: 2 }
  bottom: "pool1" top: "norm1"
}
layers {
  layer {
    name: "fc8" type: "innerproduct" num_output: 1000 biasterm: true
    weight_filler { type: "xavier" } bias_filler { value: 2 }
  }
  bottom: "norm1" top: "fc8"
}
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.4 } bottom: "fc8" top: "fc8" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc8" bottom: "label" }
"""

NEW = """
name: "CaffeNet"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.5 mirror: true crop_size: 227 mean_file: "/data/mean" }
  data_param { source: "/data/train" batch_size: 256 rand_skip: 3 }
}
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 96 bias_term: false pad: 2 kernel_size: 11 group: 2 stride: 4
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 1 }
  }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer {
  name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }
}
layer {
  name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 k: 2 }
}
layer {
  name: "fc8" type: "InnerProduct" bottom: "norm1" top: "fc8"
  inner_product_param {
    num_output: 1000 bias_term: true
    weight_filler { type: "xavier" } bias_filler { value: 2 }
  }
}
layer { name: "drop" type: "Dropout" bottom: "fc8" top: "fc8" dropout_param { dropout_ratio: 0.4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc8" bottom: "label" }
"""


def one(layer):
    """Upgrade a net of one V0 layer; return the layer as text."""
    old = text.read(f"layers {{ layer {{ {layer} }} }}")
    (new,) = upgrade_net(old).message.layer
    return text.write(new).split()


def same(layer, expected):
    assert one(layer) == text.write(text.read(expected, "LayerParameter")).split()


def test_whole_net():
    old = text.read(OLD)
    upgraded = upgrade_net(old)
    assert upgraded.message == text.read(NEW)
    assert upgraded.changes == ("V0 layers to V1 layers", "V1 layers to layer")
    assert upgraded.origin == (0, 2, 3, 4, 5, 6, 7, 8)
    assert old == text.read(OLD)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("accuracy", "Accuracy"),
        ("bnll", "BNLL"),
        ("concat", "Concat"),
        ("conv", "Convolution"),
        ("data", "Data"),
        ("dropout", "Dropout"),
        ("euclidean_loss", "EuclideanLoss"),
        ("flatten", "Flatten"),
        ("hdf5_data", "HDF5Data"),
        ("hdf5_output", "HDF5Output"),
        ("im2col", "Im2col"),
        ("images", "ImageData"),
        ("infogain_loss", "InfogainLoss"),
        ("innerproduct", "InnerProduct"),
        ("lrn", "LRN"),
        ("multinomial_logistic_loss", "MultinomialLogisticLoss"),
        ("pool", "Pooling"),
        ("relu", "ReLU"),
        ("sigmoid", "Sigmoid"),
        ("softmax", "Softmax"),
        ("softmax_loss", "SoftmaxWithLoss"),
        ("split", "Split"),
        ("tanh", "TanH"),
        ("window_data", "WindowData"),
    ],
)
def test_types(old, new):
    same(f'name: "x" type: "{old}"', f'name: "x" type: "{new}"')


def test_data_sources():
    same(
        'type: "images" source: "l" batchsize: 3 rand_skip: 4 shuffle_images: true '
        "new_height: 5 new_width: 6",
        'type: "ImageData" image_data_param { source: "l" batch_size: 3 rand_skip: 4 '
        "shuffle: true new_height: 5 new_width: 6 }",
    )
    same(
        'type: "window_data" source: "w" batchsize: 3 det_fg_threshold: 0.6 '
        'det_bg_threshold: 0.4 det_fg_fraction: 0.3 det_context_pad: 7 det_crop_mode: "square"',
        'type: "WindowData" window_data_param { source: "w" batch_size: 3 fg_threshold: 0.6 '
        'bg_threshold: 0.4 fg_fraction: 0.3 context_pad: 7 crop_mode: "square" }',
    )
    same(
        'type: "hdf5_data" source: "h" batchsize: 3',
        'type: "HDF5Data" hdf5_data_param { source: "h" batch_size: 3 }',
    )
    same(
        'type: "hdf5_output" hdf5_output_param { file_name: "o" }',
        'type: "HDF5Output" hdf5_output_param { file_name: "o" }',
    )
    same(
        'type: "infogain_loss" source: "i"',
        'type: "InfogainLoss" infogain_loss_param { source: "i" }',
    )
    same('type: "concat" concat_dim: 0', 'type: "Concat" concat_param { concat_dim: 0 }')


def test_blobs_come_along():
    same(
        'type: "conv" blobs { num: 1 data: 0.5 } blobs { data: 2 }',
        'type: "Convolution" blobs { num: 1 data: 0.5 } blobs { data: 2 }',
    )


def test_values_without_a_place_are_dropped_and_told():
    old = text.read('layers { layer { name: "r" type: "relu" num_output: 3 new_num: 2 } }')
    upgraded = upgrade_net(old)
    assert text.write(upgraded.message.layer[0]) == 'name: "r"\ntype: "ReLU"\n'
    assert upgraded.changes[1:3] == (
        'layer "r" (relu): "num_output" dropped, the type has no such one',
        'layer "r" (relu): "new_num" dropped, the type has no such one',
    )


def test_padding_before_pooling_and_from_a_net_input():
    net = text.read(
        'input: "data" input_dim: [1,3,9,9]'
        'layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "p" }'
        'layers { layer { name: "pool" type: "pool" kernelsize: 3 } bottom: "p" top: "o" }'
    )
    upgraded = upgrade_net(net)
    pool = upgraded.message.layer[1]
    assert (list(pool.bottom), pool.pooling_param.pad) == (["data"], 1)
    assert upgraded.message.layer[0].type == "Input"
    assert upgraded.origin == (-1, 1)


PAD = 'layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "p" }'


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            'layers { layer { name: "c" type: "convo" } }',
            'layer "c" (convo): unknown old layer type "convo"; did you mean "conv"?',
        ),
        (
            'layers { layer { name: "c" type: "conv" } bottom: "dta" }',
            'layer "c" (conv): bottom "dta" is made by no layer before it; did you mean "data"?',
        ),
        (
            PAD + 'layers { layer { name: "r" type: "relu" } bottom: "p" }',
            'layer "r" (relu): bottom "p" is padded; expected padding only before conv and pool',
        ),
        (
            PAD + 'layers { layer { name: "c" type: "conv" } bottom: "p" bottom: "data" }',
            'layer "c" (conv): padded by pad, with several bottoms or tops; expected one',
        ),
        (
            PAD + 'layers { name: "n" type: RELU bottom: "data" }',
            'layer "n": a V1 layer in a net of V0 layers; expected layers { layer { } }',
        ),
    ],
)
def test_errors(layers, message):
    with pytest.raises(SphereFaceError) as error:
        upgrade_v0(text.read(f'input: "data" {layers}'))
    assert str(error.value).startswith(message)
