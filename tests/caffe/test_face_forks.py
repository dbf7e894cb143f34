"""Heads as NormFace, AM-Softmax and ArcFace-caffe build them: steps on one batch lower the loss."""

import pytest
import torch

from sphereface.caffe import load

INPUTS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 10 dim: 7 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 10 } } }
layer {
  name: "feature" type: "InnerProduct" bottom: "x" top: "feature"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } }
}
"""
UNIT = 'layer { name: "unit" type: "Normalize" bottom: "feature" top: "unit" }\n'
CENTRES = """
layer {
  name: "centre" type: "Parameter" top: "centre"
  parameter_param { shape { dim: 5 dim: 6 } blob_filler { type: "gaussian_unitball" } }
}
layer { name: "unit_centre" type: "Normalize" bottom: "centre" top: "unit_centre" }
"""
DISTANCE = """
layer {
  name: "distance" type: "InnerDistance" bottom: "unit" bottom: "unit_centre" top: "distance"
  inner_distance_param { bias_term: false distance_type: "L2" }
}
"""
CONTRASTIVE = """
layer {
  name: "pull" type: "GeneralContrastiveLoss" bottom: "distance" bottom: "label"
  top: "pull" top: "mean_distance" loss_weight: 1 loss_weight: 0
  general_contrastive_loss_param { positive_margin: 0 negative_margin: 1 negative_weight: 1 }
}
"""
TRIPLET = """
layer {
  name: "pull" type: "GeneralTripletLoss" bottom: "distance" bottom: "label"
  top: "pull" top: "mean_distance" loss_weight: 1 loss_weight: 0
  general_triplet_loss_param { margin: 0.8 add_center_loss: true hardest_only: true }
}
"""
COSINE_OF_CENTRES = """
layer {
  name: "cosine" type: "InnerProduct" bottom: "unit" bottom: "unit_centre" top: "cosine"
  inner_product_param { bias_term: false }
}
"""
COSINE = """
layer {
  name: "cosine" type: "InnerProduct" bottom: "unit" top: "cosine"
  inner_product_param {
    num_output: 5 bias_term: false normalize: true weight_filler { type: "gaussian_unitball" }
  }
}
"""
LEARNED_SCALE = """
layer {
  name: "scaled" type: "Scale" bottom: "cosine" top: "logits"
  scale_param { num_axes: 0 min_value: 0.01 max_value: 30 filler { value: 4 } }
}
"""
NORM_SCALE = """
layer {
  name: "unit" type: "Normalize" bottom: "feature" top: "unit" top: "norm"
  normalize_param { bp_norm: true }
}
"""
ANNEALED = """
layer {
  name: "margin" type: "LabelSpecificAdd" bottom: "cosine" bottom: "label" top: "added" top: "m"
  label_specific_add_param { bias_gamma: -0.01 bias_power: 1 bias_min: -0.4 bias_max: 0 }
}
layer { name: "scaled" type: "ChannelScale" bottom: "added" bottom: "norm" top: "logits" }
"""
ESTIMATED = """
layer {
  name: "margin" type: "GlobalLSEMargin" bottom: "cosine" bottom: "label" top: "logits" top: "stats"
}
"""
ANGULAR = """
layer {
  name: "margin" type: "CosinAddm" bottom: "cosine" bottom: "label" top: "added"
  cosin_add_m_param { m: 0.5 }
}
layer {
  name: "scaled" type: "Scale" bottom: "added" top: "logits" param { lr_mult: 0 }
  scale_param { filler { value: 8 } }
}
"""
SOFTMAX = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "logits" bottom: "label" top: "loss" }
"""
FOCAL = """
layer {
  name: "loss" type: "FocalLoss" bottom: "logits" bottom: "label" top: "loss"
  focal_loss_param { type: ORIGIN gamma: 2 alpha: 0.25 }
}
"""

HEADS = {
    "contrastive": UNIT + CENTRES + DISTANCE + CONTRASTIVE,
    "triplet": UNIT + CENTRES + DISTANCE + TRIPLET,
    "softmax and contrastive": UNIT
    + CENTRES
    + DISTANCE
    + CONTRASTIVE
    + COSINE_OF_CENTRES
    + LEARNED_SCALE
    + SOFTMAX,
    "scaled cosine": UNIT + COSINE + LEARNED_SCALE + SOFTMAX,
    "annealed margin, own norm": NORM_SCALE + COSINE + ANNEALED + SOFTMAX,
    "estimated margin": UNIT + COSINE + ESTIMATED + SOFTMAX,
    "angular margin, focal": UNIT + COSINE + ANGULAR + FOCAL,
}


@pytest.mark.parametrize("head", HEADS)
def test_steps_on_one_batch_lower_the_loss_and_a_test_net_finds_its_classes(head):
    torch.manual_seed(1)
    text = INPUTS + HEADS[head]
    score = "distance" if "triplet" in head or head == "contrastive" else "cosine"
    label = torch.arange(10.0) % 5
    batch = {"x": torch.randn(5, 7)[label.long()] + 0.1 * torch.randn(10, 7), "label": label}
    net = load(text, phase="TRAIN")
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.2)

    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(net.loss(net(batch)))
        losses[-1].backward()
        optimizer.step()

    tested = load(text, phase="TEST")
    tested.load_state_dict(net.state_dict())
    scores = tested(batch, blobs=[score])[score]
    found = scores.argmin(1) if score == "distance" else scores.argmax(1)
    assert losses[-1] < 0.7 * losses[0]
    assert (found == label).all()
