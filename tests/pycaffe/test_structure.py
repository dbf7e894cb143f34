from __future__ import annotations

from collections import OrderedDict

from sphereface import pycaffe as caffe


def test_names_and_order(small_net):
    net = small_net()
    split = "conv_relu_0_split"
    assert net._layer_names == ["data", "conv", "relu", split, "left", "right", "sum"]
    assert [layer.type for layer in net.layers] == [
        "Input", "Convolution", "ReLU", "Split", "InnerProduct", "InnerProduct", "Eltwise",
    ]  # fmt: skip
    assert isinstance(net.blobs, OrderedDict)
    assert list(net.blobs) == ["data", "conv", f"{split}_0", f"{split}_1", "left", "right", "sum"]
    assert net._blob_names == list(net.blobs)
    assert net._blobs[1] is net.blobs["conv"]
    assert list(net.params) == ["conv", "left", "right"]
    assert [blob.shape for blob in net.params["conv"]] == [(4, 3, 3, 3), (4,)]
    assert (net.inputs, net.outputs) == (["data"], ["sum"])
    assert (net._inputs, net._outputs) == ([0], [6])


def test_tops_and_bottoms(small_net):
    net = small_net()
    assert net.top_names["relu"] == net.bottom_names["relu"] == ["conv"]
    assert net.bottom_names["sum"] == ["left", "right"]
    assert net.top_names["conv_relu_0_split"] == ["conv_relu_0_split_0", "conv_relu_0_split_1"]
    assert list(net.bottom_names) == net._layer_names
    assert net._top_ids(4) == [4]
    assert net._bottom_ids(4) == [2]


def test_layers_hold_the_blobs_of_params(small_net):
    net = small_net()
    assert net.layer_dict["conv"] is net.layers[1]
    assert net.layer_dict["conv"].blobs[0] is net.params["conv"][0]
    assert net.layer_dict["relu"].blobs == []


def test_loss_weights(write_net):
    net = caffe.Net(
        write_net("""
            layer { name: "in" type: "Input" top: "x" top: "t"
              input_param { shape { dim: [2, 3] } } }
            layer { name: "l" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "l"
              loss_weight: 2 }
        """),
        caffe.TEST,
    )
    assert net.blob_loss_weights == OrderedDict(x=0, t=0, l=2)
