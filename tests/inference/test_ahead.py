from __future__ import annotations

import threading
from functools import partial

import pytest

from sphereface.inference.ahead import ahead


def jobs(drawn, count=20):
    for number in range(count):
        drawn.append(number)
        yield partial(pow, number, 2)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_order_and_bound(workers):
    drawn: list[int] = []
    found = []
    for value in ahead(jobs(drawn), workers, 5):
        found.append(value)
        assert len(drawn) <= len(found) + 5
    assert found == [number**2 for number in range(20)]


def test_work_is_done_before_it_is_asked_for():
    done = threading.Semaphore(0)
    results = ahead(iter([lambda: 1] + [done.release] * 3), 1, 4)
    assert next(results) == 1
    for _ in range(3):
        assert done.acquire(timeout=60)
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_its_place(workers):
    results = ahead([lambda: 1, lambda: 1 // 0, lambda: 2], workers, 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
