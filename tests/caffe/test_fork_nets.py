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
