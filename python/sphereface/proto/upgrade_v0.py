"""Nets of 2013: ``layers { layer { name: "conv1" type: "conv" kernelsize: 11 } bottom: ... }``.

Source: Caffe's UpgradeV0Net. Its result is a V1 net, which `upgrade_v1` takes further. As in Caffe
a value that the layer's type has no place for is dropped and reported. Differs: a V1 layer among
V0 ones is an error, where Caffe goes on with its type and parameters lost.
"""

from __future__ import annotations

from typing import Any

from sphereface.errors import SphereFaceError, nearest
from sphereface.proto import schema

__all__ = ["is_v0", "upgrade_v0"]

_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

# V0 field -> {V0 type: (parameter message, field)}; the type "*" is every type.
_CONV, _POOL, _IP, _LRN = "convolution_param", "pooling_param", "inner_product_param", "lrn_param"
_DATA, _IMAGES, _WINDOW = "data_param", "image_data_param", "window_data_param"
_FIELDS: dict[str, dict[str, tuple[str, str]]] = {
    "num_output": {"conv": (_CONV, "num_output"), "innerproduct": (_IP, "num_output")},
    "biasterm": {"conv": (_CONV, "bias_term"), "innerproduct": (_IP, "bias_term")},
    "weight_filler": {"conv": (_CONV, "weight_filler"), "innerproduct": (_IP, "weight_filler")},
    "bias_filler": {"conv": (_CONV, "bias_filler"), "innerproduct": (_IP, "bias_filler")},
    "pad": {"conv": (_CONV, "pad"), "pool": (_POOL, "pad")},
    "kernelsize": {"conv": (_CONV, "kernel_size"), "pool": (_POOL, "kernel_size")},
    "group": {"conv": (_CONV, "group")},
    "stride": {"conv": (_CONV, "stride"), "pool": (_POOL, "stride")},
    "pool": {"pool": (_POOL, "pool")},
    "dropout_ratio": {"dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"lrn": (_LRN, "local_size")},
    "alpha": {"lrn": (_LRN, "alpha")},
    "beta": {"lrn": (_LRN, "beta")},
    "k": {"lrn": (_LRN, "k")},
    "source": {
        "data": (_DATA, "source"),
        "hdf5_data": ("hdf5_data_param", "source"),
        "images": (_IMAGES, "source"),
        "window_data": (_WINDOW, "source"),
        "infogain_loss": ("infogain_loss_param", "source"),
    },
    "scale": {"*": ("transform_param", "scale")},
    "meanfile": {"*": ("transform_param", "mean_file")},
    "cropsize": {"*": ("transform_param", "crop_size")},
    "mirror": {"*": ("transform_param", "mirror")},
    "batchsize": {
        "data": (_DATA, "batch_size"),
        "hdf5_data": ("hdf5_data_param", "batch_size"),
        "images": (_IMAGES, "batch_size"),
        "window_data": (_WINDOW, "batch_size"),
    },
    "rand_skip": {"data": (_DATA, "rand_skip"), "images": (_IMAGES, "rand_skip")},
    "shuffle_images": {"images": (_IMAGES, "shuffle")},
    "new_height": {"images": (_IMAGES, "new_height")},
    "new_width": {"images": (_IMAGES, "new_width")},
    "concat_dim": {"concat": ("concat_param", "concat_dim")},
    "det_fg_threshold": {"window_data": (_WINDOW, "fg_threshold")},
    "det_bg_threshold": {"window_data": (_WINDOW, "bg_threshold")},
    "det_fg_fraction": {"window_data": (_WINDOW, "fg_fraction")},
    "det_context_pad": {"window_data": (_WINDOW, "context_pad")},
    "det_crop_mode": {"window_data": (_WINDOW, "crop_mode")},
}


def is_v0(net: Any) -> bool:
    """Tell whether any layer of the NetParameter `net` is in the V0 form."""
    return any(connection.HasField("layer") for connection in net.layers)


def upgrade_v0(net: Any) -> tuple[list[int], list[str]]:
    """Turn the V0 layers of `net` into V1 layers, in place.

    Returns
    -------
    origin : list of int
        For each V1 layer, the index of the V0 layer that it was. Padding layers are gone: their
        pad is in the convolution or pooling that read them.
    dropped : list of str
        Values that had no place, in words.

    Raises
    ------
    SphereFaceError
        An unknown layer type, a blob that nothing makes, a V1 layer, or a padding layer before
        anything but convolution and pooling.
    """
    merged = _merge_padding(net)
    dropped: list[str] = []
    layers = [_upgrade_layer(connection, dropped) for _, connection in merged]
    del net.layers[:]
    net.layers.extend(layers)
    return [index for index, _ in merged], dropped


def _merge_padding(net: Any) -> list[tuple[int, Any]]:
    """Return (index, layer) of all but the padding layers, which are merged into their readers."""
    maker = dict.fromkeys(net.input)
    kept = []
    for index, original in enumerate(net.layers):
        connection = type(original)()
        connection.CopyFrom(original)
        if not connection.HasField("layer"):
            raise SphereFaceError(
                "a V1 layer in a net of V0 layers",
                where=f'layer "{connection.name}"',
                expected="layers { layer { } }",
            )
        layer = connection.layer
        for position, bottom in enumerate(connection.bottom):
            if bottom not in maker:
                raise SphereFaceError(
                    f'bottom "{bottom}" is made by no layer before it',
                    where=_where(layer),
                    fix=nearest(bottom, maker),
                )
            padding = maker[bottom]
            if padding is None or padding.layer.type != "padding":
                continue
            if layer.type not in ("conv", "pool"):
                raise SphereFaceError(
                    f'bottom "{bottom}" is padded',
                    where=_where(layer),
                    expected="padding only before conv and pool",
                )
            counts = len(connection.bottom), len(padding.bottom), len(padding.top)
            if counts != (1, 1, 1):
                raise SphereFaceError(
                    f"padded by {padding.layer.name}, with several bottoms or tops",
                    where=_where(layer),
                    expected="one bottom and one top in both",
                )
            layer.pad = padding.layer.pad
            connection.bottom[position] = padding.bottom[0]
        maker.update(dict.fromkeys(connection.top, connection))
        if layer.type != "padding":
            kept.append((index, connection))
    return kept


def _upgrade_layer(connection: Any, dropped: list[str]) -> Any:
    result = schema.message("V1LayerParameter")(bottom=connection.bottom, top=connection.top)
    layer = connection.layer
    for field, value in layer.ListFields():
        if field.name == "name":
            result.name = value
        elif field.name == "type":
            result.type = _type_number(layer)
        elif field.name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(result, field.name).extend(value)
        elif field.name == "hdf5_output_param" and layer.type == "hdf5_output":
            result.hdf5_output_param.CopyFrom(value)
        else:
            places = _FIELDS.get(field.name, {})
            place = places.get("*") or places.get(layer.type)
            if place is None:
                dropped.append(f'{_where(layer)}: "{field.name}" dropped, the type has no such one')
            else:
                _set(getattr(result, place[0]), place[1], value)
    return result


def _set(message: Any, name: str, value: Any) -> None:
    target = getattr(message, name)
    if hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    elif hasattr(target, "append"):
        target.append(value)
    else:
        setattr(message, name, value)


def _type_number(layer: Any) -> int:
    if layer.type not in _TYPES:
        raise SphereFaceError(
            f'unknown old layer type "{layer.type}"',
            where=_where(layer),
            fix=nearest(layer.type, _TYPES),
        )
    return schema.enum_values("V1LayerParameter.LayerType")[_TYPES[layer.type]]


def _where(layer: Any) -> str:
    return f'layer "{layer.name}" ({layer.type})'
