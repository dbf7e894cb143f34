# ruff: noqa: C408 - dict(...) is how scripts write it
from __future__ import annotations

import pytest
from google.protobuf import text_format

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe import layers as L
from sphereface.pycaffe import net_spec
from sphereface.pycaffe import params as P
from sphereface.pycaffe.proto import caffe_pb2


def parsed(text):
    return text_format.Merge(text, caffe_pb2.NetParameter())


def test_names_come_from_attributes():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=64,
        backend=P.Data.LMDB,
        source="db",
        transform_param=dict(scale=0.5),
        ntop=2,
        include=dict(phase=caffe.TRAIN),
    )
    n.ip = L.InnerProduct(n.data, num_output=10, weight_filler=dict(type="xavier"))
    n.relu = L.ReLU(n.ip, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.relu, n.label, loss_weight=2)
    assert n.to_proto() == parsed("""
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
          transform_param { scale: 0.5 } data_param { source: "db" batch_size: 64 backend: LMDB } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
        layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
          loss_weight: 2 }
    """)


def test_unnamed_layers_are_numbered_by_type():
    data = L.Input(shape=dict(dim=[1, 2]))
    net = caffe.to_proto(L.Eltwise(L.TanH(data), L.TanH(data), coeff=[1, -1]))
    assert net == parsed("""
        layer { name: "Input1" type: "Input" top: "Input1" input_param { shape { dim: [1, 2] } } }
        layer { name: "TanH1" type: "TanH" bottom: "Input1" top: "TanH1" }
        layer { name: "TanH2" type: "TanH" bottom: "Input1" top: "TanH2" }
        layer { name: "Eltwise1" type: "Eltwise" bottom: "TanH1" bottom: "TanH2" top: "Eltwise1"
          eltwise_param { coeff: [1, -1] } }
    """)
    assert L.TanH(data).to_proto().layer[1].name == "TanH1"


def test_lists_scalars_and_names():
    n = caffe.NetSpec()
    n.x = L.Input(shape=[dict(dim=[1, 3, 8, 8])])
    n.c = L.Convolution(
        n.x,
        name="other",
        kernel_size=3,
        stride=[2, 1],
        param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2)],
        num_output=4,
    )
    layer = n.to_proto().layer[1]
    assert (layer.name, list(layer.top)) == ("other", ["c"])
    assert list(layer.convolution_param.kernel_size) == [3]
    assert list(layer.convolution_param.stride) == [2, 1]
    assert [p.lr_mult for p in layer.param] == [1, 2]


def test_python_silence_and_parameterless_layers():
    n = caffe.NetSpec()
    n.a, n.b = L.Python(module="my", layer="Two", param_str="{}", ntop=2)
    n.quiet = L.Silence(n.b, ntop=0)
    assert n.to_proto() == parsed("""
        layer { name: "a" type: "Python" top: "a" top: "b"
          python_param { module: "my" layer: "Two" param_str: "{}" } }
        layer { name: "quiet" type: "Silence" bottom: "b" }
    """)


def test_a_spec_is_a_mapping_of_tops():
    n = caffe.NetSpec()
    n["x/y"] = L.Input(shape=dict(dim=[1]))
    n.update({"z": L.TanH(n["x/y"])})
    assert n.keys() == ["x/y", "z"]
    assert n.vals() == [n["x/y"], n.z]
    del n["z"]
    assert [layer.name for layer in n.to_proto().layer] == ["x/y"]
    n.w = n["x/y"]
    del n.w
    with pytest.raises(AttributeError, match='no top "x/z".*did you mean "x/y"'):
        getattr(n, "x/z")


def test_types_without_a_class_here_still_have_their_parameter():
    layer = caffe.to_proto(L.HDF5Output(L.Input(), file_name="f", ntop=0).inputs[0]).layer[0]
    assert layer.type == "Input"
    n = caffe.NetSpec()
    n.x = L.Input()
    n.out = L.HDF5Output(n.x, file_name="f.h5", ntop=0)
    assert n.to_proto().layer[1].hdf5_output_param.file_name == "f.h5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kernal_size=3), r'"c" \(Convolution\): unknown option "kernal_size".*"kernel_size"'),
        (dict(num_output="many"), "num_output='many'"),
        (dict(weight_filler=dict(typ="xavier")), 'no field "typ"'),
    ],
)
def test_wrong_options_are_named(options, message):
    n = caffe.NetSpec()
    n.x = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.c = L.Convolution(n.x, **options)
    with pytest.raises(SphereFaceError, match=message):
        n.to_proto()


def test_bottoms_must_be_tops():
    message = r"^ReLU input 0 is not a Top \(type is <class 'str'>\)$"
    with pytest.raises(TypeError, match=message) as caught:
        L.ReLU("data")
    assert isinstance(caught.value, SphereFaceError)


def test_pycaffes_classes_of_errors():
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": [1, 2]})
    for options, kind in (
        ({"num_output": "3"}, TypeError),
        ({"num_outputs": 3}, AttributeError),
        ({"weight_filler": {"typ": "xavier"}}, AttributeError),
        ({"num_output": -1}, ValueError),
    ):
        n.y = L.InnerProduct(n.x, **options)
        with pytest.raises(kind, match=r'layer "y" \(InnerProduct\)') as caught:
            n.to_proto()
        assert isinstance(caught.value, SphereFaceError)


def test_assign_proto():
    net = caffe_pb2.NetParameter()
    net_spec.assign_proto(net, "name", "n")
    net_spec.assign_proto(net, "layer", [{"name": "a", "loss_weight": 2}, {"name": "b"}])
    assert (net.name, [layer.name for layer in net.layer]) == ("n", ["a", "b"])
    assert list(net.layer[0].loss_weight) == [2]
    with pytest.raises(SphereFaceError, match='NetParameter has no field "nam"'):
        net_spec.assign_proto(net, "nam", "n")


def test_params_are_enums():
    assert (P.Pooling.MAX, P.Pooling.AVE, P.Eltwise.SUM) == (0, 1, 1)
    assert P.Data.LMDB == 1
    assert P.MarginInnerProduct.QUADRUPLE == 3
