"""SphereFace2: a binary classifier for each class in the place of the softmax of all.

Source: Wen et al., "SphereFace2: Binary Classification is All You Need for Deep Face Recognition",
ICLR 2022, type C, and its authors' port to PyTorch. What differs: the loss is not multiplied by the
port's ``lw`` (a learning rate does the same).
"""

from __future__ import annotations

from typing import Any

import torch

from sphereface.margin_policy import SphereFace2
from sphereface.nn.margin_loss import MarginLoss

__all__ = ["SphereFace2Loss"]


class SphereFace2Loss(MarginLoss):
    """(alpha softplus(-z) of the label and (1 - alpha) softplus(z) of every other class) / r.

    z is r (g(cos theta) - m) + b for the label and r (g(cos theta) + m) + b for the others, with
    g(c) = 2 ((c + 1) / 2)^t - 1; the gradient takes g(c) - c as a constant.

    Parameters
    ----------
    in_features, num_classes : int
        K and N, at least 2.
    margin, scale, t, alpha : float
        m, r, t and alpha: see `sphereface.margin_policy.SphereFace2`.
    **keywords
        As `MarginLoss` from `gradient` on. With ``gradient="caffe"``, the port's, the rows of the
        weight are normalised in place, outside of the gradient.

    Attributes
    ----------
    bias : Parameter of shape ()
        b, which starts where the loss of right angles is smallest.

    Raises
    ------
    SphereFaceError
        An option is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float = 0.4,
        scale: float = 30.0,
        t: float = 3.0,
        alpha: float = 0.7,
        **keywords: Any,
    ) -> None:
        policy = SphereFace2(margin, scale, t, alpha)
        first = torch.tensor(policy.initial_bias(num_classes), dtype=torch.float64)
        super().__init__(in_features, num_classes, policy, bias=first, **keywords)
