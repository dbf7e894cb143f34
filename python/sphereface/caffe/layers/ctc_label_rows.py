"""WarpCTCLoss and CtcLoss: CTC's loss of labels that are rows of one length, filled with the blank.

Source: warp_ctc_loss_layer.cpp of caffe_ocr and its kin, with two bottoms, and ctc_loss_layer.cpp
of yalecyu's crnn.caffe, which call Baidu's warp-ctc (Graves et al., ICML 2006); the loss is
torch's. What differs: the gradient is the derivative of the loss, with its 1 / N and loss weight,
of which theirs lack one or both; WarpCTCLoss without an image that has a path is 0, where theirs is
NaN. WarpCTCLoss of three and four bottoms is refused: three are those of `CTCLoss`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import exactly
from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["CTCLabelRows", "without_blanks"]


def without_blanks(label: Tensor, blank: int, fill: int) -> tuple[Tensor, Tensor]:
    """Return rows (N, L) without their blanks, `fill` behind their end, and the lengths (N,)."""
    kept = label != blank
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    return torch.where(kept, label, fill).gather(1, order), kept.sum(1)


@register_layer("WarpCTCLoss", param="ctc_loss_param")
@register_layer("CtcLoss", param="ctc_loss_param")
class CTCLabelRows(Layer):
    """The mean over N of -log p(labels | softmax of the scores).

    Bottoms: scores (T, N, C), all of T steps; labels (N, L), or (N,) for one each, of which those
    that are the blank are left out. The blank is ``blank_index``, 0 by default, of WarpCTCLoss,
    whose mean leaves out images with more labels than steps could hold; ``blank_label`` of CtcLoss,
    which also says the classes as ``alphabet_size`` and T as ``time_step``.
    """

    bottoms = exactly(2)
    auto_tops = True
    default_loss_weight = 1.0

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the blank and check what the file says of the scores."""
        shape, options = bottom_shapes[0], self.options
        if len(shape) < 3 or prod(shape[3:]) != 1:
            raise self.error(f"scores of shape {shape}", expected="(T, N, classes)")
        self.skips = self.type == "WarpCTCLoss"
        field = "blank_index" if self.skips else "blank_label"
        if not self.skips and not options.HasField(field):
            raise self.error("no blank_label", expected="the blank's class")
        self.blank = getattr(options, field) if options.HasField(field) else 0
        if not 0 <= self.blank < shape[2]:
            raise self.error(f"{field} {self.blank}", expected=f"0 to {shape[2] - 1}")
        for name, value in (("alphabet_size", shape[2]), ("time_step", shape[0])):
            if options.HasField(name) and getattr(options, name) != value:
                raise self.error(
                    f"{name} {getattr(options, name)} for scores of shape {shape}",
                    expected=str(value),
                )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there is a row of labels an image; the top is a scalar."""
        shape, label = bottom_shapes
        if label[:1] != shape[1:2]:
            raise self.error(
                f"labels of shape {label} for scores of shape {shape}",
                expected=f"({shape[1]}, labels)",
            )
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        steps, count, classes = x.shape[:3]
        rows = indices_below(self, label.detach().reshape(count, -1), classes, "label")
        targets, lengths = without_blanks(rows, self.blank, self.blank)
        loss = F.ctc_loss(
            F.log_softmax(x.reshape(steps, count, classes), 2),
            targets,
            torch.full_like(lengths, steps),
            lengths,
            self.blank,
            reduction="none",
            zero_infinity=self.skips,
        )
        if not self.skips:
            return loss.sum() / count
        inside = torch.arange(1, targets.shape[1], device=x.device) < lengths[:, None]
        again = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)
        return loss.sum() / (lengths + again <= steps).sum().clamp(min=1)
