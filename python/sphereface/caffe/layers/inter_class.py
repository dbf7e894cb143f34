"""InterClass: SphereFace+'s force between the classes' weights.

Source: Liu et al., "Learning towards Minimum Hyperspherical Energy", NeurIPS 2018, and
inter_class_layer of SphereFace+'s Caffe fork (its CPU code; the GPU code computes the distance in
every tenth forward). What differs: forwards are counted in TRAIN only and the count is saved in the
state_dict, so that a resumed run goes on with its alpha.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sphereface.caffe.class_weights import ClassWeights
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.row_gradient import add_row_gradient

__all__ = ["InterClass"]


@register_layer("InterClass", param="inter_class_param")
class InterClass(ClassWeights):
    """Distance between classes, and the push that makes it grow; w_mean is the mean of all w.

    Of x only the sizes count; y are the labels. Tops: the distance, to be watched; alpha, shape
    (1,). The weight shares the classifier's by its param name. With ``normalize`` (true), w_mean is
    divided by ``sqrt(|w_mean|^2 + 1e-5)``.

    MEAN: distance ``1 - sum_i w_mean . w_(y_i) / M``; adds ``alpha / M w_mean`` to the diff of each
    w_(y_i). AMONG: distance ``D = sum_ij |w_i - w_(y_j)|^2 / N``; adds
    ``-4 alpha / (M D^2 + 1e-5) (w_(y_i) - w_mean)``. Neither is scaled by the loss_weight of the
    distance, which is 1 as in the original: the sum of losses contains the distance.

    alpha is 0, from the forward number alpha_start_iter on alpha_start_value, and alpha_step more
    from each alpha_stepvalue on.
    """

    tops = Arity(1, 2)
    auto_tops = True
    default_loss_weight = 1.0
    unscaled_gradient = True
    iteration: Tensor

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the schedule and create the weight."""
        super().setup(bottom_shapes)
        options = self.options
        self.among = options.type == options.AMONG
        self.normalize = options.normalize
        self.schedule = self._schedule()
        self.register_buffer("iteration", torch.tensor(options.iteration, dtype=torch.int64))

    def _schedule(self) -> tuple[tuple[int, float], ...]:
        options = self.options
        start, steps = options.alpha_start_iter, tuple(options.alpha_stepvalue)
        if start < 0 or list(steps) != sorted({*steps}) or any(step <= start for step in steps):
            raise self.error(
                f"alpha_start_iter {start}, alpha_stepvalue {list(steps)}",
                expected="ascending values above alpha_start_iter, which is at least 0",
            )
        # The original waits for the counts to be equal: what the counter has passed never comes.
        changes = [(start, options.alpha_start_value)] if start > options.iteration else []
        if steps and steps[0] > options.iteration:
            changes += [(step, options.alpha_step) for step in steps]
        return tuple(changes)

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return a scalar's shape, and (1,) for alpha."""
        self.check_bottoms(bottom_shapes)
        return [(), (1,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the distance, and alpha where the file asks for it."""
        labels = self.labels(label)
        with torch.no_grad():
            if self.training:
                self.iteration.add_(1)
            alpha = self._alpha()
            distance, rows = (self._among if self.among else self._mean)(labels, alpha)
        distance = add_row_gradient(distance, self.weight, labels, rows)
        return (distance, alpha.reshape(1)) if self.top_count == 2 else distance

    def _alpha(self) -> Tensor:
        alpha = self.weight.new_zeros(())
        for count, change in self.schedule:
            alpha = alpha + change * (self.iteration >= count)
        return alpha

    def _weight_mean(self) -> Tensor:
        mean = self.weight.mean(0)
        return mean / (mean.square().sum() + 1e-5).sqrt() if self.normalize else mean

    def _mean(self, labels: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        mean = self._weight_mean()
        distance = 1 - (self.weight[labels] @ mean).mean()
        return distance, (alpha / len(labels) * mean).expand(len(labels), -1)

    def _among(self, labels: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        weight, chosen = self.weight, self.weight[labels]
        # sum_ij |w_i - w_(y_j)|^2 without the N x M differences.
        total = (
            len(labels) * weight.square().sum()
            + len(weight) * chosen.square().sum()
            - 2 * weight.sum(0) @ chosen.sum(0)
        )
        distance = total / len(weight)
        rate = -4 * alpha / (len(labels) * distance.square() + 1e-5)
        return distance, rate * (chosen - self._weight_mean())
