"""The members of the margin family, as what they make of the label's angle theta.

Sources: Liu et al., "SphereFace", CVPR 2017, "Large-Margin Softmax Loss", ICML 2016, and
"SphereFace Revived", TPAMI 2022; Wang et al., "CosFace", CVPR 2018, and "Additive Margin Softmax",
2018; Deng et al., "ArcFace", CVPR 2019, and its authors' combined margin; Wang et al., "NormFace",
ACM MM 2017; Liu et al., "Rethinking feature discrimination" (COCO), 2017; Ranjan et al.,
"L2-constrained Softmax Loss", 2017; Wen et al., "SphereFace2", ICLR 2022. The formulas are the
core's (csrc/include/sphereface/margin.h).

A ``scale`` is s > 0: x is set to that length first. It is a number or a tensor of one value, which
gets its gradient; None leaves x as it is.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sphereface.errors import SphereFaceError
from sphereface.margin_type import is_exact, margin_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "COCO",
    "ASoftmax",
    "ArcFace",
    "CombinedMargin",
    "CosFace",
    "CosineMargin",
    "L2Softmax",
    "LSoftmax",
    "MarginPolicy",
    "NormFace",
    "SphereFace2",
    "SphereFaceR",
    "policy_of",
]

_FINITE = sys.float_info.max
_FORMS = ("add", "angle", "combined")


class MarginPolicy:
    """A member of the family."""

    scale: float | Tensor | None
    #: One value a class, or one for all, added to the logits.
    bias: Tensor | None = None
    #: Whether the rows of the weight keep their lengths.
    free_weight: ClassVar[bool] = False
    #: Whether each class has a loss of its own, instead of the softmax of all.
    binary: ClassVar[bool] = False

    def is_exact(self, gradient: str) -> bool:
        """Tell whether the gradient goes through the normalisation of W, for this `gradient`.

        Raises
        ------
        SphereFaceError
            `gradient` is unknown.
        """
        is_exact(gradient)
        return True

    def core(self) -> tuple[int, list[float]]:
        """Return the family and its numbers as the operators take them."""
        raise NotImplementedError

    def _check(self, name: str, low: float, high: float = math.inf) -> None:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or not low <= value < high:
            raise SphereFaceError(
                f"{name} is {value!r}",
                where=type(self).__name__,
                expected=f"{low} <= {name} < {high:.4g}",
            )

    def _check_scale(self) -> None:
        scale: Any = self.scale
        if isinstance(scale, (int, float)):
            fits = 0 < scale < math.inf
        else:
            fits = scale is None or getattr(scale, "shape", None) in ((), (1,))
        if not fits:
            raise SphereFaceError(
                f"scale is {scale!r}",
                where=type(self).__name__,
                expected="a positive finite number or a tensor of one value",
            )


@dataclass(frozen=True)
class ASoftmax(MarginPolicy):
    """|x| psi(theta) for the label, W being normalised: SphereFace.

    Parameters
    ----------
    m : float
        At least 1. psi(theta) is (-1)^k cos(m theta) - 2k with k = floor(m theta / pi).
    scale : float or Tensor, optional
        s in the place of the length of x.
    detached : bool
        Take psi(theta) - cos theta as a constant for the gradient ("characteristic gradient
        detachment" of SphereFace-R). ``gradient="caffe"`` is then that of its authors' code: W is
        normalised in place and the normalisation left out of the gradient.

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    m: float = 4.0
    scale: float | Tensor | None = None
    detached: bool = False

    def __post_init__(self) -> None:
        self._check("m", 1)
        self._check_scale()

    def is_exact(self, gradient: str) -> bool:
        """Tell whether `gradient` is ``"exact"``."""
        return is_exact(gradient)

    def core(self) -> tuple[int, list[float]]:
        """Return family 0, or 1 if detached, and m."""
        return int(self.detached), [float(self.m)]


@dataclass(frozen=True)
class LSoftmax(MarginPolicy):
    """|x| |w| psi(theta) for the label, the rows of W keeping their lengths: L-Softmax.

    Parameters
    ----------
    m : float
        At least 1; 1 is the softmax of a linear layer.
    scale : float or Tensor, optional
        s in the place of the length of x.
    bias : Tensor of shape (N,), optional
        Added to the logits; only with m = 1.

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    m: float = 2.0
    scale: float | Tensor | None = None
    bias: Tensor | None = None

    free_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._check("m", 1)
        self._check_scale()
        if self.bias is not None and self.m != 1:
            raise SphereFaceError(
                f"a bias with m = {self.m:g}", where="LSoftmax", expected="a bias only with m = 1"
            )

    def core(self) -> tuple[int, list[float]]:
        """Return family 4 and m."""
        return 4, [float(self.m)]


@dataclass(frozen=True)
class CombinedMargin(MarginPolicy):
    """s cos theta, and s (cos(m1 theta + m2) - m3) for the label, x and W being normalised.

    Where m1 theta + m2 is above pi, the label's logit stays monotone: for m1 = 1 it is
    s (cos theta - m2 sin m2 - m3), as in ArcFace's code, otherwise psi's continuation (SphereFace,
    eq. 7).

    Parameters
    ----------
    m1, m2, m3 : float
        Finite; m1 >= 1, m2 and m3 >= 0, m2 < pi.
    scale : float or Tensor, optional
        s.
    easy : bool
        Leave labels above 90 degrees without m1 and m2 (ArcFace's easy margin).

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    scale: float | Tensor | None = 64.0
    easy: bool = False

    def __post_init__(self) -> None:
        self._check("m1", 1)
        self._check("m2", 0, math.pi)
        self._check("m3", 0)
        self._check_scale()

    def core(self) -> tuple[int, list[float]]:
        """Return family 2, or 3 if easy, and m1, m2 and m3."""
        return 2 + int(self.easy), [float(self.m1), float(self.m2), float(self.m3)]


@dataclass(frozen=True)
class CosineMargin(MarginPolicy):
    """s h(x.w / s) for the label and x.w for the others: a margin on cosines that are ready.

    Neither x nor W is normalised, and the gradients are those of this formula. It is what Caffe's
    layers do behind others that have normalised (by roots with a small constant below them), x
    having been multiplied by s.

    Parameters
    ----------
    length : float
        s, finite and not 0.
    form : {"add", "angle", "combined"}
        h(c): ``"add"``, c - m3 (LabelSpecificAdd); ``"angle"``, cos(theta + m2), and c - m2 sin m2
        from theta = pi - m2 on (CosinAddm); ``"combined"``, cos(m1 theta + m2) - m3, which rises
        again beyond pi (CombinedMargin).
    m1, m2, m3 : float
        Finite.

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    length: float = 1.0
    form: str = "add"
    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0

    scale: float | Tensor | None = field(default=None, init=False, repr=False)

    free_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("length", "m1", "m2", "m3"):
            self._check(name, -_FINITE)
        if self.length == 0 or self.form not in _FORMS:
            raise SphereFaceError(
                f"length is {self.length!r}, form {self.form!r}",
                where="CosineMargin",
                expected=f"a length other than 0, and a form of {', '.join(_FORMS)}",
            )

    def core(self) -> tuple[int, list[float]]:
        """Return family 6 and s, the form, m1, m2 and m3."""
        numbers = (self.length, _FORMS.index(self.form), self.m1, self.m2, self.m3)
        return 6, [float(value) for value in numbers]


@dataclass(frozen=True)
class SphereFace2(MarginPolicy):
    """A binary loss for each class, of the logit r (g(cos theta) -+ m) + b: SphereFace2 (type C).

    g(c) = 2 ((c + 1) / 2)^t - 1. The loss of a row is (alpha softplus(-z) of the label's logit z
    and (1 - alpha) softplus(z) of each other) / r. The gradient takes g(c) - c as a constant;
    ``gradient="caffe"`` normalises W in place and leaves that out, as its authors' code.

    Parameters
    ----------
    margin : float
        m >= 0.
    scale : float
        r > 0, a number: it divides the loss, too.
    t : float
        Exponent of g, > 0.
    alpha : float
        Weight of the label's loss, 0 to 1.
    bias : Tensor of one value or (N,), optional
        b; None is 0. `initial_bias` has the paper's start.

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    margin: float = 0.4
    scale: float = 30.0
    t: float = 3.0
    alpha: float = 0.7
    bias: Tensor | None = None

    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._check("margin", 0)
        self._check("t", 1e-3)
        self._check("alpha", 0, 1 + 1e-9)
        self._check("scale", 1e-6)

    def is_exact(self, gradient: str) -> bool:
        """Tell whether `gradient` is ``"exact"``."""
        return is_exact(gradient)

    def core(self) -> tuple[int, list[float]]:
        """Return family 5 and m, t, alpha and r."""
        return 5, [float(v) for v in (self.margin, self.t, self.alpha, self.scale)]

    def initial_bias(self, num_classes: int) -> float:
        """Return the b that makes the loss smallest where all angles are 90 degrees.

        Raises
        ------
        SphereFaceError
            There are fewer than 2 classes, or alpha is 0 or 1.
        """
        if num_classes < 2 or not 0 < self.alpha < 1:
            raise SphereFaceError(
                f"{num_classes} classes and alpha {self.alpha:g}",
                where="SphereFace2.initial_bias",
                expected="at least 2 classes and 0 < alpha < 1",
            )
        z = self.alpha / ((1 - self.alpha) * (num_classes - 1))
        g = 2 * 0.5**self.t - 1
        own, other = self.scale * (g - self.margin), self.scale * (g + self.margin)
        root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(own - other))
        return math.log(2 * z) - other - math.log(1 - z + root)


def CosFace(  # noqa: N802
    margin: float = 0.35, scale: float | Tensor | None = 64.0
) -> CombinedMargin:
    """Return s (cos theta - margin) for the label: CosFace and AM-Softmax."""
    return CombinedMargin(m3=margin, scale=scale)


def ArcFace(  # noqa: N802
    margin: float = 0.5, scale: float | Tensor | None = 64.0, easy: bool = False
) -> CombinedMargin:
    """Return s cos(theta + margin) for the label."""
    return CombinedMargin(m2=margin, scale=scale, easy=easy)


def NormFace(scale: float | Tensor | None = 20.0) -> CombinedMargin:  # noqa: N802
    """Return s cos theta: no margin, both sides normalised. vMFML is the same with a learned s."""
    return CombinedMargin(scale=scale)


def COCO(scale: float | Tensor | None = 30.0) -> CombinedMargin:  # noqa: N802
    """Return s cos theta, as `NormFace`: the congenerous cosine loss over class weights."""
    return CombinedMargin(scale=scale)


def L2Softmax(  # noqa: N802
    scale: float | Tensor | None = 16.0, bias: Tensor | None = None
) -> LSoftmax:
    """Return w.x + b with x at length `scale` and W free: the L2-constrained softmax."""
    return LSoftmax(1.0, scale, bias)


def SphereFaceR(m: float = 1.5, scale: float | Tensor | None = 30.0) -> ASoftmax:  # noqa: N802
    """Return s psi(theta) for the label with psi - cos a constant for the gradient.

    `scale` None leaves x as it is (the paper's variant without feature normalisation).
    """
    return ASoftmax(m, scale, detached=True)


def policy_of(
    margin: float | str | MarginPolicy, where: str = "MarginInnerProduct"
) -> MarginPolicy:
    """Return the policy: a number is the m of A-Softmax, as is one of Caffe's names.

    `where` is who was given it, for errors.

    Raises
    ------
    SphereFaceError
        `margin` is none of these.
    """
    if isinstance(margin, MarginPolicy):
        return margin
    try:
        return ASoftmax(margin_of(margin))
    except SphereFaceError as error:
        if isinstance(margin, str) and error.fix:  # nearly one of Caffe's names
            raise
        called = f"; {margin.__name__}() is one" if callable(margin) else ""
        raise SphereFaceError(
            f"margin is {margin!r}",
            where=where,
            expected="the m >= 1 of A-Softmax, one of SINGLE, DOUBLE, TRIPLE, QUADRUPLE, or a"
            " member of sphereface.margin_policy",
            fix=f"as in margin_policy.CosFace(0.35, scale=64){called}",
        ) from None
