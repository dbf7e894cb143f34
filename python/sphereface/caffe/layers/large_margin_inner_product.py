"""LargeMarginInnerProduct: the logits of L-Softmax.

Source: Liu et al., "Large-Margin Softmax Loss", ICML 2016, and largemargin_inner_product_layer of
the authors' Caffe fork, whose backward is the derivative, as here. What differs: the count of
forwards as in MarginInnerProduct; a zero row of x or of the weight has no angle, its label's logit
is 0 and its gradient 0 (NaN there); the 1e-9 that the original adds to norms is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.caffe.registry import register_layer

__all__ = ["LargeMarginInnerProduct"]


@register_layer("LargeMarginInnerProduct", param="largemargin_inner_product_param")
class LargeMarginInnerProduct(AnnealedProduct):
    """L-Softmax: as A-Softmax (`MarginInnerProduct`) with the norms of the weight's rows kept.

    ``y_j = x . w_j``, and for the label ``(|x| |w| psi(theta) + lambda x . w) / (1 + lambda)``.
    """

    def logits(self, x: Tensor, label: Tensor, lambda_: Tensor) -> Tensor:
        """Return the logits."""
        y = F.linear(x, self.weight)
        if self.margin == 1:
            return y
        column = label[:, None]
        product = y.gather(1, column)[:, 0]
        norms = x.norm(dim=1) * self.weight[label].norm(dim=1)
        cos = product / norms.clamp(min=torch.finfo(norms.dtype).tiny)
        target = (norms * _psi(cos, self.margin) + lambda_ * product) / (1 + lambda_)
        return y.scatter(1, column, target[:, None].to(y.dtype))


def _psi(cos: Tensor, margin: int) -> Tensor:
    # (-1)^k cos(m theta) - 2k with k = floor(m theta / pi). Its pieces meet with one slope, so
    # the choice of k where they meet does not matter.
    if margin == 2:
        k = (cos < 0).to(cos.dtype)
        power = 2 * cos**2 - 1
    elif margin == 3:
        k = (cos < 0.5).to(cos.dtype) + (cos < -0.5)
        power = 4 * cos**3 - 3 * cos
    else:
        root = 0.5**0.5
        k = (cos < root).to(cos.dtype) + (cos < 0) + (cos < -root)
        power = 8 * cos**4 - 8 * cos**2 + 1
    return (1 - 2 * (k % 2)) * power - 2 * k
