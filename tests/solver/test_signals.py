from __future__ import annotations

import os
import signal

import pytest

from sphereface.errors import SphereFaceError
from sphereface.solver import Action, SignalActions


@pytest.fixture(autouse=True)
def usual_interrupt():
    """Give SIGINT Python's meaning: a shell's background jobs start with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_defaults_are_caffes():
    with SignalActions() as action:
        assert action() is Action.NONE
        send(signal.SIGHUP)
        assert action() is Action.SNAPSHOT
        send(signal.SIGINT)
        assert action() is Action.STOP
        assert action() is Action.NONE


def test_a_termination_stops():
    before = signal.getsignal(signal.SIGTERM)
    with SignalActions() as action:
        assert action.stopped_by is None
        send(signal.SIGTERM)
        assert action() is Action.STOP
        assert action.stopped_by == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    with SignalActions(sigterm="none"):
        assert signal.getsignal(signal.SIGTERM) is before


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]
    with SignalActions() as action:
        send(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)] == before
    assert action() is Action.STOP
    assert signal.getsignal(signal.SIGINT) is before[0]


def test_second_stop_interrupts_at_once():
    with SignalActions() as action:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert action() is Action.STOP
        send(signal.SIGINT)  # served, so the next is a request again
        assert action() is Action.STOP


def test_hangups_are_one_request():
    with SignalActions() as action:
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        assert action() is Action.SNAPSHOT
        assert action() is Action.NONE


def test_effects_are_configurable():
    with SignalActions(sigint="snapshot", sighup="stop") as action:
        send(signal.SIGINT)
        assert action() is Action.SNAPSHOT
        send(signal.SIGHUP)
        assert action() is Action.STOP
    with SignalActions(sigint="none"), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_unknown_effect():
    with pytest.raises(SphereFaceError, match='sighup_effect "snap"; expected none, stop'):
        SignalActions(sighup="snap")


def test_interrupt_during_a_run(regression, rows, folder):
    with SignalActions() as action:
        solver = regression(
            'base_lr: 0.1 lr_policy: "fixed" max_iter: 50 snapshot_prefix: "r"', action=action
        )

        def batches():
            for index, batch in enumerate(rows(50)):
                if index == 2:
                    send(signal.SIGHUP)
                if index == 5:
                    send(signal.SIGINT)
                yield batch

        solver.solve(batches())
    assert solver.iter == 6
    assert sorted(p.name for p in folder.glob("*.solverstate")) == [
        "r_iter_3.solverstate", "r_iter_6.solverstate",
    ]  # fmt: skip
