"""A net as a picture: layers as boxes, blobs and their shapes on the arrows between them.

In the manner of netscope and Caffe's draw_net.py, but with a layout of its own, so that no Graphviz
is needed. A layer that works in place is a stripe of the box of the layer that made its blob.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sphereface.caffe import Layer, Net
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path
from sphereface.inspection.layout import Point, arrange
from sphereface.inspection.picture import STEM, Box, Label, Picture, Stripe, write_png, write_svg

__all__ = ["draw", "net_picture"]

_RED, _ORANGE, _VIOLET, _GREEN = "#f4a6a0", "#f8cf8b", "#d9b3ec", "#b5dfa6"
_TEAL, _GREY, _PINK, _BLUE = "#a5dcd6", "#dcdcdc", "#f7b7d2", "#b3cdf0"
_COLOURS = {
    **dict.fromkeys(
        ("Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise"), _RED
    ),
    **dict.fromkeys(("Pooling", "SPP", "Im2col"), _ORANGE),
    **dict.fromkeys(
        ("InnerProduct", "MarginInnerProduct", "LargeMarginInnerProduct", "InnerDistance",
         "Embed", "LSTM", "RNN"), _VIOLET
    ),
    **dict.fromkeys(
        ("PReLU", "ReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "BNLL", "Power", "Exp", "Log",
         "Threshold", "Swish", "Clip", "Dropout", "Softmax"), _GREEN
    ),
    **dict.fromkeys(("BatchNorm", "BN", "Scale", "Bias", "LRN", "MVN", "Normalize"), _TEAL),
}  # fmt: skip

_TITLE, _FONT, _SMALL = 15.0, 12.0, 10.5
_PADDING, _MARGIN, _GAP = 10.0, 20.0, 50.0
_LINE, _STRIPE = 15.0, 18.0
_GLYPH = 0.62  # width of a character, of the font's size


@dataclass
class _Group:
    """Layers that share a box: the first one and those that work in place on its top."""

    layers: list[Layer]
    slots: list[int]


def draw(net: Net, path: str | os.PathLike[str]) -> None:
    """Write a picture of a net, atomically.

    Parameters
    ----------
    net : Net
        The net, with shapes for the input sizes that it was built for.
    path : path-like
        ``.svg``, or ``.png`` (needs matplotlib).

    Raises
    ------
    SphereFaceError
        Another suffix, or matplotlib is missing.
    """
    writers: dict[str, Callable[[Picture, Path], None]] = {".svg": write_svg, ".png": write_png}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise SphereFaceError(
            f'no pictures of type "{suffix}"', where=os.fspath(path), expected=".svg or .png"
        )
    picture = net_picture(net)
    with atomic_path(path) as temporary:
        writers[suffix](picture, temporary)


def net_picture(net: Net) -> Picture:
    """Return the boxes, arrows and labels of a net, in pixels."""
    groups = _groups(net)
    maker = {slot: index for index, group in enumerate(groups) for slot in group.slots}
    outputs = [slot for slot in net.graph.outputs.values() if slot in maker]
    boxes = [_box(group) for group in groups]
    boxes += [_output_box(net, slot) for slot in outputs]
    edges, slots = _edges(net, groups, maker)
    for index, slot in enumerate(outputs):
        edges.append((maker[slot], len(groups) + index))
        slots.append(slot)
    layout = arrange([(box.width, box.height) for box in boxes], edges, gap=_GAP)
    labels = _labels(net, [groups[source] for source, _ in edges], slots, layout.routes)
    # Labels may reach beyond the boxes.
    extents = [_extent(label) for label in labels]
    left = _MARGIN - min([0.0, *(start for start, _ in extents)])
    top = _MARGIN + 2 * _TITLE
    for box, (x, y) in zip(boxes, layout.boxes, strict=True):
        box.x, box.y = x + left, y + top
    routes = [[(x + left, y + top) for x, y in route] for route in layout.routes]
    labels = [replace(label, x=label.x + left, y=label.y + top) for label in labels]
    title = Label(left, _MARGIN + _TITLE, net.name or "unnamed net", _TITLE, "start", bold=True)
    ends = [layout.width, _width(title.text, _TITLE), *(end for _, end in extents)]
    height = top + layout.height + _MARGIN
    return Picture(left + max(ends) + _MARGIN, height, boxes, routes, [title, *labels])


def _groups(net: Net) -> list[_Group]:
    readers: dict[int, int] = {}
    for node in net.graph.nodes:
        for slot in node.bottoms:
            readers[slot] = readers.get(slot, 0) + 1
    names = net.graph.blob_names
    groups: list[_Group] = []
    current: dict[int, _Group] = {}  # slot that an in-place layer may still take over
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        group = current.get(node.bottoms[0]) if len(node.bottoms) == len(node.tops) == 1 else None
        in_place = group is not None and names[node.bottoms[0]] == names[node.tops[0]]
        if group is None or not in_place or readers[node.bottoms[0]] > 1:
            group = _Group([], [])
            groups.append(group)
        else:
            group.slots.remove(node.bottoms[0])
        group.layers.append(layer)
        group.slots.extend(node.tops)
        current.update(dict.fromkeys(node.tops, group))
    return groups


def _edges(
    net: Net, groups: list[_Group], maker: dict[int, int]
) -> tuple[list[tuple[int, int]], list[int]]:
    owner = {id(layer): index for index, group in enumerate(groups) for layer in group.layers}
    edges, slots = [], []
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        target = owner[id(layer)]
        for slot in node.bottoms:
            if slot in maker and maker[slot] != target:
                edges.append((maker[slot], target))
                slots.append(slot)
    return edges, slots


def _labels(
    net: Net, sources: Sequence[_Group], slots: Sequence[int], routes: Sequence[list[Point]]
) -> list[Label]:
    """Return one label a blob: at the arrow that goes farthest to a side."""
    shapes = net.infer_shapes({})
    chosen: dict[int, int] = {}
    for index, (slot, route) in enumerate(zip(slots, routes, strict=True)):
        known = routes[chosen.setdefault(slot, index)]
        if abs(route[1][0] - route[0][0]) > abs(known[1][0] - known[0][0]):
            chosen[slot] = index
    labels = []
    for slot, index in chosen.items():
        name, text = net.graph.blob_names[slot], _times(shapes[slot]) or "scalar"
        if name != sources[index].layers[0].name:
            text = f"{name} {text}"
        labels.append(_label(routes[index], text, alone=len(sources[index].slots) == 1))
    return labels


def _label(route: Sequence[Point], text: str, alone: bool) -> Label:
    """Place a label beside the stem of the arrow, or where arrows of several blobs are apart."""
    (start, y), (end, lower) = route[:2]
    if alone:
        return Label(start - 6, y + STEM - 4, text, _SMALL, "end")
    if end > start + 1:
        return Label(end + 6, lower - 10, text, _SMALL, "start")
    return Label(end - 6, lower - 10, text, _SMALL, "end")


def _extent(label: Label) -> tuple[float, float]:
    width = _width(label.text, label.size)
    return (label.x, label.x + width) if label.anchor == "start" else (label.x - width, label.x)


def _box(group: _Group) -> Box:
    stripes = []
    for index, layer in enumerate(group.layers):
        kind = f"{layer.type} {_details(layer)}".strip()
        lines = (layer.name, kind) if index == 0 else (f"{layer.name}  {kind}",)
        height = 2 * _LINE + _PADDING if index == 0 else _STRIPE
        stripes.append(Stripe(height, _colour(layer), lines))
    width = max(
        _width(line, _FONT if place == 0 and stripe is stripes[0] else _SMALL)
        for stripe in stripes
        for place, line in enumerate(stripe.lines)
    )
    return Box(width + 2 * _PADDING, stripes)


def _output_box(net: Net, slot: int) -> Box:
    name = net.graph.blob_names[slot]
    return Box(_width(name, _FONT) + 2 * _PADDING, [Stripe(_LINE + _PADDING, "none", (name,))])


def _colour(layer: Layer) -> str:
    if layer.is_input:
        return _GREY
    if layer.default_loss_weight or any(layer.loss_weight):
        return _PINK
    return _COLOURS.get(layer.type, _BLUE)


def _details(layer: Layer) -> str:
    """Return what distinguishes a layer from others of its type."""
    options = layer.options
    if layer.type in ("Pooling", "Eltwise"):
        field = {"Pooling": "pool", "Eltwise": "operation"}[layer.type]
        number = getattr(options, field)
        method = options.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[number].name
        return f"{method} {_window(layer)}".strip()
    if hasattr(layer, "kernel"):
        return _window(layer)
    if hasattr(layer, "margin"):
        return f"m={layer.margin:g} → {options.num_output}"
    if options is not None and "num_output" in options.DESCRIPTOR.fields_by_name:
        return f"→ {options.num_output}"
    for field in ("dropout_ratio", "local_size", "axis"):
        if options is not None and field in options.DESCRIPTOR.fields_by_name:
            value = getattr(options, field)
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            return f"{field} {shown}" if field != "axis" or layer.type in _ALONG_AXIS else ""
    return ""


_ALONG_AXIS = ("Concat", "Slice", "Flatten", "Softmax", "ArgMax", "Reduction", "Tile")


def _window(layer: Layer) -> str:
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return "global" if getattr(layer, "global_pooling", False) else ""
    words = [_times(kernel)]
    for name, usual in (("stride", 1), ("pad", 0), ("dilation", 1)):
        values = tuple(getattr(layer, name, ()))
        if any(value != usual for value in values):
            words.append(f"{name} {_times(values) if len(set(values)) > 1 else values[0]}")
    if getattr(layer, "group", 1) > 1:
        words.append(f"group {layer.group}")
    if hasattr(layer, "num_output"):
        words.append(f"→ {layer.num_output}")
    return " ".join(words)


def _times(values: Iterable[int]) -> str:
    return "×".join(map(str, values))


def _width(text: str, size: float) -> float:
    return _GLYPH * size * len(text)
