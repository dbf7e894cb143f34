from __future__ import annotations

import pytest

from sphereface import pycaffe as caffe
from sphereface.pycaffe import timer


@pytest.fixture
def clock(monkeypatch):
    """Return the readings that the timer will see, in seconds."""
    readings = []
    monkeypatch.setattr(timer.time, "perf_counter", lambda: readings.pop(0))
    return readings


def test_milliseconds_between_start_and_stop(clock):
    watch = caffe.Timer()
    assert watch.ms == 0
    watch.stop()
    clock += [10.0, 10.25, 11.0, 11.5]
    watch.start()
    watch.start()  # runs already
    watch.stop()
    assert watch.ms == 250
    watch.start()
    assert watch.ms == 500  # stops it, as Caffe's MilliSeconds does
    assert not clock
