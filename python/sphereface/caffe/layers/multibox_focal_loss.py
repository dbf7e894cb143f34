"""MultiBoxFocalLoss: MultiBoxLoss, with the focal loss of the scores.

Source: multibox_focal_loss_layer.cpp of SSD's Caffe forks (Lin et al., "Focal Loss for Dense Object
Detection", ICCV 2017). As there the negatives are mined by the plain losses of their scores. What
differs: as MultiBoxLoss.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sphereface.caffe.layer import Shape
from sphereface.caffe.layers.focal_loss import focal_losses
from sphereface.caffe.layers.multibox_loss import MultiBoxLoss
from sphereface.caffe.registry import register_layer

__all__ = ["MultiBoxFocalLoss"]


@register_layer("MultiBoxFocalLoss", param="multibox_loss_param")
class MultiBoxFocalLoss(MultiBoxLoss):
    """MultiBoxLoss whose scores' loss is ``-alpha (1 - p)^gamma log p`` of the label's p.

    ``focal_loss_param`` has alpha and gamma; with ``conf_loss_type: LOGISTIC`` they have no effect.
    """

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read alpha and gamma, too."""
        super().setup(bottom_shapes)
        focal = self.layer_param.focal_loss_param
        self.alpha, self.gamma = focal.alpha, focal.gamma
        if self.alpha <= 0 or self.gamma < 0:
            raise self.error(
                f"alpha {self.alpha:g}, gamma {self.gamma:g}",
                expected="alpha above 0, gamma at least 0",
            )

    def _counted_losses(self, score: Tensor, label: Tensor, blank: Tensor) -> Tensor:
        losses = self._score_losses(score, label, blank)
        return losses if self.logistic else focal_losses(losses, -losses, self.alpha, self.gamma)
