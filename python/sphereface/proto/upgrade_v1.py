"""Nets of 2014: ``layers { name: "conv1" type: CONVOLUTION blobs_lr: 1 weight_decay: 1 ... }``.

Source: Caffe's UpgradeNetDataTransformation and UpgradeV1Net. Differs: `layer` beside `layers` is
an error, where Caffe logs it and drops the `layer` ones.
"""

from __future__ import annotations

from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.proto import schema

__all__ = ["V1_TYPES", "has_old_transform", "is_v1", "move_transform", "old_crops", "upgrade_v1"]

#: V1 type number -> today's type.
V1_TYPES = {
    0: "",
    1: "Accuracy",
    2: "BNLL",
    3: "Concat",
    4: "Convolution",
    5: "Data",
    6: "Dropout",
    7: "EuclideanLoss",
    8: "Flatten",
    9: "HDF5Data",
    10: "HDF5Output",
    11: "Im2col",
    12: "ImageData",
    13: "InfogainLoss",
    14: "InnerProduct",
    15: "LRN",
    16: "MultinomialLogisticLoss",
    17: "Pooling",
    18: "ReLU",
    19: "Sigmoid",
    20: "Softmax",
    21: "SoftmaxWithLoss",
    22: "Split",
    23: "TanH",
    24: "WindowData",
    25: "Eltwise",
    26: "Power",
    27: "SigmoidCrossEntropyLoss",
    28: "HingeLoss",
    29: "MemoryData",
    30: "ArgMax",
    31: "Threshold",
    32: "DummyData",
    33: "Slice",
    34: "MVN",
    35: "AbsVal",
    36: "Silence",
    37: "ContrastiveLoss",
    38: "Exp",
    39: "Deconvolution",
    # Of forks, with private numbers.
    10001: "BN",
    10002: "Crop",
    10003: "DenseImageData",
    10004: "ImageSegData",
    10005: "PReLU",
    10006: "Upsample",
    10007: "Convolution3D",
    10008: "Pooling3D",
    10009: "VideoData",
    10010: "ROIPooling",
    10011: "SmoothL1Loss",
    10012: "Interp",
    10013: "SegAccuracy",
    10014: "MatRead",
    10015: "MatWrite",
    10016: "DenseCRF",
}

_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")
_DATA_PARAMS = {5: "data_param", 12: "image_data_param", 24: "window_data_param"}
_REPEATED = ("bottom", "top", "include", "exclude", "blobs", "loss_weight")
# Field of V1LayerParameter -> field of ParamSpec, one entry a blob.
_PARAM_SPEC = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def _old_transform(layer: Any) -> tuple[Any, list[str]]:
    name = _DATA_PARAMS.get(layer.type)
    if name is None or not layer.HasField(name):
        return None, []
    data = getattr(layer, name)
    return data, [field for field in _TRANSFORM if data.HasField(field)]


def has_old_transform(net: Any) -> bool:
    """Tell whether a V1 data layer keeps scale, mean_file, crop_size or mirror in its own param."""
    return any(_old_transform(layer)[1] for layer in net.layers)


def move_transform(net: Any) -> None:
    """Move those fields to transform_param, in place.

    As in Caffe this is done for V1 layers only: in a ``layer { data_param { scale: } }`` of today
    the field has no effect.
    """
    for layer in net.layers:
        data, fields = _old_transform(layer)
        for field in fields:
            setattr(layer.transform_param, field, getattr(data, field))
            data.ClearField(field)


def is_v1(net: Any) -> bool:
    """Tell whether the NetParameter `net` has ``layers``."""
    return len(net.layers) > 0


def old_crops(net: Any) -> list[int]:
    """Return the indices of V1 Crops without offset, which their forks aligned by coordinates."""
    return [
        index
        for index, layer in enumerate(net.layers)
        if V1_TYPES[layer.type] == "Crop" and not layer.crop_param.offset
    ]


def upgrade_v1(net: Any) -> None:
    """Turn ``layers`` into ``layer``, in place; their order stays.

    Raises
    ------
    SphereFaceError
        The net has both.
    """
    if net.layer:
        raise SphereFaceError(
            f'"layers" ({len(net.layers)}) and "layer" ({len(net.layer)}) in one net',
            where=f'net "{net.name}"',
            expected="one of the two forms",
        )
    net.layer.extend(_upgrade_layer(layer) for layer in net.layers)
    net.ClearField("layers")


def _upgrade_layer(old: Any) -> Any:
    new = schema.message("LayerParameter")()
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = V1_TYPES[value]
        elif field.name == "name":
            new.name = value
        elif field.name in _REPEATED:
            getattr(new, field.name).extend(value)
        elif field.name in _PARAM_SPEC:
            for index, one in enumerate(value):
                while len(new.param) <= index:
                    new.param.add()
                setattr(new.param[index], _PARAM_SPEC[field.name], one)
        else:  # the *_param messages have the same names in both forms
            getattr(new, field.name).CopyFrom(value)
    return new
