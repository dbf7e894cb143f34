"""A net as boxes and arrows, before anything is drawn.

In the manner of netscope and Caffe's draw_net.py: a layer is a box that tells the shapes of its
tops. A layer that works in place is a stripe of the box of the layer that made its blob.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sphereface.caffe import Layer, Net
from sphereface.caffe.layer import Shape
from sphereface.caffe.outline import Outline
from sphereface.caffe.registry import is_shipped

__all__ = ["Arrow", "Box", "Diagram", "Stripe", "Top", "net_diagram"]

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
_ALONG_AXIS = ("Concat", "Slice", "Flatten", "Softmax", "ArgMax", "Reduction", "Tile")


@dataclass(frozen=True)
class Stripe:
    """One layer: its name, what it is (type and what distinguishes it), and its colour."""

    name: str
    kind: str
    colour: str


@dataclass(frozen=True)
class Top:
    """A blob that leaves a box; its name is empty where the box's first layer has the same."""

    slot: int
    name: str
    shape: str


@dataclass(frozen=True)
class Box:
    """A layer and those that work in place on its top."""

    stripes: tuple[Stripe, ...]
    tops: tuple[Top, ...]


@dataclass(frozen=True)
class Arrow:
    """A blob from the box that made it (`port` counts its tops) to one that reads it."""

    source: int
    port: int
    target: int


@dataclass(frozen=True)
class Diagram:
    """Boxes in the order of the file, and the arrows between them."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass
class _Group:
    """Layers that share a box, and the slots that leave it."""

    layers: list[Layer]
    slots: list[int]


def net_diagram(net: Net | Outline) -> Diagram:
    """Return the boxes and arrows of a net, with the shapes that it was built for, if any."""
    groups = _groups(net)
    shapes: Sequence[Shape | None] = net.infer_shapes({})
    boxes = tuple(
        Box(
            tuple(
                Stripe(layer.name, f"{layer.type} {_details(layer)}".strip(), _colour(layer))
                for layer in group.layers
            ),
            tuple(_top(net, group, slot, shapes[slot]) for slot in group.slots),
        )
        for group in groups
    )
    return Diagram(net.name or "unnamed net", boxes, tuple(_arrows(net, groups)))


def _groups(net: Net | Outline) -> list[_Group]:
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


def _top(net: Net | Outline, group: _Group, slot: int, shape: Iterable[int] | None) -> Top:
    name = net.graph.blob_names[slot]
    told = len(group.slots) == 1 and name in ("", group.layers[0].name)
    size = "?" if shape is None else _times(shape) or "scalar"
    return Top(slot, "" if told else name, size)


def _arrows(net: Net | Outline, groups: list[_Group]) -> Iterable[Arrow]:
    maker = {
        slot: (index, port)
        for index, group in enumerate(groups)
        for port, slot in enumerate(group.slots)
    }
    owner = {id(layer): index for index, group in enumerate(groups) for layer in group.layers}
    for node, layer in zip(net.graph.nodes, net.layers, strict=True):
        target = owner[id(layer)]
        for slot in node.bottoms:
            if slot in maker and maker[slot][0] != target:
                yield Arrow(*maker[slot], target)


def _colour(layer: Layer) -> str:
    if layer.is_input:
        return _GREY
    if layer.default_loss_weight or any(layer.loss_weight):
        return _PINK
    return _COLOURS.get(layer.type, _BLUE)


def _details(layer: Layer) -> str:
    """Return what distinguishes a layer from others of its type."""
    options = layer.options
    if not is_shipped(layer.type, type(layer)):
        return ""
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
