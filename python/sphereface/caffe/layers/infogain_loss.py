"""InfogainLoss: multinomial logistic loss with a weight for each pair of label and prediction.

Source: Caffe's infogain_loss_layer.cpp, the version with a softmax inside (its bottom is scores).
Logarithms are capped at log(1e-20), with the gradient of the uncapped loss. The matrix is read from
the working directory. What differs: nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod

import numpy as np
import torch
from torch import Tensor

from sphereface.caffe.graph import Arity
from sphereface.caffe.indices import counted_labels
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer
from sphereface.weights.binaryproto import read_binaryproto

__all__ = ["InfogainLoss"]

_LOG_THRESHOLD = log(1e-20)


@register_layer("InfogainLoss", param="infogain_loss_param")
class InfogainLoss(LossLayer):
    """-sum H[label] . log softmax(x) / normaliser; second top: the softmax.

    Bottoms: x (outer..., K classes, inner...) with the classes on ``axis``; labels, outer * inner
    of them; H (K, K), if ``source``, a binaryproto, does not give it. `loss_param` is that of
    SoftmaxWithLoss, without ``normalize``. Only x gets a gradient.
    """

    bottoms = Arity(2, 3)
    tops = Arity(1, 2)
    matrix: Tensor | None

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options, and H from its file."""
        super().setup(bottom_shapes)
        if self.layer_param.loss_param.HasField("normalize"):
            raise self.error("normalize in loss_param", expected="normalization: VALID, ...")
        self.axis = self.canonical_axis(self.options.axis, bottom_shapes[0])
        matrix = None
        if len(bottom_shapes) == 2:
            if not self.options.HasField("source"):
                raise self.error("no infogain matrix", expected="source, or a third bottom")
            matrix = torch.from_numpy(np.array(read_binaryproto(self.options.source), np.float32))
        # Caffe keeps no copy of the matrix in its weights.
        self.register_buffer("matrix", matrix, persistent=False)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the number of labels and the size of H."""
        shape, label_shape = bottom_shapes[:2]
        rows = prod(shape[: self.axis] + shape[self.axis + 1 :])
        if rows != prod(label_shape):
            raise self.error(
                f"{prod(label_shape)} labels (shape {label_shape}) for predictions of shape {shape}"
                f" with axis {self.axis}",
                expected=f"{rows} labels",
            )
        matrix = tuple(self.matrix.shape) if self.matrix is not None else bottom_shapes[2]
        if prod(matrix) != shape[self.axis] ** 2:
            raise self.error(
                f"infogain matrix of shape {matrix} for {shape[self.axis]} classes",
                expected=f"{shape[self.axis]} x {shape[self.axis]}",
            )
        return [*super().reshape(bottom_shapes), shape][: self.top_count]

    def forward(
        self, x: Tensor, label: Tensor, matrix: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the loss, and the softmax where the file asks for it."""
        log_prob = x.log_softmax(self.axis)
        rows = log_prob.movedim(self.axis, -1).flatten(0, -2)  # (outer * inner, K)
        labels, valid = counted_labels(self, label, rows.shape[1], self.ignore_label)
        matrix = self.matrix if matrix is None else matrix.detach()
        assert matrix is not None  # setup asked for one of the two
        weights = matrix.to(rows.dtype).reshape(rows.shape[1], -1).index_select(0, labels)
        losses = -(weights * (rows + (_LOG_THRESHOLD - rows).clamp(min=0).detach())).sum(1)
        if valid is not None:
            losses = losses.where(valid, 0)
        outer = prod(x.shape[: self.axis])
        loss = losses.sum() / self.normalizer(outer, labels.numel(), valid)
        return (loss, log_prob.exp()) if self.top_count == 2 else loss
