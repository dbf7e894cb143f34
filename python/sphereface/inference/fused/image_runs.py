"""Which operations are worth running image by image, each thread with images of its own.

A batch's values between two layers exceed the caches where one image's do not: MobileFaceNet at
batch 16 takes 0.8 of the time image by image. A layer of large weights is better run over the
whole batch, because every image would read them anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sphereface.caffe.layer import Shape
from sphereface.inference.fused.operation import Operation

__all__ = ["image_runs"]

_MOST_WEIGHT = 1 << 18  # floats that stay in a core's second cache while an image passes
_FEWEST_PIXELS = 8  # of a product: fewer read a weight for too few multiplications


def image_runs(
    operations: Sequence[Operation], shapes: Sequence[Shape], parts: int
) -> Iterator[range]:
    """Yield runs of at least two operations, as indices.

    Parameters
    ----------
    operations : sequence of Operation
        In their order.
    shapes : sequence of tuple
        Of all slots.
    parts : int
        Threads that take images. Where there are fewer images, nothing is yielded.
    """
    start = 0
    for stop in range(1, len(operations) + 1):
        before, after = operations[stop - 1], operations[stop : stop + 1]
        if after and _goes_on(before, after[0], shapes, parts):
            continue
        if stop - start > 1:
            yield range(start, stop)
        start = stop


def _goes_on(before: Operation, after: Operation, shapes: Sequence[Shape], parts: int) -> bool:
    images = [shapes[operation.bottoms[0]][0] for operation in (before, after)]
    return images[0] == images[1] and all(_worth_it(o, shapes, parts) for o in (before, after))


def _worth_it(operation: Operation, shapes: Sequence[Shape], parts: int) -> bool:
    bottom, top = shapes[operation.bottoms[0]], shapes[operation.tops[0]]
    if len(bottom) != 4 or len(top) != 4 or bottom[0] != top[0] or bottom[0] < max(parts, 2):
        return False
    if not operation.product:
        return True
    assert operation.layer is not None
    pixels = top[2] * top[3]
    return pixels >= _FEWEST_PIXELS and operation.layer.weight.numel() <= _MOST_WEIGHT
