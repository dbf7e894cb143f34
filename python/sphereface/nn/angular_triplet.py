"""The head of the angular triplet loss.

Source: a fork of SphereFace's Caffe; see `sphereface.ops.angular_triplet_logits`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sphereface.nn.margin_inner_product import MarginInnerProduct
from sphereface.ops import angular_triplet_logits

__all__ = ["AngularTriplet"]


class AngularTriplet(MarginInnerProduct):
    """A-Softmax logits whose backward chooses what learns; in evaluation as `MarginInnerProduct`.

    Parameters
    ----------
    in_features, out_features : int
        K and N.
    *options, **keywords
        As `MarginInnerProduct` from `margin` on, but `gradient`, which is Caffe's.
    triplet, semihard : bool
        See `sphereface.ops.angular_triplet_logits`.

    Raises
    ------
    SphereFaceError
        An option is out of its range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *options: Any,
        triplet: bool = True,
        semihard: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, out_features, *options, **keywords)
        self.triplet, self.semihard = triplet, semihard

    def logits(self, rows: Tensor, label: Tensor, lambda_: Tensor, margin: float) -> Tensor:
        """Return the logits (M, N) of rows (M, K)."""
        if not self.training:
            return super().logits(rows, label, lambda_, margin)
        return angular_triplet_logits(
            rows,
            self.weight,
            label,
            lambda_,
            margin,
            triplet=self.triplet,
            semihard=self.semihard,
            ignore_index=self.ignore_index,
            products=self.products,
        )

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, triplet={self.triplet}, semihard={self.semihard}"
