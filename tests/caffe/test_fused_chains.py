"""Layers that together are a head of Caffe's forks, run as one with their loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sphereface import caffe
from sphereface.caffe import Net, pending_logits
from sphereface.errors import NonFiniteError, SphereFaceError

INPUT = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 7 dim: 5 } shape { dim: 7 } } }
"""
NORMALIZE = 'layer { name: "norm" type: "Normalize" bottom: "data" top: "norm" }\n'
NORM_L2 = 'layer { name: "norm" type: "NormL2" bottom: "data" top: "norm" }\n'
PRODUCT = """
layer { name: "fc" type: "InnerProduct" bottom: "norm" top: "fc"
  inner_product_param { num_output: 9 bias_term: false normalize: true
    weight_filler { type: "xavier" } } }
"""
SCALE = """
layer { name: "scale%(n)s" type: "Scale" bottom: "%(bottom)s" top: "%(top)s"
  param { lr_mult: %(lr)s }
  scale_param { num_axes: 0 axis: 0 filler { value: %(value)s } %(more)s } }
"""
LOSS = """
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" top: "loss"
  loss_weight: 0.5 loss_param { %s } }
"""
IGNORED = "ignore_label: -1"


def scale(bottom: str, top: str, value: float, lr: float = 0, more: str = "", n: str = "") -> str:
    return SCALE % {"bottom": bottom, "top": top, "value": value, "lr": lr, "more": more, "n": n}


def margin(
    kind: str, param: str = "", bottom: str = "fc", top: str = "margin", more: str = ""
) -> str:
    return (
        f'layer {{ name: "margin" type: "{kind}" bottom: "{bottom}" bottom: "label" top: "{top}"'
        f" {more} {param} }}\n"
    )


ADD = margin("LabelSpecificAdd", "label_specific_add_param { bias: -0.35 }")
ARC = margin("CosinAddm", "cosin_add_m_param { m: 0.5 }")
COMBINED = margin("CombinedMargin", "combined_margin_param { m1: 1.1 m2: 0.3 m3: 0.1 }")
HEADS = {
    # AM-Softmax as its authors' prototxt has it, and with the scale before the margin.
    "am-softmax": NORMALIZE + PRODUCT + ADD + scale("margin", "z", 30) + LOSS % ("z", ""),
    "am-softmax, scaled before": NORMALIZE + PRODUCT + scale("fc", "s", 12, lr=1)
    + margin("LabelSpecificAdd", "label_specific_add_param { bias: -3 }", "s", "z")
    + LOSS % ("z", ""),
    "am-softmax, in place": NORMALIZE + PRODUCT
    + margin("LabelSpecificAdd", "label_specific_add_param { bias: -0.2 }", "fc", "fc")
    + scale("fc", "fc", -7) + LOSS % ("fc", "normalization: FULL"),
    "its bias as a top": NORMALIZE + PRODUCT
    + margin("LabelSpecificAdd", "label_specific_add_param { bias: -0.2 }", more='top: "bias"')
    + LOSS % ("margin", ""),
    "arcface": NORM_L2 + PRODUCT + ARC + scale("margin", "z", 64) + LOSS % ("z", IGNORED),
    "arcface, two factors": NORM_L2 + PRODUCT + scale("fc", "s", 1.2, lr=1)
    + margin("CosinAddm", "cosin_add_m_param { m: 1.8 }", "s")
    + 'layer { name: "p" type: "Power" bottom: "margin" top: "p" power_param { scale: 0.5 } }'
    + scale("p", "z", 20, n="2") + LOSS % ("z", ""),
    "combined": NORM_L2 + PRODUCT + COMBINED + scale("margin", "z", 32) + LOSS % ("z", IGNORED),
    "normface": NORMALIZE + PRODUCT + scale("fc", "z", 20, lr=1, more="min_value: 3 max_value: 21")
    + LOSS % ("z", ""),
    "l2-softmax": NORMALIZE + scale("norm", "s", 8, lr=1)
    + PRODUCT.replace('bottom: "norm"', 'bottom: "s"').replace("normalize: true", "").replace(
        "bias_term: false", 'bias_filler { type: "gaussian" }')
    + scale("fc", "z", 1.5, lr=1, n="2") + LOSS % ("z", ""),
}  # fmt: skip


def build(text: str) -> Net:
    return caffe.load(
        INPUT + text, phase="TRAIN", generator=torch.Generator().manual_seed(3)
    ).double()


