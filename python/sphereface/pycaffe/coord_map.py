"""``caffe.coord_map``: where a position of one blob lies in another, and the Crop that aligns them.

Source: python/caffe/coord_map.py (Shelhamer et al., for fully convolutional nets). A layer maps a
spatial coordinate x of its bottom to ``scale * x + shift`` of its top; centres of windows are what
is mapped. What differs: the numbers are fractions until the end, so that strides such as 3 cancel
exactly; ``kernel_h`` and its kin are read; an error tells the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.proto.crop_offsets import KEEPS_POSITIONS, window_centre
from sphereface.pycaffe.net_spec import Function, Top, layers

__all__ = ["CropError", "UnconnectedError", "coord_map_from_to", "crop"]


class UnconnectedError(SphereFaceError, RuntimeError):
    """Two blobs have no common ancestor by layers that keep positions."""


class CropError(SphereFaceError, AssertionError):
    """A Crop cannot align two blobs."""


class _Map(NamedTuple):
    """``scale * x + shift``, a number a spatial axis; `axis` is the one before the spatial axes."""

    axis: int | None
    scale: Any
    shift: Any

    def after(self, inner: _Map) -> _Map:
        """Return the map that does `inner` first."""
        if None not in (self.axis, inner.axis) and self.axis != inner.axis:
            raise UnconnectedError(
                f"layers with spatial axes after axis {self.axis} and after axis {inner.axis}",
                expected="one axis",
            )
        axis = inner.axis if self.axis is None else self.axis
        return _Map(axis, self.scale * inner.scale, self.scale * inner.shift + self.shift)

    def inverse(self) -> _Map:
        return _Map(self.axis, 1 / self.scale, -self.shift / self.scale)


_IDENTITY = _Map(None, *(np.array([Fraction(n)], object) for n in (1, 0)))


def coord_map_from_to(
    top_from: Top, top_to: Top
) -> tuple[int | None, NDArray[np.float64], NDArray[np.float64]]:
    """Return where positions of one top lie in another.

    Parameters
    ----------
    top_from, top_to : Top
        Of `NetSpec` layers that come from a common blob.

    Returns
    -------
    axis : int or None
        The axis before the spatial ones; None if no layer between them has any.
    scale, shift : ndarray
        x of `top_from` is ``scale * x + shift`` of `top_to`; a number for each spatial axis, or one
        for all.

    Raises
    ------
    UnconnectedError
        A RuntimeError too: there is no common blob, or a layer that mixes positions is between.
    """
    ours, theirs = _maps(top_from), _maps(top_to)
    for top, there in theirs.items():
        if top in ours:
            axis, scale, shift = there.after(ours[top].inverse())
            return axis, scale.astype(float), shift.astype(float)
    raise UnconnectedError(
        "no blob leads to both tops by layers that keep positions",
        where=f"coord_map: {top_from!r} and {top_to!r}",
    )


def crop(top_from: Top, top_to: Top) -> Top:
    """Return the top of a Crop layer that cuts `top_from` to the size and position of `top_to`.

    Raises
    ------
    CropError
        An AssertionError too: the scales differ, or the offset is negative or no whole number.
    UnconnectedError
        As in `coord_map_from_to`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    offset = -shift
    for wrong, problem, expected in (
        ((scale != 1).any(), f"scale {scale.tolist()}", "1, blobs of the same stride"),
        ((offset < 0).any(), f"offset {offset.tolist()}", "0 or more: the blob is too small"),
        ((offset % 1 != 0).any(), f"offset {offset.tolist()}", "whole numbers"),
    ):
        if wrong:
            where = f"crop of {top_from!r} to {top_to!r}"
            raise CropError(problem, where=where, expected=expected)
    first = 2 if axis is None else axis + 1
    cut = layers.Crop(
        top_from, top_to, crop_param={"axis": first, "offset": offset.astype(int).tolist()}
    )
    assert isinstance(cut, Top)
    return cut


def _maps(top: Top) -> dict[Top, _Map]:
    """Return the map from each ancestor, nearest first, to `top`."""
    found = {top: _IDENTITY}
    waiting = [top]
    while waiting:
        above = waiting.pop(0)
        step = _layer_map(above.fn)
        if step is None:
            continue
        inputs = above.fn.inputs[:1] if above.fn.type_name == "Crop" else above.fn.inputs
        for bottom in inputs:
            if bottom not in found:
                found[bottom] = found[above].after(step)
                waiting.append(bottom)
    return found


def _layer_map(fn: Function) -> _Map | None:
    """Return how a layer maps its bottom's coordinates; None if it mixes them."""
    if fn.type_name in KEEPS_POSITIONS:
        return _IDENTITY
    if fn.type_name == "Crop":
        options = _options(fn, "crop_param")
        return _Map(options.get("axis", 2) - 1, Fraction(1), -_numbers(options.get("offset", 0)))
    if fn.type_name not in ("Convolution", "Deconvolution", "Im2col", "Pooling"):
        return None
    options = _options(fn, "pooling_param" if fn.type_name == "Pooling" else "convolution_param")
    if "kernel_size" not in options and "kernel_h" not in options:
        return None  # global pooling
    kernel, stride = _sizes(options, "kernel", "kernel_size"), _sizes(options, "stride", "stride")
    dilation = _numbers(options.get("dilation", 1))
    centre = window_centre(kernel, _sizes(options, "pad", "pad"), dilation)
    axis = options.get("axis", 1)
    if fn.type_name == "Deconvolution":
        return _Map(axis, stride, centre)
    return _Map(axis, 1 / stride, -centre / stride)


def _options(fn: Function, field: str) -> Mapping[str, Any]:
    given: Mapping[str, Any] = fn.params.get(field, fn.params)
    return given


def _sizes(options: Mapping[str, Any], stem: str, name: str) -> Any:
    if f"{stem}_h" in options:
        return _numbers([options[f"{stem}_h"], options[f"{stem}_w"]])
    return _numbers(options.get(name, 0 if stem == "pad" else 1))


def _numbers(value: Any) -> Any:
    return np.array([Fraction(int(n)) for n in np.ravel(value)], object)
