"""``caffe._caffe``, as scripts that merge batch norms into convolutions look at it."""

from __future__ import annotations

import sys

import pytest

from sphereface import pycaffe as caffe
from sphereface.pycaffe import _caffe


class Doubled(caffe.Layer):
    def setup(self, bottom, top):
        self.kinds = type(bottom), type(top), type(self.blobs)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data


@pytest.fixture
def python_net(write_net, monkeypatch):
    monkeypatch.setitem(sys.modules, "doubled_of_the_test", sys.modules[__name__])
    return caffe.Net(
        write_net("""
            layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
            layer { name: "py" type: "Python" bottom: "x" top: "y"
                    python_param { module: "doubled_of_the_test" layer: "Doubled" } }
        """),
        caffe.TEST,
    )


def test_what_a_net_is_made_of(small_net):
    net = small_net()
    assert isinstance(net, _caffe.Net)
    assert type(net.params["conv"]) is type(net._blobs) is caffe._caffe.BlobVec
    assert type(net.layers) is _caffe.LayerVec
    assert type(net._layer_names) is type(net._blob_names) is _caffe.StringVec
    assert type(net._inputs) is type(net._top_ids(0)) is type(net._bottom_ids(1)) is _caffe.IntVec
    assert type(net._blob_loss_weights) is _caffe.DtypeVec
    assert all(isinstance(layer, _caffe.Layer) for layer in net.layers)
    assert type(net.layers[1].blobs) is _caffe.BlobVec
    assert all(isinstance(blob, _caffe.Blob) for blob in net.blobs.values())


def test_what_a_python_layer_gets(python_net):
    layer = python_net.layer_dict["py"]
    assert isinstance(layer, _caffe.Layer)
    assert layer.kinds == (_caffe.RawBlobVec, _caffe.RawBlobVec, _caffe.BlobVec)
    python_net.blobs["x"].data[...] = 3
    assert python_net.forward()["y"].tolist() == [[6] * 3] * 2


def test_blob_loss_weights_by_number(write_net):
    net = caffe.Net(
        write_net("""
            layer { name: "in" type: "Input" top: "x" top: "t"
              input_param { shape { dim: [2, 3] } } }
            layer { name: "l" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "l"
              loss_weight: 2 }
        """),
        caffe.TEST,
    )
    assert list(net._blob_loss_weights) == [0, 0, 2]


def test_its_names_are_those_of_the_package():
    names = set(_caffe.__all__) & set(caffe.__all__)
    assert {"Net", "SGDSolver", "get_solver", "NCCL", "Timer", "log", "Layer"} <= names
    assert all(getattr(_caffe, name) is getattr(caffe, name) for name in names)
    assert issubclass(caffe.AdamSolver, _caffe.Solver)
