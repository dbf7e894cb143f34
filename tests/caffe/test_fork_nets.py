"""Nets in the styles of Caffe's forks build and run as their files are written."""

from __future__ import annotations

import pytest
import torch

from sphereface.caffe import load
from sphereface.errors import ProblemsError, SphereFaceError

DEEPLAB = """
layers { name: "data" type: IMAGE_SEG_DATA top: "data" top: "label"
  image_data_param { root_folder: "r" source: "list.txt" batch_size: 2 label_type: PIXEL }
  transform_param { mean_value: 104 mean_value: 116 mean_value: 122 crop_size: 33 mirror: true } }
layers { bottom: "data" top: "pool1" name: "pool1" type: POOLING
  pooling_param { pool: MAX kernel_size: 3 stride: 8 pad: 1 } }
layers { bottom: "pool1" top: "fc8" name: "fc8" type: CONVOLUTION strict_dim: false
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 5 pad: 2 hole: 2 kernel_size: 3 } }
layers { bottom: "label" top: "label_shrink" name: "label_shrink" type: INTERP
  interp_param { shrink_factor: 8 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc8" bottom: "label_shrink" top: "loss"
  loss_param { ignore_label: 255 } }
layers { name: "accuracy" type: SEG_ACCURACY bottom: "fc8" bottom: "label_shrink" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 } }
"""


def test_deeplab_of_2014():
    with pytest.warns(UserWarning, match="strict_dim"):
        net = load(DEEPLAB, phase="TRAIN")
    label = torch.randint(0, 5, (2, 1, 33, 33)).float()
    tops = net({"data": torch.randn(2, 3, 33, 33), "label": label})
    assert net.blob_shapes["fc8"] == (2, 5, 5, 5)
    assert tops["loss"].ndim == 0
    assert tops["accuracy"].shape == (1, 1, 1, 3)


def test_layers_of_an_unknown_type_are_told_once():
    text = DEEPLAB.replace("type: INTERP", "type: ADAPTIVE_BIAS_CHANNEL")
    text = text.replace("strict_dim: false", "")
    with pytest.raises(SphereFaceError) as caught:
        load(text, phase="TRAIN")
    assert str(caught.value).count("unknown layer type") == 1
    assert "unknown layer type ADAPTIVE_BIAS_CHANNEL" in str(caught.value)


def test_a_layer_without_a_type():
    with pytest.raises(SphereFaceError, match=r'layer "a" \(\): no type; expected type: "Conv'):
        load('layer { name: "a" top: "x" }')


def test_types_that_deeplab_writes_and_we_do_not():
    text = 'layers { name: "m" type: MAT_WRITE } layers { name: "c" type: DENSE_CRF }'
    with pytest.raises(ProblemsError) as caught:
        load(text)
    assert "net(x, blobs=[...]) gives any blob" in str(caught.value)
    assert "permutohedral lattice" in str(caught.value)


CASCADE = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 64, 96] } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 stride: 8 weight_filler { type: "msra" } } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "l1" type: "Convolution" bottom: "c1" top: "l1" convolution_param {
  num_output: 9 kernel_size: 5 pad: 2 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "l2" type: "Convolution" bottom: "p1" top: "l2" convolution_param {
  num_output: 9 kernel_size: 5 pad: 2 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "proposals" type: "BoxOutput" bottom: "l1" bottom: "l2"
  top: "proposals" top: "proposals_score" box_output_param { fg_thr: -5 iou_thr: 0.65
    nms_type: "IOU" field_w: 24 field_w: 48 field_h: 24 field_h: 48
    downsample_rate: 8 downsample_rate: 16 field_whr: 2 field_xyr: 2 max_nms_num: 2000 } }
layer { name: "pool" type: "ROIPooling" bottom: "c1" bottom: "proposals" top: "pool"
  roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.125 pad_ratio: 0.25 } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred"
  inner_product_param { num_output: 8 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "proposals_2nd" type: "DecodeBBox" bottom: "bbox_pred" bottom: "proposals"
  top: "proposals_2nd" propagate_down: 0 propagate_down: 0
  bbox_reg_param { bbox_mean: 0 bbox_mean: 0 bbox_mean: 0 bbox_mean: 0
    bbox_std: 0.1 bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.2 } }
layer { name: "pool_2nd" type: "ROIPooling" bottom: "c1" bottom: "proposals_2nd" top: "pool_2nd"
  roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.125 } }
layer { name: "cls_pred_2nd" type: "InnerProduct" bottom: "pool_2nd" top: "cls_pred_2nd"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "cls_prob_2nd" type: "Softmax" bottom: "cls_pred_2nd" top: "cls_prob_2nd" }
"""


def test_a_cascade_of_stages():
    net = load(CASCADE, generator=torch.Generator().manual_seed(1))
    blobs = ["proposals", "proposals_2nd", "cls_prob_2nd"]
    found = net({"data": torch.randn(1, 3, 64, 96)}, blobs=blobs)
    rows = len(found["proposals"])
    assert 10 < rows <= 96 + 24 == net.blob_shapes["proposals"][0]
    assert found["proposals_2nd"].shape == (rows, 5, 1, 1)
    assert found["cls_prob_2nd"].shape == (rows, 5)
    moved = found["proposals_2nd"] - found["proposals"]
    assert 0 < moved[:, 1:].abs().amax() < 50