def batch(labels: tuple[float, ...] = (0, 8, 3, 3, 2, 1, 5)) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(7, 5, generator=draw, dtype=torch.float64)
    x[5] = 0  # it has no direction
    return {"data": x.requires_grad_(), "label": torch.tensor(labels, dtype=torch.float64)}


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each run of the fused operator."""
    runs: list[str] = []
    operator = pending_logits.margin_softmax_loss

    def counted(*args: object, **options: object) -> object:
        runs.append(type(options["margin"]).__name__)
        return operator(*args, **options)

    monkeypatch.setattr(pending_logits, "margin_softmax_loss", counted)
    return runs


def step(net: Net, labels: tuple[float, ...]) -> dict[str, Tensor]:
    feed = batch(labels)
    out = net(feed)
    net.loss(out).backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    net.zero_grad()
    with torch.no_grad():  # angles all over: some rows beyond pi - m
        for name, p in net.named_parameters():
            if name == "fc.weight":
                p += 3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5))
    return {**out, "dx": feed["data"].grad, **grads}


@pytest.mark.parametrize("name", HEADS)
def test_equal_to_the_layers(name: str, fused: list[str]) -> None:
    net, apart = build(HEADS[name]), build(HEADS[name])
    apart.fuse_losses = False
    keys = [(key, value.shape) for key, value in net.state_dict().items()]
    labels = (0, 8, -1, 3, 2, 1, 5) if "ignore_label" in HEADS[name] else (0, 8, 3, 3, 2, 1, 5)
    for run in range(3):
        ours, expected = step(net, labels), step(apart, labels)
        assert len(fused) == run + 1
        assert ours.keys() == expected.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], expected[key], rtol=1e-10, atol=1e-11)
    for ours, theirs in zip(net.parameters(), apart.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [(key, value.shape) for key, value in net.state_dict().items()] == keys


def test_its_policies(fused: list[str]) -> None:
    for name, policy in (("arcface", "CosineMargin"), ("normface", "LSoftmax")):
        build(HEADS[name])(batch())
        assert fused[-1] == policy


BEHIND = HEADS["am-softmax"]
NOT_FUSED = {
    "a learned scale behind the margin": BEHIND.replace("lr_mult: 0", "lr_mult: 1"),
    "a limited scale behind it": BEHIND.replace("value: 30 }", "value: 30 } max_value: 20"),
    "a scale of 0": BEHIND.replace("value: 30", "value: 0"),
    "a scale a class": BEHIND.replace("num_axes: 0 axis: 0", "axis: 1"),
    "a scale with a bias": BEHIND.replace("axis: 0 ", "axis: 0 bias_term: true "),
    "an annealed bias": BEHIND.replace("bias: -0.35", "bias_base: -0.35 bias_min: -1"),
    "a bias before the margin": BEHIND.replace("bias_term: false", ""),
    "another reader": BEHIND
    + 'layer { name: "acc" type: "Accuracy" bottom: "z" bottom: "label" top: "acc" }',
    "a reader before the margin": BEHIND
    + 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }',
    "another loss": BEHIND.replace("SoftmaxWithLoss", "FocalLoss"),
    "AdaCos": NORM_L2 + PRODUCT
    + margin("AdaCosAddmScale", "adacos_add_m_scale_param { m: 0.1 num_classes: 9 }")
    + LOSS % ("margin", ""),
    "two margins": NORM_L2 + PRODUCT + ARC
    + margin("LabelSpecificAdd", "label_specific_add_param { bias: -0.1 }", "margin", "z")
    .replace('name: "margin"', 'name: "second"') + LOSS % ("z", ""),
    "nothing normalised": PRODUCT.replace("normalize: true", "").replace('"norm"', '"data"')
    + LOSS % ("fc", ""),
    "a transposed weight": BEHIND.replace("normalize: true", "normalize: true transpose: true"),
    "a shift": NORMALIZE + PRODUCT
    + 'layer { name: "p" type: "Power" bottom: "fc" top: "z" power_param { scale: 2 shift: 1 } }'
    + LOSS % ("z", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FUSED)
def test_what_runs_layer_by_layer(name: str, fused: list[str]) -> None:
    net = build(NOT_FUSED[name])
    net.loss(net(batch())).backward()
    assert not fused


def test_other_labels(fused: list[str]) -> None:
    text = BEHIND.replace('bottom: "z" bottom: "label"', 'bottom: "z" bottom: "truth"')
    net = build('input: "truth" input_shape { dim: 7 }' + text)
    net({**batch(), "truth": torch.zeros(7, dtype=torch.float64)})
    assert not fused


@pytest.mark.parametrize("blob", ["fc", "margin", "z"])
def test_blobs_that_are_asked_for(blob: str, fused: list[str]) -> None:
    net, apart = build(HEADS["am-softmax"]), build(HEADS["am-softmax"])
    apart.fuse_losses = False
    given = net(batch(), blobs=[blob])[blob]
    assert torch.equal(given, apart(batch(), blobs=[blob])[blob])
    assert not fused
    net(batch())
    assert fused


@pytest.mark.parametrize("layer", ["fc", "margin", "scale", "loss"])
def test_a_hook_sees_what_it_saw(layer: str, fused: list[str]) -> None:
    net, seen = build(HEADS["am-softmax"]), []
    handle = net.layer(layer).register_forward_hook(lambda module, x, y: seen.append(y.shape))
    net(batch())
    assert seen == [() if layer == "loss" else (7, 9)]
    assert not fused
    handle.remove()
    net(batch())
    assert fused


def test_test_phase(fused: list[str]) -> None:
    net = build(HEADS["am-softmax"]).eval()
    before = net.layer("fc").weight.clone()
    net(batch())
    assert torch.equal(net.layer("fc").weight, before)
    assert not fused


def test_a_scale_that_changes_is_read_again(fused: list[str]) -> None:
    net, apart = build(HEADS["am-softmax"]), build(HEADS["am-softmax"])
    apart.fuse_losses = False
    for value in (30.0, 4.0):
        with torch.no_grad():
            net.layer("scale").weight.fill_(value)
            apart.layer("scale").weight.fill_(value)
        torch.testing.assert_close(net(batch())["loss"], apart(batch())["loss"], rtol=1e-11, atol=0)
    net.layer("scale").weight.requires_grad_()
    net(batch())
    assert len(fused) == 2  # the third has a gradient that the loss does not give


def test_errors_name_the_layers(fused: list[str]) -> None:
    feed = batch()
    with torch.no_grad():
        feed["data"][2, 1] = float("nan")
    with pytest.raises(NonFiniteError, match=r'layer "fc".*row 2'):
        build(HEADS["am-softmax"])(feed)
    for name, layer in (("am-softmax", "margin"), ("normface", "loss")):
        with pytest.raises(SphereFaceError, match=rf'"{layer}".*label\[3\] is 9'):
            build(HEADS[name])(batch((0, 8, 3, 9, 2, 1, 5)))
