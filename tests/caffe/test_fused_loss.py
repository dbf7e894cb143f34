"""A margin head and its softmax loss run as one: the two layers' values, and when they are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sphereface import caffe
from sphereface.caffe import Net
from sphereface.caffe.layers import margin_inner_product as head_layer
from sphereface.errors import NonFiniteError

HEAD = """
layer {{ name: "data" type: "Input" top: "data" top: "label"
  input_param {{ shape {{ dim: 6 dim: 5 }} shape {{ dim: 6 }} }} }}
layer {{ name: "fc" type: "MarginInnerProduct" bottom: "data" bottom: "label" top: "fc" {lambda_top}
  margin_inner_product_param {{ num_output: 9 type: {kind} base: 10 gamma: 1 lambda_min: 1
    weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
  loss_weight: 0.5 loss_param {{ {loss_param} }} }}
"""
ACCURACY = """
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }
"""


def build(
    lambda_top: str = 'top: "lambda"', kind: str = "QUADRUPLE", loss_param: str = "", more: str = ""
) -> Net:
    text = HEAD.format(lambda_top=lambda_top, kind=kind, loss_param=loss_param) + more
    return caffe.load(text, phase="TRAIN", generator=torch.Generator().manual_seed(3)).double()


def batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(6, 5, generator=draw, dtype=torch.float64).requires_grad_()
    return {"data": x, "label": torch.tensor([0.0, 8, 3, 3, 2, 1], dtype=torch.float64)}


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each run of the fused operator."""
    runs: list[int] = []
    operator = head_layer.margin_softmax_loss

    def counted(*args: object, **options: object) -> object:
        runs.append(1)
        return operator(*args, **options)

    monkeypatch.setattr(head_layer, "margin_softmax_loss", counted)
    return runs


def step(net: Net, scale: float = 1.0) -> tuple[Tensor, ...]:
    feed = batch()
    out = net({"data": feed["data"] * scale, "label": feed["label"]})
    net.loss(out).backward()
    grad = net.layer("fc").weight.grad
    net.zero_grad()
    return (*out.values(), feed["data"].grad, grad)


@pytest.mark.parametrize("kind", ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
@pytest.mark.parametrize(
    "loss_param",
    ["", "ignore_label: 3", "ignore_label: 3 normalization: BATCH_SIZE", "normalization: NONE"],
)
def test_equal_to_the_layers(kind: str, loss_param: str, fused: list[int]) -> None:
    net, apart = build(kind=kind, loss_param=loss_param), build(kind=kind, loss_param=loss_param)
    apart.fuse_losses = False
    for run in range(3):  # lambda falls; 60: losses beyond Caffe's largest one
        ours, expected = step(net, 60.0**run), step(apart, 60.0**run)
        assert len(fused) == run + 1
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    assert net.layer("fc").iteration == 3
    assert torch.equal(net.layer("fc").weight, apart.layer("fc").weight)


@pytest.mark.parametrize("kind", ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
def test_large_margin_is_equal_to_the_layers(kind: str, fused: list[int]) -> None:
    text = HEAD.format(lambda_top='top: "lambda"', kind=kind, loss_param="ignore_label: 3")
    text = text.replace("MarginInnerProduct", "LargeMarginInnerProduct")
    text = text.replace("margin_inner_product_param", "largemargin_inner_product_param")
    made = [
        caffe.load(text, phase="TRAIN", generator=torch.Generator().manual_seed(3)).double()
        for _ in range(2)
    ]
    made[1].fuse_losses = False
    for run in range(3):
        ours, expected = step(made[0], 2.0**run), step(made[1], 2.0**run)
        assert len(fused) == run + 1
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    made[0](batch(), blobs=["fc"])
    assert len(fused) == 3


def test_logits_that_are_asked_for(fused: list[int]) -> None:
    net = build()
    assert net(batch(), blobs=["fc"])["fc"].shape == (6, 9)
    assert not fused
    net(batch())
    assert fused


def test_logits_that_another_layer_reads(fused: list[int]) -> None:
    assert build(more=ACCURACY)(batch()).keys() == {"acc", "lambda", "loss"}
    assert not fused


def test_a_hook_sees_the_logits(fused: list[int]) -> None:
    net, seen = build(lambda_top=""), []
    handle = net.layer("fc").register_forward_hook(lambda layer, x, y: seen.append(y.shape))
    net(batch())
    assert seen == [(6, 9)]
    handle.remove()
    net(batch())
    assert len(seen) == len(fused) == 1


def test_test_phase_keeps_the_weight(fused: list[int]) -> None:
    net = build().eval()
    before = net.layer("fc").weight.clone()
    net(batch())
    assert torch.equal(net.layer("fc").weight, before)
    assert not fused


def test_a_loss_of_other_labels_is_not_fused(fused: list[int]) -> None:
    text = HEAD.format(lambda_top="", kind="DOUBLE", loss_param="").replace(
        'bottom: "fc" bottom: "label" top: "loss"', 'bottom: "fc" bottom: "truth" top: "loss"'
    )
    text = 'input: "truth" input_shape { dim: 6 }' + text
    net = caffe.load(text, phase="TRAIN").double()
    net({**batch(), "truth": torch.zeros(6, dtype=torch.float64)})
    assert not fused


@pytest.mark.parametrize("kind", ["FocalLoss", "SoftmaxWithLoss"])
def test_another_loss_is_not_fused(kind: str, fused: list[int]) -> None:
    text = HEAD.format(lambda_top="", kind="DOUBLE", loss_param="weight_by_label_freqs: true")
    if kind == "FocalLoss":
        text = text.replace("weight_by_label_freqs: true", "").replace("SoftmaxWithLoss", kind)
    caffe.load(text, phase="TRAIN").double()(batch())
    assert not fused


def test_errors_name_the_layer() -> None:
    feed = batch()
    with torch.no_grad():
        feed["data"][2, 1] = float("nan")
    with pytest.raises(NonFiniteError, match=r'layer "fc".*row 2'):
        build()(feed)
