"""The members whose margin is annealed, as losses: A-Softmax and L-Softmax.

Source: Liu et al., "SphereFace", CVPR 2017, and "Large-Margin Softmax Loss", ICML 2016, with the
layers of the authors' Caffe forks. What differs: the logits need not be stored.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from sphereface.loss_options import LOSS_OPTIONS
from sphereface.margin_policy import ASoftmax, LSoftmax, MarginPolicy
from sphereface.nn.fused_loss import FusedLoss, learned_scale
from sphereface.nn.margin_inner_product import MarginInnerProduct
from sphereface.ops.labels import check_tensors
from sphereface.ops.margin_softmax import MarginSoftmaxStats

__all__ = ["ASoftmaxLoss", "LSoftmaxLoss"]

# memory and products are the loss's, which has no logits to round.
_OF_THE_HEAD = {*inspect.signature(MarginInnerProduct).parameters} - {*LOSS_OPTIONS}


class ASoftmaxLoss(FusedLoss, MarginInnerProduct):
    """Cross entropy over A-Softmax logits, as ``F.cross_entropy(head(x, label), label)``.

    The parameters, the counting of lambda and the state_dict are those of `MarginInnerProduct`, so
    the weights of either load into the other. In evaluation mode the gradient is the exact one.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    *options, **keywords
        As `MarginInnerProduct` from `margin` on, and ``reduction``, ``label_smoothing``,
        ``class_weight``, ``memory`` and ``products`` of `sphereface.margin_softmax_loss`.
    scale : float, optional
        s: x is set to this length before. None leaves x as it is, as the paper.
    learn_scale : bool
        Make the scale a parameter that starts there.

    Raises
    ------
    SphereFaceError
        An option is out of its range.

    Examples
    --------
    >>> loss = ASoftmaxLoss(512, 10572, base=1000, gamma=0.12, lambda_min=5)
    >>> loss(torch.randn(4, 512), torch.tensor([0, 5, 7, 10571])).shape
    torch.Size([])
    """

    scale: nn.Parameter | float | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *options: Any,
        scale: float | None = None,
        learn_scale: bool = False,
        **keywords: Any,
    ) -> None:
        self._first_scale = scale  # reset_parameters, which the base calls, reads it
        of_loss = {name: keywords.pop(name) for name in [*keywords] if name not in _OF_THE_HEAD}
        super().__init__(in_features, num_classes, *options, **keywords)
        self.set_loss_options(of_loss)
        self.scale = scale
        policy = self.policy  # it checks the scale
        if learn_scale:
            del self.scale
            self.scale = learned_scale(policy, self.weight.device)
            self._start_scale()

    @property
    def num_classes(self) -> int:
        """N, which the head calls out_features."""
        return self.out_features

    @property
    def policy(self) -> MarginPolicy:
        """The member, with the scale that it has here."""
        return ASoftmax(self.margin, self.scale)

    def reset_parameters(self) -> None:
        """Fill the weight as Caffe's ``xavier`` and start counting; the scale begins again."""
        super().reset_parameters()
        self._start_scale()

    def _start_scale(self) -> None:
        scale = getattr(self, "scale", None)
        if isinstance(scale, nn.Parameter) and self._first_scale is not None:
            nn.init.constant_(scale, self._first_scale)

    def forward(  # type: ignore[override] # a loss, not logits
        self, x: Tensor, label: Tensor | None = None, return_stats: bool = False
    ) -> Tensor | tuple[Tensor, MarginSoftmaxStats]:
        """Return the loss of embeddings (..., K) and their labels, of shape () or, unreduced, (M,).

        With `return_stats` also what it has seen of the rows, as `MarginLoss`.

        Without a label, in evaluation mode, the logits (..., N) without a margin.

        Raises
        ------
        SphereFaceError, RuntimeError
            See `sphereface.margin_softmax_loss`; no label in training mode.
        """
        check_tensors(type(self).__name__, x=x)
        self.refuse_transforms(x)
        if label is None:
            logits = self.logits_without_label(self.rows(x))
            return logits.view(*x.shape[: self.axis], self.num_classes)
        rows, labels = self.samples(x, label)
        return self.loss_of(rows, labels, self.advance(), return_stats=return_stats)

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        annealing = ", ".join(f"{name}={value:g}" for name, value in vars(self.annealing).items())
        scale = "" if self._first_scale is None else f", scale={self._first_scale:g}"
        learned = ", learn_scale=True" if isinstance(self.scale, nn.Parameter) else ""
        return (
            f"in_features={self.in_features}, num_classes={self.num_classes}, "
            f"margin={self.margin:g}, {annealing}{scale}{learned}{self.options_repr()}"
        )


class LSoftmaxLoss(ASoftmaxLoss):
    """Cross entropy over L-Softmax logits: as A-Softmax with the rows of W keeping their lengths.

    The gradient is the exact one, as in the original.

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    margin : float or str
        m >= 1, or Caffe's names.
    *options, **keywords
        As `ASoftmaxLoss` from `base` on.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        margin: float | str = 2,
        *options: Any,
        **keywords: Any,
    ) -> None:
        super().__init__(in_features, num_classes, margin, *options, **keywords)

    @property
    def policy(self) -> MarginPolicy:
        """The member, with the scale that it has here."""
        return LSoftmax(self.margin, self.scale)
