"""Center loss: pulls embeddings to the centre of their class, which follows them.

Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV
2016, and center_loss_layer of its Caffe fork. What differs: the gradient of the centres takes part
in what is done with the whole loss (a GradScaler's factor, a division by accumulated batches).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sphereface.errors import SphereFaceError
from sphereface.nn.margin_inner_product import check_integer
from sphereface.ops.center_loss import center_loss
from sphereface.ops.labels import check_rows, check_tensors, class_numbers, first_outside

__all__ = ["CenterLoss"]


class CenterLoss(nn.Module):
    """``loss_weight / (2 M) sum_i |x_i - c_(label_i)|^2``, to be added to a softmax loss.

    The gradient of centre c_j is not the derivative but the paper's, sum (c_j - x_i) / (1 + count)
    over the rows of class j, count of them, whatever the `loss_weight`. The rate of the centres is
    that of a parameter group of their own, without momentum and decay::

        torch.optim.SGD([{"params": net.parameters()},
                         {"params": center.parameters(), "lr": 0.5, "momentum": 0,
                          "weight_decay": 0}], lr=0.1, momentum=0.9)

    Parameters
    ----------
    in_features, num_classes : int
        K and N.
    loss_weight : float
        The paper's lambda, finite and >= 0.
    device, dtype
        Of the centres.

    Attributes
    ----------
    weight : Parameter of shape (N, K)
        The centres, filled uniformly in +-sqrt(3 / K).

    Raises
    ------
    SphereFaceError
        An option is out of its range.

    Examples
    --------
    >>> softmax, center = CosFaceLoss(512, 10572), CenterLoss(512, 10572)  # doctest: +SKIP
    >>> loss = softmax(x, label) + center(x, label)  # doctest: +SKIP
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        loss_weight: float = 0.003,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_integer("in_features", in_features, 1)
        self.num_classes = check_integer("num_classes", num_classes, 1)
        if not 0 <= loss_weight < math.inf:
            raise SphereFaceError(
                f"loss_weight is {loss_weight!r}", where="CenterLoss", expected="a number >= 0"
            )
        self.loss_weight = loss_weight
        self.weight = nn.Parameter(
            torch.empty(self.num_classes, self.in_features, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill the centres in +-sqrt(3 / in_features), as Caffe's ``xavier``."""
        bound = math.sqrt(3 / self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Return the loss of embeddings (M, K) and labels (M,), of shape ().

        It is float32, or float64 where x or the centres are.

        Raises
        ------
        SphereFaceError
            x is not (M, K); labels are not as many as rows; on the CPU, one is not in [0, N).
        RuntimeError
            The labels are no integers.
        """
        check_tensors("CenterLoss", x=x, label=label)
        check_rows("CenterLoss", x, self.in_features)
        numbers = class_numbers(label, x, self.num_classes)
        if numbers.shape[0] != x.shape[0]:
            raise SphereFaceError(
                f"{numbers.shape[0]} labels",
                where="CenterLoss",
                expected=f"{x.shape[0]}, one a row",
            )
        place = first_outside(numbers, self.num_classes)
        if place is not None:
            raise SphereFaceError(
                f"label[{place}] is {int(numbers[place])}",
                where="CenterLoss",
                expected=f"0 to {self.num_classes - 1}",
            )
        loss, rows = center_loss(x, self.weight, numbers)
        # Its value is 0; its derivative by the centres is the paper's gradient.
        pull = (self.weight[numbers].to(rows.dtype) * rows).sum()
        return self.loss_weight * loss + (pull - pull.detach())

    def extra_repr(self) -> str:
        """Return the options, for ``repr``."""
        return (
            f"in_features={self.in_features}, num_classes={self.num_classes}, "
            f"loss_weight={self.loss_weight:g}"
        )
