from __future__ import annotations

import pytest

from sphereface.caffe import load
from sphereface.pycaffe.backward_plan import plan_backward

TRAIN = """
%s
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3] } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" %s
  inner_product_param { num_output: 4 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "label" top: "loss" }
"""
FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"


def plan(head="", options=""):
    return plan_backward(load(TRAIN % (head, options), phase="TRAIN"))


def test_gradients_lead_from_the_loss_to_the_parameters():
    layers, bottoms = plan()
    assert layers == [False, False, True, True, True]
    # The data get none, nor do labels.
    assert bottoms == [[], [], [False], [True], [True, False]]


def test_below_frozen_parameters_there_is_none():
    layers, bottoms = plan(options=FROZEN)
    assert layers == [False, False, False, True, True]
    assert bottoms[3] == [False]


@pytest.mark.parametrize("wish", ["true", "false"])
def test_propagate_down_is_obeyed(wish):
    layers, bottoms = plan(options=f"propagate_down: {wish}")
    assert bottoms[2] == [wish == "true"]
    assert layers[2]


def test_what_a_layer_does_not_propagate_stops_those_below():
    net = TRAIN.replace('bottom: "a" top: "b"', 'bottom: "a" top: "b" propagate_down: false')
    layers, bottoms = plan_backward(load(net % ("", ""), phase="TRAIN"))
    assert layers == [False, False, False, True, True]
    assert bottoms[2] == [False]


def test_without_a_loss_nothing_runs_backward():
    deploy = (TRAIN % ("", "")).rpartition("layer {")[0]
    layers, bottoms = plan_backward(load(deploy))
    assert not any(layers)
    assert not any(map(any, bottoms))


def test_force_backward_runs_all():
    layers, bottoms = plan("force_backward: true", FROZEN)
    assert all(layers)
    assert bottoms[2:] == [[True], [True], [True, True]]


def test_targets_of_a_loss_are_not_forced():
    net = load("""force_backward: true
        layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: [2, 3] } } }
        layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "t" top: "loss" }
    """)
    assert plan_backward(net).bottoms[1] == [True, False]
