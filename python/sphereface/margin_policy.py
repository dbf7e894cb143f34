"""The members of the margin family, as what they make of the label's angle theta.

Sources: Wang et al., "CosFace", CVPR 2018, and "Additive Margin Softmax", 2018; Deng et al.,
"ArcFace", CVPR 2019, and its authors' combined margin; Wang et al., "NormFace", ACM MM 2017. The
formulas are the core's (csrc/include/sphereface/margin.h), which has A-Softmax as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sphereface.errors import SphereFaceError
from sphereface.margin_type import margin_of

__all__ = ["ArcFace", "CombinedMargin", "CosFace", "NormFace", "core_margin"]


@dataclass(frozen=True)
class CombinedMargin:
    """s cos theta, and s (cos(m1 theta + m2) - m3) for the label, x and W being normalised.

    Where m1 theta + m2 is above pi, the label's logit stays monotone: for m1 = 1 it is
    s (cos theta - m2 sin m2 - m3), as in ArcFace's code, otherwise psi's continuation (SphereFace,
    eq. 7).

    Parameters
    ----------
    m1, m2, m3 : float
        Finite; m1 >= 1, m2 and m3 >= 0, m2 < pi.
    scale : float
        s > 0.
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
    scale: float = 64.0
    easy: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("m1", 1, math.inf), ("m2", 0, math.pi), ("m3", 0, math.inf)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value < high:
                raise SphereFaceError(
                    f"{name} is {value!r}",
                    where=type(self).__name__,
                    expected=f"{low} <= {name} < {high:.4g}",
                )
        if not isinstance(self.scale, (int, float)) or not 0 < self.scale < math.inf:
            raise SphereFaceError(
                f"scale is {self.scale!r}",
                where=type(self).__name__,
                expected="a positive finite number",
            )


def CosFace(margin: float = 0.35, scale: float = 64.0) -> CombinedMargin:  # noqa: N802
    """Return s (cos theta - margin) for the label: CosFace and AM-Softmax."""
    return CombinedMargin(m3=margin, scale=scale)


def ArcFace(  # noqa: N802
    margin: float = 0.5, scale: float = 64.0, easy: bool = False
) -> CombinedMargin:
    """Return s cos(theta + margin) for the label."""
    return CombinedMargin(m2=margin, scale=scale, easy=easy)


def NormFace(scale: float = 20.0) -> CombinedMargin:  # noqa: N802
    """Return s cos theta: no margin, both sides normalised."""
    return CombinedMargin(scale=scale)


def core_margin(margin: int | str | CombinedMargin) -> tuple[int, float, float, float]:
    """Return family, m1, m2 and m3 as the operators take them.

    Raises
    ------
    SphereFaceError
        `margin` is no number 1 to 4, name of one or policy.
    """
    if isinstance(margin, CombinedMargin):
        return (2 if margin.easy else 1, margin.m1, margin.m2, margin.m3)
    return (0, float(margin_of(margin)), 0.0, 0.0)
