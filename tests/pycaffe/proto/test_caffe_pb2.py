from __future__ import annotations

import pytest
from google.protobuf import text_format

from sphereface.caffe import Layer, register_layer
from sphereface.pycaffe import io, proto
from sphereface.pycaffe.proto import caffe_pb2


def test_messages_enums_and_values():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.Phase.Value("TRAIN") == 0
    assert caffe_pb2.PoolingParameter.AVE == 1
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("STOCHASTIC") == 2
    assert caffe_pb2.V1LayerParameter.LayerType.Name(4) == "CONVOLUTION"
    assert caffe_pb2.V1LayerParameter.INNER_PRODUCT == 14
    assert caffe_pb2.DESCRIPTOR.package == "caffe"
    assert "NetParameter" in dir(caffe_pb2)
    assert proto.caffe_pb2 is io.caffe_pb2 is caffe_pb2
    with pytest.raises(AttributeError, match='did you mean "NetParameter"'):
        _ = caffe_pb2.NetParamter
    with pytest.raises(AttributeError, match="_NETPARAMTER"):
        _ = caffe_pb2._NETPARAMTER


def test_descriptors_by_the_names_of_generated_modules():
    types = caffe_pb2._V1LAYERPARAMETER_LAYERTYPE
    assert types.values_by_name["CONVOLUTION"].number == 4
    assert caffe_pb2._POOLINGPARAMETER_POOLMETHOD.values_by_number[1].name == "AVE"
    assert caffe_pb2._PHASE.values_by_name["TEST"].number == 1
    assert caffe_pb2._NETPARAMETER is caffe_pb2.NetParameter.DESCRIPTOR


def test_text_and_binary():
    net = caffe_pb2.NetParameter()
    text_format.Merge('name: "n" layer { name: "p" pooling_param { pool: MAX } }', net)
    net.layer.add(name="m").margin_inner_product_param.num_output = 10572
    again = caffe_pb2.NetParameter()
    again.ParseFromString(net.SerializeToString())
    assert again == net
    assert text_format.Parse(str(net), caffe_pb2.NetParameter()) == net


def test_layers_of_ones_own_are_known():
    @register_layer(
        "Pb2Gain",
        param="pb2_gain_param",
        message="message Pb2GainParameter { optional float gain = 1; }",
    )
    class Gain(Layer):
        pass

    assert caffe_pb2.Pb2GainParameter(gain=2).gain == 2
    layer = caffe_pb2.LayerParameter()
    text_format.Merge("pb2_gain_param { gain: 3 }", layer)
    assert layer.pb2_gain_param.gain == 3
