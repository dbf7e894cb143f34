"""What is left of a trained net's layers: written by hand, and run against the net it was."""

from __future__ import annotations

import pytest

from sphereface.caffe import list_layers
from sphereface.errors import SphereFaceError
from sphereface.proto.deploy import deploy_net
from sphereface.proto.text import parse, write

TRAINED = """
name: "face"
layer { name: "data" type: "ImageData" top: "data" top: "label" phase: TRAIN
        include { phase: TRAIN } transform_param { crop_size: 8 }
        image_data_param { source: "list.txt" batch_size: 64 } }
layer { name: "label_data_1_split" type: "Split" bottom: "label"
        top: "label_data_1_split_0" top: "label_data_1_split_1" phase: TRAIN }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" phase: TRAIN
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" phase: TRAIN
        batch_norm_param { use_global_stats: false eps: 0.25 } }
layer { name: "conv1_bn1_0_split" type: "Split" bottom: "conv1"
        top: "conv1_bn1_0_split_0" top: "conv1_bn1_0_split_1" phase: TRAIN }
layer { name: "conv2" type: "Convolution" bottom: "conv1_bn1_0_split_0" top: "conv2" phase: TRAIN
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "res" type: "Eltwise" bottom: "conv1_bn1_0_split_1" bottom: "conv2" top: "res"
        phase: TRAIN }
layer { name: "fc5" type: "InnerProduct" bottom: "res" top: "fc5" phase: TRAIN
        loss_weight: 0 inner_product_param { num_output: 5 } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label_data_1_split_0"
        top: "fc6" top: "lambda" phase: TRAIN margin_inner_product_param { num_output: 10 } }
layer { name: "s" type: "Silence" bottom: "lambda" phase: TRAIN }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label_data_1_split_1"
        top: "loss" phase: TRAIN loss_weight: 1 }
"""

DEPLOY = """
name: "face"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1"
        batch_norm_param { eps: 0.25 } }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "res" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "res" }
layer { name: "fc5" type: "InnerProduct" bottom: "res" top: "fc5"
        inner_product_param { num_output: 5 } }
"""


@pytest.fixture(autouse=True)
def _layers():
    list_layers()


def deployed(text, shapes=None):
    return deploy_net(parse(text).message, shapes)


def input_layer(net):
    first = net.layer[0]
    assert first.type == "Input"
    return list(first.top), [list(shape.dim) for shape in first.input_param.shape]


def test_a_trained_face_net():
    trained = parse(TRAINED).message
    before = trained.SerializeToString()
    assert write(deploy_net(trained)) == write(parse(DEPLOY).message)
    assert trained.SerializeToString() == before


def test_a_deploy_net_stays():
    assert write(deployed(DEPLOY)) == write(parse(DEPLOY).message)


FC = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                inner_product_param { num_output: 2 } }"""
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                  convolution_param { num_output: 6 kernel_size: 3 group: 3 } }"""
CROP = "transform_param { crop_size: 6 }"


@pytest.mark.parametrize(
    ("source", "layer", "shapes", "expected"),
    [
        ('type: "Data" top: "data" top: "label"', CONV, {"conv": (6, 2, 3, 3)}, []),
        ('type: "Data" top: "data" top: "label" ' + CROP, CONV, {}, []),
        ('type: "Data" top: "data" ' + CROP, CONV, {"conv": (6, 2, 3, 3)}, [[1, 6, 6, 6]]),
        ('type: "ImageData" top: "data" top: "label" image_data_param { source: "a" is_color: false'
         " new_height: 5 new_width: 4 }", FC, {}, [[1, 1, 5, 4]]),
        ('type: "ImageData" top: "data" top: "label" image_data_param { source: "a" }',
         FC, {}, []),
        ('type: "MemoryData" top: "data" top: "label" memory_data_param { batch_size: 9 channels: 2'
         " height: 3 width: 4 }", FC, {}, [[1, 2, 3, 4]]),
        ('type: "HDF5Data" top: "data" top: "label"', FC, {}, []),
        ('type: "DummyData" top: "data" dummy_data_param { shape { dim: 3 dim: 7 } }',
         FC, {}, [[3, 7]]),
        ('type: "DummyData" top: "data" dummy_data_param { num: 3 channels: 7 height: 1 width: 2 }',
         FC, {}, [[3, 7, 1, 2]]),
        ('type: "Python" top: "data"', FC, {}, []),
    ],
)  # fmt: skip
def test_the_input_of_each_source(source, layer, shapes, expected):
    net = deployed(f'layer {{ name: "source" {source} }} {layer}', shapes)
    assert input_layer(net) == (["data"], expected)
    assert len(net.layer) == 2


