"""The annealing of lambda: max(lambda_min, base (1 + gamma iteration)^-power), in float32.

Source: margin_inner_product_layer of SphereFace's Caffe fork. The formula itself is the core's
(csrc/include/sphereface/annealing.h); `sphereface.ops.annealed_lambda` has it on the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from sphereface import numpy_ops
from sphereface.errors import SphereFaceError

__all__ = ["Annealing"]

_LARGEST = (2 - 2**-23) * 2.0**127  # of float32


@dataclass(frozen=True)
class Annealing:
    """How lambda falls from `base` to `lambda_min` with the count of training forwards.

    Parameters
    ----------
    base, gamma, power, lambda_min : float
        float32 numbers >= 0, named as in ``margin_inner_product_param``. The defaults are Caffe's
        (lambda = 1); the paper trained with ``Annealing(1000, 0.12, 1, 5)``.

    Raises
    ------
    SphereFaceError
        A value is out of its range.

    Examples
    --------
    >>> paper = Annealing(base=1000, gamma=0.12, lambda_min=5)
    >>> round(paper.at(501), 4), paper.steps
    (16.3613, 1659)
    >>> Annealing.over(200).steps
    200
    """

    base: float = 1.0
    gamma: float = 0.0
    power: float = 1.0
    lambda_min: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
                raise SphereFaceError(
                    f"{field.name} is {value!r}",
                    where="the annealing of lambda",
                    expected="a float32 number >= 0",
                )
            object.__setattr__(self, field.name, float(value))

    @classmethod
    def of(cls, options: Any) -> Annealing:
        """Return the annealing of a ``margin_inner_product_param`` or one with its names.

        Raises
        ------
        SphereFaceError
            A value is out of its range.
        """
        return cls(*(getattr(options, field.name) for field in fields(cls)))

    @classmethod
    def over(
        cls, steps: int, lambda_min: float = 5.0, base: float = 1000.0, power: float = 1.0
    ) -> Annealing:
        """Return the annealing that reaches `lambda_min` after `steps` training forwards.

        A run wants lambda at its end well before its own end: give about a tenth of the forwards
        of the run (the paper's values take 1,659 of 28,000). Every micro-batch of accumulated
        gradients is a forward.

        Parameters
        ----------
        steps : int
            Training forwards until lambda is `lambda_min`, at least 1.
        lambda_min, base : float
            Last and first value, ``0 < lambda_min <= base``.
        power : float
            Of the fall, > 0.

        Raises
        ------
        SphereFaceError
            A value is out of its range.
        """
        if not (steps >= 1 and 0 < lambda_min <= base and power > 0):
            raise SphereFaceError(
                f"steps {steps}, lambda_min {lambda_min:g}, base {base:g}, power {power:g}",
                where="Annealing.over",
                expected="steps >= 1, 0 < lambda_min <= base and power > 0",
            )
        # A little steeper than the line through the end, so that float32 does not miss it.
        gamma = ((base / lambda_min) ** (1 / power) - 1) / (steps - 1e-3)
        return cls(base, gamma, power, lambda_min)

    def __iter__(self) -> Iterator[float]:
        """Yield base, gamma, power and lambda_min, as the operators take them."""
        return (getattr(self, field.name) for field in fields(self))

    def at(self, iteration: int) -> float:
        """Return lambda of the training forward `iteration`, counted from 1."""
        return numpy_ops.annealed_lambda(iteration, *self)

    @property
    def steps(self) -> float:
        """The first training forward whose lambda is `lambda_min`; infinite if there is none."""
        if self.at(0) <= self.lambda_min:
            return 0
        if not (self.gamma > 0 and self.power > 0 and self.lambda_min > 0):
            return math.inf
        ratio = (self.base / self.lambda_min) ** (1 / self.power)
        guess = max(0, math.floor((ratio - 1) / self.gamma) - 1)
        return next(n for n in range(guess, guess + 4) if self.at(n) <= self.lambda_min)
