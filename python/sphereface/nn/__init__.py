"""Margin heads and losses as ``torch.nn.Module``."""

from sphereface.nn.margin_inner_product import MarginInnerProduct
from sphereface.nn.margin_loss import (
    ArcFaceLoss,
    ASoftmaxLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    NormFaceLoss,
)

__all__ = [
    "ASoftmaxLoss",
    "ArcFaceLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "MarginInnerProduct",
    "NormFaceLoss",
]
