"""SegAccuracy: how well a map of classes is found: accuracy, mean recall, mean Jaccard index.

Source: seg_accuracy_layer.cpp and confusion_matrix.cpp of DeepLab's Caffe fork; one channel and
``output_label`` are PSPNet's. Of equal scores the class with the larger index is found, as in
DeepLab's. What differs: ``reset: false``, a sum over batches, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.graph import at_least, exactly
from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["SegAccuracy"]


@register_layer("SegAccuracy", param="seg_accuracy_param")
class SegAccuracy(Layer):
    """Three measures of the classes found in a batch, (1, 1, 1, 3).

    Bottoms: scores (N, C, H, W), or the probability (N, 1, H, W) of class 1, which is found above
    0.5; labels (N, 1, H, W), of which any number of values is ``ignore_label``. The first top: the
    share of labels found; the mean recall of the classes that have labels; the mean over all
    classes of intersection over union, 1 for a class that is neither there nor found. A further top
    for each ``output_label``: that class's precision, recall and Jaccard index.
    """

    bottoms = exactly(2)
    tops = at_least(1)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read which labels are ignored and which classes have tops."""
        if not self.options.reset:
            raise self.error("reset: false", expected="true, a result for each batch")
        if len(bottom_shapes[0]) != 4:
            raise self.error(f"scores of shape {bottom_shapes[0]}", expected="(N, C, H, W)")
        self.ignored = tuple(self.options.ignore_label)
        self.chosen = tuple(self.options.output_label)
        self.classes = max(bottom_shapes[0][1], 2)
        if self.top_count != 1 + len(self.chosen) or max(self.chosen, default=0) >= self.classes:
            raise self.error(
                f"{self.top_count} tops, output_label {list(self.chosen)}",
                expected=f"a top, and one for each output_label, below {self.classes}",
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that each position has a label."""
        shape, label = bottom_shapes
        if prod(label) != shape[0] * prod(shape[2:]) or label[:1] != shape[:1]:
            raise self.error(
                f"labels of shape {label} for scores of shape {shape}",
                expected=f"({shape[0]}, 1, {shape[2]}, {shape[3]})",
            )
        return [(1, 1, 1, 3)] * self.top_count

    @torch.no_grad()
    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the measures."""
        matrix = self._confusion(x, label)
        right, actual, found = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        union = actual + found - right
        recall, jaccard = right / actual, torch.where(union > 0, right / union, 1)
        seen = actual > 0
        first = [
            right.sum() / actual.sum().clamp(min=1),
            torch.where(seen, recall, 0).sum() / seen.sum().clamp(min=1),
            jaccard.mean(),
        ]
        rows = [first, *[[right[c] / found[c], recall[c], jaccard[c]] for c in self.chosen]]
        tops = [torch.stack(row).to(x.dtype).reshape(1, 1, 1, 3) for row in rows]
        return tops[0] if len(tops) == 1 else tuple(tops)

    def _confusion(self, x: Tensor, label: Tensor) -> Tensor:
        """Return how many labels of each class (row) are found as each class (column)."""
        given = label.reshape(-1).long()
        valid = torch.ones_like(given, dtype=torch.bool)
        for ignored in self.ignored:
            valid = valid & (given != ignored)
        actual = indices_below(self, given.where(valid, 0), self.classes, "label")
        if x.shape[1] == 1:
            found = (x.reshape(-1) > 0.5).long()
        else:
            rows = x.movedim(1, -1).flatten(0, -2)
            place = torch.arange(self.classes, device=x.device)
            found = torch.where(rows == rows.amax(1, keepdim=True), place, 0).amax(1)
        counts = torch.zeros(self.classes**2, dtype=torch.int64, device=x.device)
        counts = counts.index_add(0, actual * self.classes + found, valid.long())
        return counts.reshape(self.classes, self.classes).double()
