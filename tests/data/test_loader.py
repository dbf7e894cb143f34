import threading
import time

import pytest

from sphereface.data.loader import Job, Loader


class Numbers:
    """Jobs of three parts; those of early jobs take longest."""

    def __init__(self, broken=()):
        self.planned, self.broken, self.threads = 0, broken, set()

    def plan(self):
        number = self.planned
        self.planned += 1
        result = [None] * 3
        return Job(result, [lambda part=part: self.work(result, number, part) for part in range(3)])

    def work(self, result, number, part):
        self.threads.add(threading.current_thread())
        time.sleep(0.002 / (1 + number))
        if number in self.broken:
            raise ArithmeticError(number)
        result[part] = (number, part)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_complete_and_in_order(workers):
    numbers = Numbers()
    loader = Loader(numbers.plan, workers, ahead=2)
    for number in range(20):
        assert loader.next() == [(number, part) for part in range(3)]
    loader.close()
    ours = {t for t in numbers.threads if t.name.startswith("sphereface-data")}
    assert len(ours) <= workers
    assert (numbers.threads == ours) == (workers > 0)


def test_it_is_ahead_by_as_much_as_it_was_told():
    numbers = Numbers()
    loader = Loader(numbers.plan, 1, ahead=4)
    loader.next()
    assert numbers.planned == 5
    loader.close()
    numbers = Numbers()
    loader = Loader(numbers.plan, 0, ahead=4)
    loader.next()
    assert numbers.planned == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_with_its_own_job_and_stays(workers):
    loader = Loader(Numbers(broken=[2]).plan, workers, ahead=4)
    assert [loader.next()[0][0] for _ in range(2)] == [0, 1]
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="2"):
            loader.next()
    loader.close()


def test_closing_waits_for_the_threads_and_ends_them():
    numbers = Numbers()
    loader = Loader(numbers.plan, 2, ahead=4)
    loader.next()
    loader.close()
    assert numbers.threads.isdisjoint(threading.enumerate())
    assert loader.next()[0][0] == numbers.planned - 5  # anew, with what is planned next
    loader.close()
