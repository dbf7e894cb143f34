"""Labels and other indices that arrive as blobs: to integers, with a check of their range.

What differs from Caffe, which passes them as floats and reads foreign memory where one is out of
range: on the CPU, where looking costs nothing, that is an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sphereface.caffe.layer import Layer

__all__ = ["class_labels", "counted_labels", "indices_below"]


def indices_below(layer: Layer, values: Tensor, count: int, what: str = "index") -> Tensor:
    """Return `values` as int64.

    Raises
    ------
    SphereFaceError
        On the CPU and outside compilers: one of them, called `what`, is not in [0, `count`).
    """
    indices = values.long()
    if not torch.compiler.is_compiling() and indices.device.type == "cpu" and indices.numel():
        low, high = indices.aminmax()
        if low < 0 or high >= count:
            flat = indices.flatten()
            place = int(((flat < 0) | (flat >= count)).nonzero()[0, 0])
            raise layer.error(
                f"{what}[{place}] is {int(flat[place])}", expected=f"0 to {count - 1}"
            )
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
