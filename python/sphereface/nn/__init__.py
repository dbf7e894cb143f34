"""Margin heads and losses as ``torch.nn.Module``."""

from sphereface.nn.a_softmax_loss import ASoftmaxLoss, LSoftmaxLoss
from sphereface.nn.angular_triplet import AngularTriplet
from sphereface.nn.center_loss import CenterLoss
from sphereface.nn.hyperspherical_energy import HypersphericalEnergy
from sphereface.nn.margin_inner_product import MarginInnerProduct
from sphereface.nn.margin_loss import (
    ArcFaceLoss,
    COCOLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    L2SoftmaxLoss,
    MarginLoss,
    NormFaceLoss,
)
from sphereface.nn.sphereface2_loss import SphereFace2Loss
from sphereface.nn.sphereface_r_loss import SphereFaceRLoss

__all__ = [
    "ASoftmaxLoss",
    "AngularTriplet",
    "ArcFaceLoss",
    "COCOLoss",
    "CenterLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "HypersphericalEnergy",
    "L2SoftmaxLoss",
    "LSoftmaxLoss",
    "MarginInnerProduct",
    "MarginLoss",
    "NormFaceLoss",
    "SphereFace2Loss",
    "SphereFaceRLoss",
]
