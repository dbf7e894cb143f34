"""Where a Crop without offset starts: at 0, or where its blobs lie in each other.

Source: BVLC's crop_layer.cpp starts at 0. The Crop of older forks (Long, Shelhamer and Darrell's
for FCN, on which HED's is built) had no parameters, and aligned its blobs by the windows of the
layers between them, as BVLC's python/caffe/coord_map.py does (Shelhamer et al.). What differs:
fractions are used until the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

__all__ = ["KEEPS_POSITIONS", "crop_offset", "place_crops", "tell_of_crops", "window_centre"]

#: Layers that leave every value where it is.
KEEPS_POSITIONS = frozenset(
    ("AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "LRN",
     "Log", "MVN", "PReLU", "Power", "ReLU", "Scale", "Sigmoid", "Split", "Swish", "TanH",
     "Threshold")
)  # fmt: skip
_WINDOWS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "Pooling": "pooling_param",
}
_SHOWN = 3


def window_centre(kernel: Any, pad: Any, dilation: Any) -> Any:
    """Return where the centre of the first window lies."""
    return (kernel - 1) * dilation / 2 - pad


class _Line(NamedTuple):
    """``scale x + shift``, along one axis."""

    scale: Fraction
    shift: Fraction

    def after(self, inner: _Line) -> _Line:
        return _Line(self.scale * inner.scale, self.scale * inner.shift + self.shift)

    def inverse(self) -> _Line:
        return _Line(1 / self.scale, -self.shift / self.scale)


_Lines = tuple[_Line, _Line]
_Place = tuple[int, str]  # index of the layer that makes a blob (-1: an input), and the blob


def crop_offset(layers: Sequence[Any], index: int) -> tuple[int, int] | None:
    """Return the offsets by which the layer `index`, a Crop, aligns its two bottoms.

    Returns
    -------
    tuple of int, or None
        None if the bottoms have no common blob by layers that keep positions, or do not fit.
    """
    crop = layers[index]
    if len(crop.bottom) != 2 or crop.crop_param.axis != 2:
        return None
    ours, theirs = (dict(_ancestors(layers, name, index)) for name in crop.bottom)
    for place, there in theirs.items():
        if place in ours:
            lines = [a.after(b.inverse()) for a, b in zip(there, ours[place], strict=True)]
            fits = all(x.scale == 1 and x.shift <= 0 and x.shift.denominator == 1 for x in lines)
            return (int(-lines[0].shift), int(-lines[1].shift)) if fits else None
    return None


def place_crops(net: Any, indices: Sequence[int]) -> None:
    """Give the Crops at `indices` of ``net.layer`` the offsets that align their bottoms."""
    for index in indices:
        offset = crop_offset(net.layer, index)
        if offset is not None:
            net.layer[index].crop_param.offset.extend(offset)


def tell_of_crops(net: Any, source: str) -> None:
    """Warn, once, of Crops without offset whose bottoms would be aligned by another than 0."""
    found = []
    for index, layer in enumerate(net.layer):
        if layer.type == "Crop" and not layer.HasField("crop_param"):
            offset = crop_offset(net.layer, index)
            if offset is not None and any(offset):
                found.append(f'"{layer.name}" by {" and ".join(map(str, dict.fromkeys(offset)))}')
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        text = (
            f"{source}: a Crop without crop_param starts at 0, as in BVLC's Caffe; older forks "
            f"(FCN's, HED's) align {', '.join(found[:_SHOWN])}{more}: give crop_param {{ offset }} "
            "if the file is theirs"
        )
        warnings.warn(text, stacklevel=2)


def _ancestors(layers: Sequence[Any], blob: str, before: int) -> Iterator[tuple[_Place, _Lines]]:
    """Yield the blobs that lead to `blob`, nearest first, and how they map to it."""
    line = _Line(Fraction(1), Fraction(0))
    waiting: list[tuple[_Place, _Lines]] = [(_made(layers, blob, before), (line, line))]
    seen = set()
    while waiting:
        place, lines = waiting.pop(0)
        if place in seen:
            continue
        seen.add(place)
        yield place, lines
        if place[0] < 0 or (step := _step(layers[place[0]])) is None:
            continue
        layer = layers[place[0]]
        for bottom in layer.bottom[: 1 if layer.type == "Crop" else None]:
            through = (lines[0].after(step[0]), lines[1].after(step[1]))
            waiting.append((_made(layers, bottom, place[0]), through))


def _made(layers: Sequence[Any], blob: str, before: int) -> _Place:
    return next((i for i in range(before - 1, -1, -1) if blob in layers[i].top), -1), blob


def _step(layer: Any) -> _Lines | None:
    """Return how a layer maps its bottom's coordinates to its top's; None if it mixes them."""
    if layer.type in KEEPS_POSITIONS:
        return (_Line(Fraction(1), Fraction(0)),) * 2
    if layer.type == "Crop":
        offset = [*layer.crop_param.offset, 0, 0] if layer.crop_param.axis == 2 else None
        if offset is None:
            return None
        row, column = (offset[0], offset[0]) if len(offset) == 3 else offset[:2]
        return _Line(Fraction(1), Fraction(-row)), _Line(Fraction(1), Fraction(-column))
    if layer.type not in _WINDOWS:
        return None
    options = getattr(layer, _WINDOWS[layer.type])
    kernel = _sides(options, "kernel", "kernel_size", 0)
    if min(kernel) < 1 or getattr(options, "global_pooling", False):
        return None
    stride, pad = _sides(options, "stride", "stride", 1), _sides(options, "pad", "pad", 0)
    dilation = _sides(options, "hole", "dilation", 1)
    lines = []
    for side in (0, 1):
        centre = window_centre(Fraction(kernel[side]), pad[side], dilation[side])
        scale = Fraction(stride[side])
        if layer.type == "Deconvolution":
            lines.append(_Line(scale, centre))
        else:
            lines.append(_Line(1 / scale, -centre / scale))
    return lines[0], lines[1]


def _sides(options: Any, stem: str, name: str, default: int) -> tuple[int, int]:
    """Return an option for rows and for columns: given for both, for each, or not at all."""
    fields = options.DESCRIPTOR.fields_by_name
    if f"{stem}_h" in fields and options.HasField(f"{stem}_h"):
        return getattr(options, f"{stem}_h"), getattr(options, f"{stem}_w")
    if name not in fields:
        return default, default
    value = getattr(options, name)
    if isinstance(value, int):  # Pooling's
        return (value, value) if options.HasField(name) else (default, default)
    return (value[0], value[-1]) if len(value) else (default, default)