def test_an_input_that_no_layer_makes():
    """Old Caffe wrote the names of a net's inputs, and some converters write none."""
    net = deployed(FC)
    assert input_layer(net) == (["data"], [])
    assert net.layer[0].name == "input"


def test_labels_among_the_tops_of_any_source():
    text = f"""
    layer {{ name: "h" type: "HDF5Data" top: "data" top: "target" top: "weight" }} {FC}
    layer {{ name: "t" type: "Flatten" bottom: "target" top: "flat" }}
    layer {{ name: "l" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "l" }}
    layer {{ name: "a" type: "ArgMax" bottom: "fc" top: "best" }}"""
    net = deployed(text)
    assert [layer.name for layer in net.layer] == ["h", "fc", "a"]
    assert input_layer(net) == (["data"], [])


def test_an_autoencoder_keeps_its_image():
    net = deployed(f"""
    layer {{ name: "d" type: "HDF5Data" top: "data" }} {FC}
    layer {{ name: "l" type: "EuclideanLoss" bottom: "fc" bottom: "data" top: "l" }}""")
    assert [layer.name for layer in net.layer] == ["d", "fc"]


def test_constants_of_the_net_stay():
    net = deployed("""
    layer { name: "d" type: "Data" top: "data" top: "label" }
    layer { name: "one" type: "DummyData" top: "one" dummy_data_param { shape { dim: 2 } } }
    layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "one" top: "sum" }""")
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("d", "Input"), ("one", "DummyData"), ("sum", "Eltwise"),
    ]  # fmt: skip
    assert list(net.layer[0].top) == ["data"]


def test_both_phases_in_one_file():
    net = deployed("""
    layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN }
            transform_param { crop_size: 3 } }
    layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST } }
    layer { name: "drop" type: "Dropout" bottom: "data" top: "data" include { phase: TRAIN } }
    layer { name: "a" type: "Pooling" bottom: "data" top: "p" include { phase: TRAIN } }
    layer { name: "b" type: "Pooling" bottom: "data" top: "p" exclude { phase: TRAIN } }""")
    assert [layer.name for layer in net.layer] == ["d", "drop", "b"]
    assert not any(layer.include or layer.exclude for layer in net.layer)


def test_in_place_on_a_split_changes_its_branch_only():
    net = deployed("""
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }
    layer { name: "s" type: "Split" bottom: "x" top: "x0" top: "x1" }
    layer { name: "relu" type: "ReLU" bottom: "x0" top: "x0" }
    layer { name: "sum" type: "Eltwise" bottom: "x0" bottom: "x1" top: "sum" }""")
    assert [(list(layer.bottom), list(layer.top)) for layer in net.layer] == [
        ([], ["x"]), (["x"], ["x0"]), (["x0", "x"], ["sum"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layer { name: "fc" type: "InnerProduct" }', "do not say what they read and write"),
        ('layer { name: "d" type: "Data" top: "a" top: "b" }', "only data and training layers"),
    ],
)
def test_nothing_to_deploy(text, message):
    with pytest.raises(SphereFaceError, match=message):
        deployed(f'name: "n" {text}')
