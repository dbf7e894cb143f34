import math

import pytest

from sphereface import SphereFaceError
from sphereface.annealing import Annealing

PAPER = Annealing(1000, 0.12, 1, 5)


@pytest.mark.parametrize("iteration", [1, 2, 500, 1657, 1658, 1659, 28000])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_formula(iteration, power):
    expected = max(1000 * (1 + 0.12 * iteration) ** -power, 5)
    assert Annealing(1000, 0.12, power, 5).at(iteration) == pytest.approx(expected, rel=1e-6)


def test_steps_of_the_paper():
    # 1000 / (1 + 0.12 n) = 5 at n = 1658.3
    assert PAPER.steps == 1659
    assert PAPER.at(1658) > 5
    assert PAPER.at(1659) == 5


@pytest.mark.parametrize(
    ("annealing", "steps"),
    [
        (Annealing(), math.inf),
        (Annealing(base=3, lambda_min=5), 0),
        (Annealing(base=1000, gamma=0.12), math.inf),
        (Annealing(base=1000, lambda_min=5), math.inf),
        (Annealing(base=6, gamma=1, lambda_min=5), 1),
    ],
)
def test_steps_at_the_edges(annealing, steps):
    assert annealing.steps == steps


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1659, 20_000, 10**6])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_over_reaches_the_end_in_that_many_forwards(steps, power):
    annealing = Annealing.over(steps, power=power)
    assert annealing.at(steps) == 5
    assert steps == 1 or annealing.at(math.floor(0.99 * steps) or 1) > 5 or steps < 3
    assert annealing.at(0) == 1000


def test_over_finds_the_paper():
    assert Annealing.over(1659).gamma == pytest.approx(0.12, rel=1e-3)


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"steps": 5, "lambda_min": 0}, {"steps": 5, "base": 1},
               {"steps": 5, "power": 0}]
)  # fmt: skip
def test_over_names_bad_values(values):
    with pytest.raises(SphereFaceError, match=r"Annealing.over.*0 < lambda_min <= base"):
        Annealing.over(**values)


@pytest.mark.parametrize("name", ["base", "gamma", "power", "lambda_min"])
@pytest.mark.parametrize("value", [-1, float("nan"), 1e300, "1", None])
def test_bad_values_are_named(name, value):
    with pytest.raises(SphereFaceError, match=f"{name} is .*expected a float32 number >= 0"):
        Annealing(**{name: value})
