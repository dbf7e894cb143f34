from __future__ import annotations

from sphereface.proto import text
from sphereface.pycaffe.splits import insert_splits


def split(source):
    net, origin = insert_splits(text.read(source))
    return net, origin


def test_blob_with_two_readers():
    net, origin = split("""
        layer { name: "mnist" type: "Data" top: "data" top: "label" }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" }
        layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
    """)
    assert [layer.name for layer in net.layer] == [
        "mnist", "label_mnist_1_split", "ip", "ip_ip_0_split", "accuracy", "loss",
    ]  # fmt: skip
    assert origin == [0, -1, 1, -1, 2, 3]
    first = net.layer[1]
    assert first.type == "Split"
    assert list(first.bottom) == ["label"]
    assert list(first.top) == ["label_mnist_1_split_0", "label_mnist_1_split_1"]
    assert list(net.layer[2].bottom) == ["data"]
    assert list(net.layer[4].bottom) == ["ip_ip_0_split_0", "label_mnist_1_split_0"]
    assert list(net.layer[5].bottom) == ["ip_ip_0_split_1", "label_mnist_1_split_1"]


def test_the_split_follows_the_last_writer_in_place():
    net, _ = split("""
        layer { name: "conv" type: "Convolution" top: "x" }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "a" type: "TanH" bottom: "x" top: "a" }
        layer { name: "b" type: "TanH" bottom: "x" top: "b" }
    """)
    assert [layer.name for layer in net.layer] == ["conv", "relu", "x_relu_0_split", "a", "b"]
    assert list(net.layer[1].bottom) == ["x"]


def test_a_loss_weight_is_a_reader_and_moves_to_the_split():
    net, _ = split("""
        layer { name: "data" type: "Input" top: "data" }
        layer { name: "l" type: "Reduction" bottom: "data" top: "l" loss_weight: 2 }
        layer { name: "p" type: "Power" bottom: "l" top: "p" }
    """)
    assert [layer.name for layer in net.layer] == ["data", "l", "l_l_0_split", "p"]
    assert list(net.layer[1].loss_weight) == []
    assert list(net.layer[2].loss_weight) == [2, 0]
    assert list(net.layer[3].bottom) == ["l_l_0_split_1"]


def test_the_same_bottom_twice_and_the_given_net_untouched():
    source = text.read("""
        layer { name: "data" type: "Input" top: "x" }
        layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "x" top: "y" }
        layer { name: "lost" type: "TanH" bottom: "nowhere" top: "z" }
    """)
    before = source.SerializeToString()
    net, _ = insert_splits(source)
    assert list(net.layer[2].bottom) == ["x_data_0_split_0", "x_data_0_split_1"]
    assert list(net.layer[3].bottom) == ["nowhere"]
    assert source.SerializeToString() == before
