"""The six update rules, on lists of tensors at once.

Source: sgd_solver.cpp, nesterov_, adagrad_, rmsprop_, adadelta_ and adam_solver.cpp of Caffe. The
rate lies inside SGD's and Nesterov's history, so a new rate acts gradually. What differs: blobs of
lr_mult 0 keep a history of zeros; Caffe lets Adam and its kin gather their weight decay there,
which no weight ever sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError

__all__ = ["RULES", "Rule", "Tensors"]

Tensors: TypeAlias = list[Tensor]


@dataclass(frozen=True)
class Rule:
    """One solver type with the constants of a SolverParameter.

    Attributes
    ----------
    type : str
        Caffe's name.
    histories : int
        How many history blobs there are for a parameter. In a solver state all the first come
        before all the second.
    """

    momentum: float
    momentum2: float
    rms_decay: float
    delta: float

    type: ClassVar[str] = ""
    histories: ClassVar[int] = 1

    @classmethod
    def of(cls, param: Any) -> Rule:
        """Return the rule with the constants of a SolverParameter."""
        return cls(param.momentum, param.momentum2, param.rms_decay, param.delta)

    @classmethod
    def check(cls, param: Any, where: str) -> None:
        """Refuse constants that the rule cannot take."""

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """Advance the histories and return what is to be subtracted from the weights.

        Parameters
        ----------
        grads : list of Tensor
            Clipped, normalised and regularised gradients; used as scratch.
        history : sequence of list of Tensor
            `histories` lists, each as long as `grads`.
        rate : float
            ``rate * lr_mult``, the same for all of `grads`.
        iteration : int
            Updates done before.
        """
        raise NotImplementedError


class SGD(Rule):
    """``v = momentum v + rate g``; the update is v."""

    type = "SGD"

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        (v,) = history
        torch._foreach_mul_(v, self.momentum)
        torch._foreach_add_(v, grads, alpha=rate)
        return v


class Nesterov(Rule):
    """``v' = momentum v + rate g``; the update is ``(1 + momentum) v' - momentum v``."""

    type = "Nesterov"

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        (v,) = history
        # (1 + momentum) v' - momentum v = rate g + momentum v'
        torch._foreach_mul_(v, self.momentum)
        torch._foreach_mul_(grads, rate)
        torch._foreach_add_(v, grads)
        torch._foreach_add_(grads, v, alpha=self.momentum)
        return grads


class AdaGrad(Rule):
    """``h = h + g^2``; the update is ``rate g / (sqrt(h) + delta)``."""

    type = "AdaGrad"

    @classmethod
    def check(cls, param: Any, where: str) -> None:
        """Refuse momentum."""
        _refuse_momentum(param, where)

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        (h,) = history
        torch._foreach_addcmul_(h, grads, grads)
        return _divided_by_root(grads, h, self.delta, rate)


class RMSProp(Rule):
    """``h = rms_decay h + (1 - rms_decay) g^2``; the update is ``rate g / (sqrt(h) + delta)``."""

    type = "RMSProp"

    @classmethod
    def check(cls, param: Any, where: str) -> None:
        """Refuse momentum, and an rms_decay outside [0, 1)."""
        _refuse_momentum(param, where)
        if not 0 <= param.rms_decay < 1:
            raise SphereFaceError(
                f"rms_decay {param.rms_decay:g}", where=where, expected="at least 0, less than 1"
            )

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        (h,) = history
        torch._foreach_mul_(h, self.rms_decay)
        torch._foreach_addcmul_(h, grads, grads, value=1 - self.rms_decay)
        return _divided_by_root(grads, h, self.delta, rate)


class AdaDelta(Rule):
    """``h = momentum h + (1 - momentum) g^2``, ``u = g sqrt((d + delta) / (h + delta))``,
    ``d = momentum d + (1 - momentum) u^2``; the update is ``rate u``.
    """  # noqa: D205

    type = "AdaDelta"
    histories = 2

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        h, d = history
        torch._foreach_mul_(h, self.momentum)
        torch._foreach_addcmul_(h, grads, grads, value=1 - self.momentum)
        ratio = torch._foreach_add(d, self.delta)
        torch._foreach_div_(ratio, torch._foreach_add(h, self.delta))
        torch._foreach_sqrt_(ratio)
        torch._foreach_mul_(grads, ratio)
        torch._foreach_mul_(d, self.momentum)
        torch._foreach_addcmul_(d, grads, grads, value=1 - self.momentum)
        torch._foreach_mul_(grads, rate)
        return grads


class Adam(Rule):
    """``m = momentum m + (1 - momentum) g``, ``v = momentum2 v + (1 - momentum2) g^2``; with t the
    update's number, the update is
    ``rate sqrt(1 - momentum2^t) / (1 - momentum^t) m / (sqrt(v) + delta)``.
    """  # noqa: D205

    type = "Adam"
    histories = 2

    @classmethod
    def check(cls, param: Any, where: str) -> None:
        """Refuse moments outside [0, 1), of which the correction is no number."""
        for name in ("momentum", "momentum2"):
            if not 0 <= getattr(param, name) < 1:
                raise SphereFaceError(
                    f"{name} {getattr(param, name):g} of Adam",
                    where=where,
                    expected="at least 0, less than 1",
                )

    def updates(
        self, grads: Tensors, history: Sequence[Tensors], rate: float, iteration: int
    ) -> Tensors:
        """See `Rule.updates`."""
        m, v = history
        t = iteration + 1
        correction = math.sqrt(1 - self.momentum2**t) / (1 - self.momentum**t)
        torch._foreach_mul_(m, self.momentum)
        torch._foreach_add_(m, grads, alpha=1 - self.momentum)
        torch._foreach_mul_(v, self.momentum2)
        torch._foreach_addcmul_(v, grads, grads, value=1 - self.momentum2)
        torch._foreach_copy_(grads, m)
        return _divided_by_root(grads, v, self.delta, rate * correction)


def _divided_by_root(grads: Tensors, squares: Tensors, delta: float, rate: float) -> Tensors:
    root = torch._foreach_sqrt(squares)
    torch._foreach_add_(root, delta)
    torch._foreach_div_(grads, root)
    torch._foreach_mul_(grads, rate)
    return grads


def _refuse_momentum(param: Any, where: str) -> None:
    if param.momentum:
        raise SphereFaceError(
            f"momentum {param.momentum:g} with {param.type}", where=where, expected="no momentum"
        )


RULES: dict[str, type[Rule]] = {
    rule.type: rule for rule in (SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam)
}
