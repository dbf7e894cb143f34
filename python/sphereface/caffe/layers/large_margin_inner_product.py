"""LargeMarginInnerProduct: the logits of L-Softmax.

Source: Liu et al., "Large-Margin Softmax Loss", ICML 2016, and largemargin_inner_product_layer of
the authors' Caffe fork, whose backward is the derivative, as here. What differs: the count of
forwards as in MarginInnerProduct; a zero row of x or of the weight has no angle, its label's logit
is 0 and its gradient 0 (NaN there), and with a margin a zero row of the weight gets no gradient at
all; the 1e-9 that the original adds to norms is left out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.caffe.registry import register_layer
from sphereface.margin_policy import LSoftmax, MarginPolicy
from sphereface.ops.margin_inner_product import margin_logits

__all__ = ["LargeMarginInnerProduct"]


@register_layer("LargeMarginInnerProduct", param="largemargin_inner_product_param")
class LargeMarginInnerProduct(AnnealedProduct):
    """L-Softmax: as A-Softmax (`MarginInnerProduct`) with the norms of the weight's rows kept.

    ``y_j = x . w_j``, and for the label ``(|x| |w| psi(theta) + lambda x . w) / (1 + lambda)``.
    """

    @property
    def policy(self) -> MarginPolicy:
        """L-Softmax."""
        return LSoftmax(self.margin)

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits."""
        if self.margin == 1:
            return F.linear(x, self.weight)
        # Every logit is |w| times that of A-Softmax.
        unit = margin_logits(x, self.weight, label, lambda_, self.margin, "exact")
        return unit * self.weight.norm(dim=1)

    def plain_logits(self, x: Tensor) -> Tensor:
        """Return ``x . w_j``."""
        return F.linear(x, self.weight.detach())
