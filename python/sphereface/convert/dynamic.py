"""Which axes of a net's blobs may change: the batch, and if wanted image height and width.

Found by inferring shapes for other input sizes, so it holds for any layer; one that fixes the size
(InnerProduct) names itself in its own error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeAlias

from sphereface.caffe import Net
from sphereface.caffe.layer import Shape
from sphereface.errors import SphereFaceError

__all__ = ["DynamicShape", "dynamic_shapes"]

DynamicShape: TypeAlias = tuple[int | None, ...]
"""Sizes of a blob, None where they may change."""


def dynamic_shapes(net: Net, images: bool = False) -> list[DynamicShape]:
    """Return the shape of every slot of `net.graph`, None where other inputs change it.

    Parameters
    ----------
    net : Net
        Axis 0 of its inputs is the batch. A net that works at one batch size only keeps it.
    images : bool
        Let the axes from 2 on of the inputs change too.

    Raises
    ------
    SphereFaceError
        With `images`, a layer cannot take other sizes.
    """
    base = net.infer_shapes({})
    probes = [base]
    # A Reshape with the batch size written out, for example, refuses another one, and a Slice into
    # equal parts takes multiples only.
    for change in (_one_more, _twice):
        with contextlib.suppress(SphereFaceError):
            probes.append(_probe(net, base, change))
            break
    if images:
        # So much larger that no rounding of a stride hides it.
        probes.append(_probe(net, base, lambda axis, size: size if axis < 2 else 2 * size + 37))
    return [
        tuple(size[0] if len(set(size)) == 1 else None for size in zip(*shapes, strict=True))
        for shapes in zip(*probes, strict=True)
    ]


def _one_more(axis: int, size: int) -> int:
    return size + (axis == 0)


def _twice(axis: int, size: int) -> int:
    return size * (1 + (axis == 0))


def _probe(net: Net, base: list[Shape], change: Callable[[int, int], int]) -> list[Shape]:
    given = {
        name: tuple(change(axis, size) for axis, size in enumerate(base[slot]))
        for name, slot in net.graph.inputs.items()
    }
    return net.infer_shapes(given)
