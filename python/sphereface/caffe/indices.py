"""Labels and other indices that arrive as blobs: to integers, with a check of their range.

What differs from Caffe, which passes them as floats and reads foreign memory where one is out of
range: on the CPU, where looking costs nothing, that is an error.
"""

from __future__ import annotations

from torch import Tensor

from sphereface.caffe.layer import Layer
from sphereface.ops.labels import first_outside

__all__ = ["class_labels", "counted_labels", "indices_below"]


def indices_below(layer: Layer, values: Tensor, count: int, what: str = "index") -> Tensor:
    """Return `values` as int64.

    Raises
    ------
    SphereFaceError
        On the CPU and outside compilers: one of them, called `what`, is not in [0, `count`).
    """
    indices = values.long()
    place = first_outside(indices, count)
    if place is not None:
        wrong = int(indices.flatten()[place])
        raise layer.error(f"{what}[{place}] is {wrong}", expected=f"0 to {count - 1}")
    return indices


def class_labels(layer: Layer, label: Tensor, classes: int) -> Tensor:
    """Return `label` as a flat int64 tensor, checked."""
    return indices_below(layer, label.reshape(-1), classes, "label")


def counted_labels(
    layer: Layer, label: Tensor, classes: int, ignore_label: int | None
) -> tuple[Tensor, Tensor | None]:
    """Return the labels as `class_labels` does, and which are not `ignore_label`.

    Where they are, the label is 0. None instead of the mask: nothing is to be ignored.
    """
    if ignore_label is None:
        return class_labels(layer, label, classes), None
    labels = label.reshape(-1).long()
    valid = labels != ignore_label
    return class_labels(layer, labels.where(valid, 0), classes), valid
