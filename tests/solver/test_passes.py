from __future__ import annotations

import contextlib

import torch

from sphereface.caffe import load
from sphereface.solver.passes import Passes

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
        inner_product_param { num_output: 1 weight_filler { type: "constant" value: 2 } } }
layer { name: "aside" type: "InnerProduct" bottom: "x" top: "aside"
        inner_product_param { num_output: 1 } }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 3 }
"""
BATCH = {"x": torch.tensor([[1.0, 2, 3], [4, 5, 6]])}


def test_passes_add_up_until_they_are_cleared():
    net = load(NET, phase="TRAIN")
    passes, parameters = Passes(net), [net.layer("fc").weight, net.layer("aside").weight]
    for times in (1, 2):
        result = passes.forward_backward(BATCH)
        assert result.loss.item() == 3 * 2 * 21
        assert not result.loss.requires_grad
        assert passes.gradients(parameters)[0].tolist() == [[15 * times, 21 * times, 27 * times]]
    # A blob that no loss depends on has a gradient of zeros, as its diff in Caffe.
    assert passes.gradients(parameters)[1].tolist() == [[0, 0, 0]]
    passes.clear(parameters)
    assert parameters[0].grad is None
    assert list(result.outputs) == ["aside", "sum"]


def test_forward_leaves_no_gradient():
    net = load(NET, phase="TRAIN")
    assert Passes(net).forward(BATCH).loss.item() == 126
    assert net.layer("fc").weight.grad is None


def test_all_frozen_is_no_error():
    net = load(NET, phase="TRAIN").requires_grad_(False)
    assert Passes(net).forward_backward(BATCH).loss.item() == 126


def test_another_model_and_context():
    net = load(NET, phase="TRAIN")
    passes, entered = Passes(net), []

    @contextlib.contextmanager
    def context():
        entered.append(True)
        yield

    passes.context = context
    passes.model = lambda batch: net({"x": batch["x"] * 2})
    assert passes.forward_backward(BATCH).loss.item() == 252
    assert entered == [True]
