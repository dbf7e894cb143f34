"""The net that a trained net's definition is in deployment: without data, labels and losses.

Source: a caffemodel holds the layers of the net that was trained, as Net::ToProto wrote them: with
``phase: TRAIN``, the rules that let them in, and Caffe's Splits. What a person does who writes the
deploy prototxt by hand is done here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.state_rules import meets_rule

__all__ = ["deploy_net"]

#: Layers whose tops after the first are labels.
_LABELLED = ("Data", "ImageData", "MemoryData", "WindowData")
_IMAGE_PARAMS = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
}


def deploy_net(net: Any, shapes: Mapping[str, Sequence[int]] | None = None) -> Any:
    """Return the deploy net of a trained net's layers.

    Data layers become Input layers, of the shapes that they tell; losses, Accuracy, Silence,
    HDF5Output and whatever reads labels are dropped, Splits are taken out, phases and rules
    cleared, and statistics of a batch that BatchNorm was trained with become the stored ones.

    Parameters
    ----------
    net : NetParameter
        Today's form, see `upgrade_net`; it stays as it is.
    shapes : mapping of str to shape, optional
        Layer to the shape of its first blob, which tells the channels of images.

    Raises
    ------
    SphereFaceError
        Layers do not say what they read and write, or nothing but training layers is there.
    """
    where = f'net "{net.name}"'
    if not any(layer.top or layer.bottom for layer in net.layer):
        raise SphereFaceError(
            "its layers do not say what they read and write",
            where=where,
            expected="the layers' definitions, which Caffe writes beside the weights",
            fix="give its prototxt",
        )
    layers = _without_alternatives(_without_splits(net))
    labels = _labels(layers)
    kept = _kept(layers, labels)
    if not any(layer.bottom for layer in kept):
        raise SphereFaceError(
            "only data and training layers", where=where, expected="layers to deploy"
        )
    result = schema.message("NetParameter")(name=net.name)
    result.layer.extend(_inputs(kept, labels, shapes or {}))
    for layer in kept:
        if not _is_source(layer, kept):
            _settle(layer)
            result.layer.append(layer)
    return result


def _without_splits(net: Any) -> list[Any]:
    original: dict[str, str] = {}
    layers = []
    for layer in net.layer:
        if layer.type == "Split":
            source = original.get(layer.bottom[0], layer.bottom[0])
            original.update((top, source) for top in layer.top)
            continue
        copy = type(layer)()
        copy.CopyFrom(layer)
        for position, name in enumerate(copy.bottom):
            copy.bottom[position] = original.get(name, name)
        # What a layer writes, if only in place, is no longer the blob that was split.
        for name in copy.top:
            original.pop(name, None)
        layers.append(copy)
    return layers


def _without_alternatives(layers: list[Any]) -> list[Any]:
    """Drop a layer of TRAIN only where the file holds its counterpart of TEST too."""
    state = schema.message("NetState")(phase=schema.TEST)
    in_test = [
        any(meets_rule(state, rule) for rule in layer.include or layer.exclude)
        == bool(layer.include)
        for layer in layers
    ]
    made = {
        top
        for layer, kept in zip(layers, in_test, strict=True)
        if kept
        for top in layer.top
        if top not in layer.bottom
    }
    return [
        layer
        for layer, kept in zip(layers, in_test, strict=True)
        if kept or not made.intersection(set(layer.top).difference(layer.bottom))
    ]


def _is_training(layer: Any) -> bool:
    return layer.type.endswith("Loss") or layer.type in ("Accuracy", "HDF5Output", "Silence")


def _makes_data(layer: Any) -> bool:
    return not layer.bottom and layer.type != "Parameter"


def _is_source(layer: Any, layers: Sequence[Any]) -> bool:
    """Tell whether a layer makes what the caller will provide.

    DummyData is a constant of the net, unless nothing else feeds it.
    """
    if layer.type != "DummyData":
        return _makes_data(layer)
    return not any(_makes_data(other) and other.type != "DummyData" for other in layers)


def _labels(layers: Sequence[Any]) -> set[str]:
    sources = [layer for layer in layers if _makes_data(layer)]
    labels = {top for layer in sources if layer.type in _LABELLED for top in layer.top[1:]}
    made = {top for layer in sources for top in layer.top}
    for layer in layers:
        if layer.type.endswith("Loss") or layer.type == "Accuracy":
            labels.update(made.intersection(layer.bottom[1:]))
    # An autoencoder's loss compares with the image itself.
    return labels.difference(sources[0].top[:1] if sources else ())


def _kept(layers: Sequence[Any], labels: set[str]) -> list[Any]:
    """Return the layers that neither train nor read what only training has."""
    gone, kept = set(labels), []
    for layer in layers:
        if _is_training(layer) or gone.intersection(layer.bottom):
            gone.update(layer.top)
        elif not _makes_data(layer):
            gone.difference_update(layer.top)
            kept.append(layer)
        elif not gone.issuperset(layer.top):
            kept.append(layer)
    return kept


def _inputs(
    kept: Sequence[Any], labels: set[str], shapes: Mapping[str, Sequence[int]]
) -> list[Any]:
    """Return the Input layers of what the kept layers read and none of them makes."""
    made: set[str] = set()
    wanted: list[str] = []
    for layer in kept:
        if not _is_source(layer, kept):
            wanted += [name for name in layer.bottom if name not in made and name not in wanted]
            made.update(layer.top)
    inputs = []
    for layer in kept:
        if not _is_source(layer, kept):
            continue
        tops = [top for top in layer.top if top in wanted and top not in labels]
        if tops:
            new = schema.message("LayerParameter")(name=layer.name, type="Input", top=tops)
            _add_shapes(new, layer, _channels(tops[0], kept, shapes))
            inputs.append(new)
            wanted = [name for name in wanted if name not in tops]
    if wanted:
        names = {layer.name for layer in kept}
        name = "input" if "input" not in names else "input_of_" + "_".join(wanted)
        inputs.append(schema.message("LayerParameter")(name=name, type="Input", top=wanted))
    return inputs


def _add_shapes(new: Any, source: Any, channels: int) -> None:
    shapes = [_shape(source, list(source.top).index(top), channels) for top in new.top]
    if all(shapes):
        for shape in shapes:
            new.input_param.shape.add(dim=shape)


def _shape(source: Any, index: int, channels: int) -> list[int]:
    """Return the shape of one sample of a source's top, empty where the source does not tell."""
    if source.type == "Input":
        given = source.input_param.shape
        chosen = given[index if len(given) > 1 else 0].dim if given else []
        return list(chosen)
    if source.type == "DummyData":
        return _dummy_shape(source.dummy_data_param, index)
    transform = source.transform_param
    if source.type == "MemoryData":
        options = source.memory_data_param
        size = [transform.crop_size or options.height, transform.crop_size or options.width]
        return [1, options.channels, *size]
    if index or source.type not in _IMAGE_PARAMS:
        return []
    options = getattr(source, _IMAGE_PARAMS[source.type])
    if source.type == "ImageData":
        channels = 3 if options.is_color else 1
    crop = transform.crop_size or options.crop_size
    size = [crop, crop]
    if not crop and source.type == "ImageData":
        size = [options.new_height, options.new_width]
    return [1, channels, *size] if channels and all(size) else []


def _dummy_shape(options: Any, index: int) -> list[int]:
    if options.shape:
        return list(options.shape[index if len(options.shape) > 1 else 0].dim)
    sizes = [options.num, options.channels, options.height, options.width]
    return [values[index if len(values) > 1 else 0] for values in sizes if values]


def _channels(blob: str, layers: Sequence[Any], shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the channels that the first convolution of `blob` has kernels for, or 0."""
    for layer in layers:
        if layer.type == "Convolution" and blob in layer.bottom and layer.name in shapes:
            return math.prod(shapes[layer.name][1:2]) * max(layer.convolution_param.group, 1)
    return 0


def _settle(layer: Any) -> None:
    """Make the definition of a layer that was trained that of one in use."""
    for field in ("phase", "include", "exclude", "loss_weight", "propagate_down", "blobs"):
        layer.ClearField(field)
    # False means a batch's own statistics, also in a phase TEST; absent, the phase decides.
    if layer.type == "BatchNorm" and not layer.batch_norm_param.use_global_stats:
        layer.batch_norm_param.ClearField("use_global_stats")
