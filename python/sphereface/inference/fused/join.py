"""Operations of a folded net that are run as one: what reads images, and what makes results.

A first convolution and the maximum pooling behind it, so that what is pooled never leaves the
cache; small products of one blob that are the net's results, each with the softmax behind it. Where
csrc/cpu/forward_program.h has no step for them, their parts are run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sphereface.caffe.layers.convolution import Convolution
from sphereface.caffe.layers.inner_product import InnerProduct
from sphereface.caffe.layers.pooling import Pooling
from sphereface.caffe.layers.softmax import Softmax
from sphereface.inference.fused.operation import Operation, is_hooked

__all__ = ["Head", "Heads", "Pooled", "is_planar", "joined"]

_PLANES, _PLANAR_STRIDE = 4, 2  # kPlanes, kPlanarStride
_MOST_TAPS = 16  # along an axis of a kernel or window
_HEADS, _HEAD_CHANNELS = 4, 16  # kHeads, kPanel


@dataclass(eq=False)
class Pooled(Operation):
    """A convolution of images, and the maximum pooling of what it gives."""


@dataclass(eq=False)
class Head:
    """A product, and the softmax behind it, if any."""

    product: Operation
    softmax: Operation | None

    @property
    def top(self) -> int:
        """The slot of the result."""
        return (self.softmax or self.product).tops[0]


@dataclass(eq=False)
class Heads(Operation):
    """Products of one blob; `tops` are theirs in order."""

    heads: tuple[Head, ...] = ()


def joined(
    operations: Sequence[Operation], images: Collection[int], kept: Collection[int]
) -> list[Operation]:
    """Return operations that do the same, some of which are `Pooled` or `Heads`.

    Parameters
    ----------
    operations : sequence of Operation
    images : collection of int
        Slots of the net's inputs.
    kept : collection of int
        Slots whose values are needed behind the operations.
    """
    readers = Counter(slot for operation in operations for slot in operation.bottoms)
    inner = {slot for slot, count in readers.items() if count == 1 and slot not in kept}
    result = _with_pooled(operations, images, inner)
    return _with_heads(result, inner, {slot for slot in kept if readers[slot] == 0})


def is_planar(operation: Operation, images: Collection[int]) -> bool:
    """Tell whether it is a convolution that can read its images as planes."""
    layer = operation.layer
    return (
        operation.product
        and isinstance(layer, Convolution)
        and operation.bottoms[0] in images
        and not operation.residual
        and layer.group == 1
        and len(layer.kernel) == 2
        and layer.channels <= _PLANES
        and layer.stride[1] <= _PLANAR_STRIDE
        and max(layer.kernel) <= _MOST_TAPS
    )


def _with_pooled(
    operations: Sequence[Operation], images: Collection[int], inner: Collection[int]
) -> list[Operation]:
    result: list[Operation] = []
    first = {o.tops[0]: o for o in operations if is_planar(o, images) and o.tops[0] in inner}
    for operation in operations:
        convolution = first.get(operation.bottoms[0]) if _is_maximum(operation) else None
        if convolution is not None:
            result.remove(convolution)
            names = [*convolution.names, *operation.names]
            operation = Pooled(None, False, convolution.bottoms, operation.tops, names,
                               parts=(convolution, operation))  # fmt: skip
        result.append(operation)
    return result


def _is_maximum(operation: Operation) -> bool:
    layer = operation.layer
    return (
        type(layer) is Pooling
        and not is_hooked(layer)
        and layer.method == "MAX"
        and layer.top_count == 1
        and layer.kernel is not None
        and len(layer.kernel) == 2
        and max(*layer.kernel, *layer.stride) <= _MOST_TAPS
    )


def _with_heads(
    operations: Sequence[Operation], inner: Collection[int], results: Collection[int]
) -> list[Operation]:
    softmaxes = {o.bottoms[0]: o for o in operations if _is_softmax(o) and o.tops[0] in results}
    groups: dict[tuple[int, bool], list[Head]] = {}
    for operation in operations:
        if not _is_small_product(operation):
            continue
        (top,) = operation.tops
        softmax = softmaxes.get(top) if top in inner else None
        if softmax is None and top not in results:
            continue
        group = groups.setdefault((operation.bottoms[0], operation.is_flattening), [])
        channels = sum(_outputs(head.product) for head in group) + _outputs(operation)
        if len(group) < _HEADS and channels <= _HEAD_CHANNELS:
            group.append(Head(operation, softmax))
    result = list(operations)
    for group in groups.values():
        if len(group) < 2:
            continue
        made = {id(o) for head in group for o in (head.product, head.softmax)}
        parts = tuple(operation for operation in operations if id(operation) in made)
        result[result.index(parts[-1])] = Heads(
            None, False, parts[0].bottoms, tuple(head.top for head in group),
            [name for part in parts for name in part.names], parts=parts, heads=tuple(group),
        )  # fmt: skip
        result = [operation for operation in result if id(operation) not in made]
    return result


def _is_softmax(operation: Operation) -> bool:
    layer = operation.layer
    return type(layer) is Softmax and layer.axis == 1 and not is_hooked(layer)


def _is_small_product(operation: Operation) -> bool:
    if not operation.product or operation.residual or operation.slopes is not None:
        return False
    layer = operation.layer
    if not isinstance(layer, Convolution):
        return True
    return layer.group == 1 and all(
        size == usual
        for sizes, usual in ((layer.kernel, 1), (layer.stride, 1), (layer.pad, 0))
        for size in sizes
    )


def _outputs(operation: Operation) -> int:
    layer = operation.layer
    assert isinstance(layer, Convolution | InnerProduct)
    return layer.num_output
