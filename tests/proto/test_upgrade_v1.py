"""Expectations are Caffe's V1 rules applied by hand."""

from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import schema, text
from sphereface.proto.upgrade import upgrade_net
from sphereface.proto.upgrade_v1 import V1_TYPES

TYPES = """
    NONE= ABSVAL=AbsVal ACCURACY=Accuracy ARGMAX=ArgMax BNLL=BNLL CONCAT=Concat
    CONTRASTIVE_LOSS=ContrastiveLoss CONVOLUTION=Convolution DATA=Data DECONVOLUTION=Deconvolution
    DROPOUT=Dropout DUMMY_DATA=DummyData EUCLIDEAN_LOSS=EuclideanLoss ELTWISE=Eltwise EXP=Exp
    FLATTEN=Flatten HDF5_DATA=HDF5Data HDF5_OUTPUT=HDF5Output HINGE_LOSS=HingeLoss IM2COL=Im2col
    IMAGE_DATA=ImageData INFOGAIN_LOSS=InfogainLoss INNER_PRODUCT=InnerProduct LRN=LRN
    MEMORY_DATA=MemoryData MULTINOMIAL_LOGISTIC_LOSS=MultinomialLogisticLoss MVN=MVN
    POOLING=Pooling POWER=Power RELU=ReLU SIGMOID=Sigmoid
    SIGMOID_CROSS_ENTROPY_LOSS=SigmoidCrossEntropyLoss SILENCE=Silence SOFTMAX=Softmax
    SOFTMAX_LOSS=SoftmaxWithLoss SPLIT=Split SLICE=Slice TANH=TanH WINDOW_DATA=WindowData
    THRESHOLD=Threshold
    BN=BN CROP=Crop DENSE_IMAGE_DATA=DenseImageData IMAGE_SEG_DATA=ImageSegData PRELU=PReLU
    UPSAMPLE=Upsample CONVOLUTION3D=Convolution3D POOLING3D=Pooling3D VIDEO_DATA=VideoData
    ROI_POOLING=ROIPooling SMOOTH_L1_LOSS=SmoothL1Loss INTERP=Interp SEG_ACCURACY=SegAccuracy
    MAT_READ=MatRead MAT_WRITE=MatWrite DENSE_CRF=DenseCRF
"""
NAMES = dict(pair.split("=") for pair in TYPES.split())


def test_table_covers_the_enum():
    values = schema.enum_values("V1LayerParameter.LayerType")
    assert set(values) == set(NAMES)
    assert {values[name]: new for name, new in NAMES.items()} == V1_TYPES


@pytest.mark.parametrize("old", NAMES)
def test_types(old):
    net = upgrade_net(text.read(f'layers {{ name: "x" type: {old} }}')).message
    assert net == text.read(f'layer {{ name: "x" type: "{NAMES[old]}" }}')


def test_lightcnn_style_net():
    old = text.read(
        """
        name: "DeepFace"
        input: "data" input_dim: 1 input_dim: 1 input_dim: 128 input_dim: 128
        layers {
          name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
          blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
          convolution_param { num_output: 96 kernel_size: 5 pad: 2 }
        }
        layers {
          name: "slice1" type: SLICE bottom: "conv1" top: "a" top: "b"
          slice_param { slice_dim: 1 }
        }
        layers {
          name: "max" type: ELTWISE bottom: "a" bottom: "b" top: "m"
          eltwise_param { operation: MAX }
        }
        """
    )
    upgraded = upgrade_net(old)
    assert upgraded.changes == ("V1 layers to layer", "input fields to an Input layer")
    assert upgraded.origin == (-1, 0, 1, 2)
    assert upgraded.message == text.read(
        """
        name: "DeepFace"
        layer {
          name: "input" type: "Input" top: "data"
          input_param { shape { dim: 1 dim: 1 dim: 128 dim: 128 } }
        }
        layer {
          name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
          param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
          convolution_param { num_output: 96 kernel_size: 5 pad: 2 }
        }
        layer {
          name: "slice1" type: "Slice" bottom: "conv1" top: "a" top: "b"
          slice_param { slice_dim: 1 }
        }
        layer {
          name: "max" type: "Eltwise" bottom: "a" bottom: "b" top: "m"
          eltwise_param { operation: MAX }
        }
        """
    )


def test_sharing_loss_weight_rules_and_blobs():
    old = text.read(
        """
        layers {
          name: "ip" type: INNER_PRODUCT
          param: "w" param: "b" blob_share_mode: PERMISSIVE blob_share_mode: STRICT blobs_lr: 3
          loss_weight: 0.5 loss_weight: 2
          include { phase: TRAIN } exclude { stage: "s" }
          blobs { data: 1 } loss_param { ignore_label: 1 }
        }
        """
    )
    assert upgrade_net(old).message == text.read(
        """
        layer {
          name: "ip" type: "InnerProduct"
          param { name: "w" share_mode: PERMISSIVE lr_mult: 3 }
          param { name: "b" share_mode: STRICT }
          loss_weight: 0.5 loss_weight: 2
          include { phase: TRAIN } exclude { stage: "s" }
          blobs { data: 1 } loss_param { ignore_label: 1 }
        }
        """
    )


def parameters(message):
    return {f.name for f in schema.message(message).DESCRIPTOR.fields if f.name.endswith("_param")}


@pytest.mark.parametrize("name", sorted(parameters("V1LayerParameter")))
def test_every_parameter_message_is_kept(name):
    old = schema.message("NetParameter")()
    layer = old.layers.add()
    target = getattr(layer, name)
    field = next(f for f in target.DESCRIPTOR.fields if f.message_type is None)
    value = {9: "text"}.get(field.type, 1)
    try:
        setattr(target, field.name, value)
    except (AttributeError, TypeError):  # a repeated field
        getattr(target, field.name).append(value)
    (new,) = upgrade_net(old).message.layer
    ((found, message),) = new.ListFields()
    assert (found.name, message) == (name, target)
    assert message.ByteSize() > 0


@pytest.mark.parametrize(
    ("kind", "param"),
    [
        ("DATA", "data_param"),
        ("IMAGE_DATA", "image_data_param"),
        ("WINDOW_DATA", "window_data_param"),
    ],
)
def test_old_transform_fields(kind, param):
    old = text.read(
        f'layers {{ type: {kind} {param} {{ source: "s" scale: 0.5 mean_file: "m" crop_size: 9 '
        "mirror: true } }"
    )
    upgraded = upgrade_net(old)
    assert upgraded.message == text.read(
        f'layer {{ type: "{NAMES[kind]}" {param} {{ source: "s" }} transform_param {{ scale: 0.5 '
        'mean_file: "m" crop_size: 9 mirror: true } }'
    )
    assert upgraded.changes == (
        "transformation fields of data layers to transform_param",
        "V1 layers to layer",
    )


def test_transform_fields_of_a_current_layer_stay_without_effect_as_in_caffe():
    net = text.read('layer { type: "Data" data_param { scale: 0.5 } }')
    upgraded = upgrade_net(net)
    assert upgraded.message == net
    assert upgraded.changes == ()


def test_transform_fields_of_another_type_stay():
    old = text.read("layers { type: RELU data_param { scale: 0.5 } }")
    assert upgrade_net(old).message == text.read('layer { type: "ReLU" data_param { scale: 0.5 } }')


def test_both_forms_in_one_net_is_an_error():
    net = text.read('name: "n" layer { name: "a" } layers { name: "b" }')
    with pytest.raises(SphereFaceError, match=r'net "n": "layers" \(1\) and "layer" \(1\) in one'):
        upgrade_net(net)
