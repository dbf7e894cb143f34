"""The pull of embeddings to the centres of their classes, and of centres to their embeddings.

Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV
2016, equations 2 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["center_loss"]


def center_loss(x: Tensor, centers: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return half the mean of |x_i - c_(label_i)|^2, and what each row does to its centre.

    Parameters
    ----------
    x : Tensor of shape (M, K)
        Embeddings. Lower precisions are computed in float32, also under autocast.
    centers : Tensor of shape (N, K)
        Constant here: the paper does not move them by the derivative of the loss.
    label : Tensor of shape (M,), int64
        From 0 to N - 1.

    Returns
    -------
    loss : Tensor of shape ()
        sum_i |x_i - c_(label_i)|^2 / (2 M), 0 without rows; differentiable in x.
    rows : Tensor of shape (M, K)
        (c_(label_i) - x_i) / (1 + count of the label), constant. Their sum over the rows of a class
        is its centre's gradient, the paper's Delta c.
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, centers.dtype), torch.float32)
    difference = x.to(dtype) - centers.detach().to(dtype)[label]
    loss = difference.square().sum() / (2 * max(x.shape[0], 1))
    ones = torch.ones_like(difference[:, 0])
    count = ones.new_zeros(centers.shape[0]).index_add_(0, label, ones)
    return loss, -difference.detach() / (1 + count[label])[:, None]
