from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe import load
from sphereface.caffe.batch_source import as_source, draw
from sphereface.errors import SphereFaceError

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "r" type: "ReLU" bottom: "x" top: "r" }
"""
CPU = torch.device("cpu")


def test_one_batch_is_repeated():
    source = as_source({"x": np.ones((1, 2), np.float32)})
    net = load(NET)
    assert [draw(source, net, CPU)["x"].tolist() for _ in range(3)] == [[[1, 1]]] * 3


def test_batches_are_drawn_in_order():
    source = as_source({"x": torch.full((1, 2), float(i))} for i in range(2))
    net = load(NET)
    assert [draw(source, net, CPU)["x"][0, 0].item() for _ in range(2)] == [0, 1]
    with pytest.raises(StopIteration):
        draw(source, net, CPU)


def test_a_source_stays_itself():
    source = as_source([])
    assert as_source(source) is source
    assert source.state() == {}


def test_net_without_inputs_needs_none():
    net = load('layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape {} } }')
    assert draw(None, net, CPU) == {}


def test_no_source_and_wrong_feeds():
    with pytest.raises(SphereFaceError, match="nothing to feed the inputs x"):
        draw(None, load(NET), CPU)
    with pytest.raises(SphereFaceError, match="a feed of type int"):
        as_source(3)
