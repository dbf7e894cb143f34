"""LabelSpecificAdd and LabelSpecificRescale: the score of the label changed in training.

Source: label_specific_add.cpp and label_specific_rescale.cpp of NormFace's and AM-Softmax's Caffe
fork. As there, a bias that is annealed is added only where the label's score stays positive. What
differs: a plain ``bias`` is added everywhere, as the paper has it (Wang et al., 2018), where later
versions of the fork add that one too only to scores that stay positive; ``iteration`` advances in
TRAIN only and is saved in the state_dict; ``transform_test: true`` changes scores in TEST too,
where the fork's reading of it never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.indices import class_labels
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.pending_logits import PendingProduct
from sphereface.caffe.registry import register_layer

__all__ = [
    "LabelSpecificAdd",
    "LabelSpecificRescale",
    "label_specific_add",
    "label_specific_rescale",
]


def label_specific_add(
    x: Tensor, label: Tensor, *, added: float | Tensor, transform_test: bool, training: bool
) -> Tensor:
    """Return the scores, in training, or always with `transform_test`, with `added` to labels'."""
    if not (training or transform_test):
        return x
    scores, column = x.flatten(1), label.long()[:, None]
    bias = torch.zeros_like(column, dtype=scores.dtype) + added
    if isinstance(added, Tensor):  # one that is annealed leaves scores positive
        bias = bias * (scores.gather(1, column) > -added)
    return scores.scatter_add(1, column, bias).reshape(x.shape)


def label_specific_rescale(
    x: Tensor, label: Tensor, *, positive_weight: float, negative_weight: float, training: bool
) -> Tensor:
    """Return the scores, in training with the label's and the others' multiplied."""
    if not training:
        return x
    scores, column = x.flatten(1), label.long()[:, None]
    own = scores.gather(1, column) * positive_weight
    return (scores * negative_weight).scatter(1, column, own).reshape(x.shape)


class _LabelSpecific(Layer):
    """Bottoms: scores (M, classes...); labels, one a row. TEST passes the scores on."""

    bottoms = exactly(2)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels and return the scores' shape."""
        shape, label_shape = bottom_shapes
        if not shape or prod(label_shape) != shape[0]:
            raise self.error(
                f"{prod(label_shape)} labels for scores of shape {shape}", expected="one a row"
            )
        return [shape]


@register_layer("LabelSpecificAdd", param="label_specific_add_param")
class LabelSpecificAdd(_LabelSpecific):
    """``bias`` added to the label's score: the margin of AM-Softmax is a negative one.

    With ``bias_base`` it is annealed: ``bias_base + (1 + bias_gamma iteration)^bias_power - 1``,
    between ``bias_min`` and ``bias_max``, the iteration counting the forwards in TRAIN from the
    option of that name on. Second top, shape (1,): the bias.
    """

    tops = Arity(1, 2)
    function = staticmethod(label_specific_add)
    iteration: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the bias, or how it is annealed."""
        options = self.options
        self.added: float = options.bias
        self.transform_test: bool = options.transform_test
        self.annealing: tuple[float, ...] | None = None
        given = (options.bias_base, options.bias_gamma, options.bias_power)
        limits, first = (options.bias_min, options.bias_max), options.iteration
        if options.HasField("bias_base"):
            if limits[0] > limits[1]:
                raise self.error(
                    f"bias_min {limits[0]:g}, bias_max {limits[1]:g}", expected="min at most max"
                )
            self.annealing = (*given, *limits)
            self.register_buffer("iteration", torch.tensor(first, dtype=torch.int64))
            self.compute_by(None)  # it counts, which no function of tensors does

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the scores' shape, and that of the bias."""
        return [*super().reshape(bottom_shapes), (1,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the scores, and the bias where the file asks for it."""
        added = self.added if self.annealing is None else self._annealed(x)
        if self.training or self.transform_test:
            label = class_labels(self, label, prod(x.shape[1:]))
        y = label_specific_add(
            x, label, added=added, transform_test=self.transform_test, training=self.training
        )
        if self.top_count == 1:
            return y
        return y, torch.zeros(1, dtype=x.dtype, device=x.device) + added

    @property
    def takes_pending(self) -> bool:
        """Whether `of_pending` does the same: an annealed bias looks at the score."""
        return self.annealing is None

    @property
    def pending_margin(self) -> dict[str, Any]:
        """The margin as `sphereface.margin_policy.CosineMargin` has it."""
        return {"form": "add", "m3": -self.added}

    def of_pending(self, logits: PendingProduct, label: Tensor) -> Any:
        """Return logits whose layer left them to their loss (`sphereface.caffe.fused_loss`)."""
        class_labels(self, label, logits.classes)
        y = logits._replace(margin=self.pending_margin)
        return y if self.top_count == 1 else (y, logits.x.new_full((1,), self.added))

    def _annealed(self, x: Tensor) -> Tensor:
        """Return the bias of this forward, and count it in TRAIN."""
        assert self.annealing is not None
        base, gamma, power, low, high = self.annealing
        bias = base + (1 + gamma * self.iteration.double()) ** power - 1
        if self.training:
            self.iteration.add_(1)
        return bias.clamp(low, high).to(x.dtype)

    def count_from_start(self, forwards: int) -> None:
        """Set the count to that after `forwards` in TRAIN."""
        if self.annealing is not None:
            self.iteration.fill_(self.options.iteration + forwards)


@register_layer("LabelSpecificRescale", param="label_specific_rescale_param")
class LabelSpecificRescale(_LabelSpecific):
    """The label's score times ``positive_weight``, the others times ``negative_weight``."""

    function = staticmethod(label_specific_rescale)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the weights."""
        self.positive_weight = self.options.positive_weight
        self.negative_weight = self.options.negative_weight

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the scores, in TRAIN with the labels' and the others' changed."""
        if self.training:
            label = class_labels(self, label, prod(x.shape[1:]))
        return self.compute(x, label)
