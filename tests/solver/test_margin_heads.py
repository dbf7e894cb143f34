from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.margin_figures import reference
from sphereface.caffe import load
from sphereface.solver.margin_heads import CosineHead, margin_heads

INPUT = """
layer { name: "data" type: "Input" top: "x" top: "label"
        input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss"
        loss_param { ignore_label: -1 } }
"""
ANNEALED = """
layer {{ name: "fc6" type: "{type}" bottom: "x" bottom: "label" top: "fc6"
        {field} {{ num_output: 7 type: QUADRUPLE base: 9 gamma: 0.12 lambda_min: 9
        weight_filler {{ type: "xavier" }} }} }}
"""
FIELDS = {
    "MarginInnerProduct": "margin_inner_product_param",
    "LargeMarginInnerProduct": "largemargin_inner_product_param",
}
COSINES = """
layer {{ name: "norm" type: "Normalize" bottom: "x" top: "unit" }}
layer {{ name: "cosine" type: "InnerProduct" bottom: "unit" top: "cosine"
        inner_product_param {{ num_output: 7 bias_term: false normalize: true {more}
        weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "margin" type: "{type}" bottom: "cosine" bottom: "label" top: "margin" {margin} }}
"""
SCALED = """
layer { name: "scale" type: "Scale" bottom: "margin" top: "scaled"
        scale_param { axis: 0 num_axes: 0 filler { type: "constant" value: 6 } } }
layer { name: "twice" type: "Power" bottom: "scaled" top: "fc6" power_param { scale: 2 } }
"""
MARGINS = {
    "LabelSpecificAdd": ("label_specific_add_param { bias: -0.35 }", "its bias is -0.35"),
    "CosinAddm": ("cosin_add_m_param { m: 0.5 }", "m is 0.5"),
    "CombinedMargin": (
        "combined_margin_param { m1: 0.9 m2: 0.4 m3: 0.15 }",
        "m1, m2 and m3 are 0.9, 0.4 and 0.15",
    ),
}


def batch():
    torch.manual_seed(4)
    return torch.randn(6, 5) * 3, torch.tensor([0.0, 6, 1, 3, 2, 2])


def seen_by(net, x, label):
    """Return the only head and what it saw of a forward, which it leaves as it is."""
    (head,) = margin_heads(net)
    plain = net(x=x, label=label)["loss"]
    seen = []
    head.watch(seen.append)
    watched = net(x=x, label=label)["loss"]
    head.unwatch()
    net(x=x, label=label)
    assert len(seen) == 1
    assert watched.item() == pytest.approx(plain.item(), rel=1e-5)
    return head, seen[0].numpy()


@pytest.mark.parametrize("kind", FIELDS)
def test_a_layer_with_weights_and_margin(kind):
    net = load(INPUT + ANNEALED.format(type=kind, field=FIELDS[kind]) + LOSS, phase="TRAIN")
    x, label = batch()
    before = net.layer("fc6").weight.detach().clone().numpy()
    head, found = seen_by(net, x, label)
    expected = reference(x.numpy(), before, label.numpy(), kind == "MarginInnerProduct")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (head.name, head.classes, head.margin()) == ("fc6", 7, "lambda is 9")


def test_rows_without_a_class_are_left_out():
    text = ANNEALED.format(type="MarginInnerProduct", field=FIELDS["MarginInnerProduct"])
    net = load(INPUT + text + LOSS, phase="TRAIN")
    layer, (head,) = net.layer("fc6"), margin_heads(net)
    x, label = batch()
    label[2] = -1
    seen = []
    head.watch(seen.append)
    layer.on_rows(x, label.long())
    expected = reference(x.numpy(), layer.weight.detach().numpy(), label.numpy(), True)
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("more", ["", "transpose: true"])
def test_a_margin_on_cosines(kind, more):
    margin, words = MARGINS[kind]
    text = INPUT + COSINES.format(type=kind, margin=margin, more=more) + SCALED + LOSS
    net = load(text, phase="TRAIN")
    x, label = batch()
    head, found = seen_by(net, x, label)
    weight = net.layer("cosine").weight.detach().numpy()
    weight = weight.T if more else weight
    np.testing.assert_allclose(
        found, reference(x.numpy(), weight, label.numpy(), True, scale=12), rtol=1e-5
    )
    assert (head.name, head.classes, head.margin()) == ("cosine", 7, words)


def test_a_scale_that_follows_the_data():
    text = COSINES.format(
        type="AdaCosAddmScale",
        margin="adacos_add_m_scale_param { m: 0.2 num_classes: 7 }",
        more="",
    ).replace('top: "margin"', 'top: "fc6"')
    net = load(INPUT + text + LOSS, phase="TRAIN")
    x, label = batch()
    (head,) = margin_heads(net)
    seen = []
    head.watch(seen.append)
    net(x=x, label=label)
    scale = float(net.layer("margin").scale)
    weight = net.layer("cosine").weight.detach().numpy()
    expected = reference(x.numpy(), weight, label.numpy(), True, scale=scale)
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-5)
    assert head.margin() == "m is 0.2"


def test_scores_that_no_loss_reads_are_no_head():
    text = COSINES.format(type="CosinAddm", margin="cosin_add_m_param { m: 0.5 }", more="")
    assert margin_heads(load(INPUT + text, phase="TRAIN")) == []
    (head,) = margin_heads(load(INPUT + text + SCALED + LOSS, phase="TRAIN"))
    assert isinstance(head, CosineHead)
    assert [layer.name for layer in head.factors] == ["scale", "twice"]
    assert (head.reader.name, head.product.name) == ("norm", "cosine")
