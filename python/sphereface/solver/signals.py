"""SIGINT, SIGHUP and SIGTERM as requests to a solver: stop, snapshot or none.

Source: util/signal_handler.cpp and the flags --sigint_effect and --sighup_effect of Caffe's tool.
What differs: while a stop is not yet served, another such signal acts as if there were no handler,
so a second Ctrl-C ends the program at once; snapshots survive that. SIGTERM, which ends Caffe's
tool without a snapshot, stops too: it is what schedulers and containers send before they kill.
"""

from __future__ import annotations

import enum
import signal
from types import FrameType, TracebackType
from typing import Any

from sphereface.errors import SphereFaceError, nearest

__all__ = ["Action", "SignalActions"]


class Action(enum.Enum):
    """What a solver is asked to do after an iteration."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"


class SignalActions:
    """Context manager whose object, when called, returns the next `Action` asked for by a signal.

    Parameters
    ----------
    sigint, sighup, sigterm : {"stop", "snapshot", "none"}
        What Ctrl-C, a hangup and a termination ask for; of none, the signal keeps its usual effect.

    Attributes
    ----------
    stopped_by : int or None
        The signal whose stop was handed out last.

    Examples
    --------
    >>> with SignalActions(sigint="stop", sighup="snapshot") as action:
    ...     Solver("solver.prototxt", action=action).solve()  # doctest: +SKIP
    """

    def __init__(
        self, sigint: str = "stop", sighup: str = "snapshot", sigterm: str = "stop"
    ) -> None:
        effects = {
            signal.SIGINT: ("sigint_effect", sigint),
            signal.SIGTERM: ("sigterm_effect", sigterm),
        }
        if hasattr(signal, "SIGHUP"):
            effects[signal.SIGHUP] = ("sighup_effect", sighup)
        self._effects = {number: _action(*effect) for number, effect in effects.items()}
        self._before: dict[int, Any] = {}
        self._pending: list[int] = []
        self.stopped_by: int | None = None

    def __enter__(self) -> SignalActions:
        for number, action in self._effects.items():
            if action is not Action.NONE:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __call__(self) -> Action:
        """Return the action of the oldest signal not yet served."""
        if not self._pending:
            return Action.NONE
        number = self._pending.pop(0)
        if number in self._before:
            signal.signal(number, self._handle)
        action = self._effects[signal.Signals(number)]
        if action is Action.STOP:
            self.stopped_by = number
        return action

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number not in self._pending:
            self._pending.append(number)
        if self._effects[signal.Signals(number)] is Action.STOP:
            signal.signal(number, self._before[number])


def _action(flag: str, effect: str) -> Action:
    effects = [action.value for action in Action]
    if effect not in effects:
        raise SphereFaceError(
            f'{flag} "{effect}"', expected=", ".join(effects), fix=nearest(effect, effects)
        )
    return Action(effect)
