import pytest

from sphereface import SphereFaceError
from sphereface.margin_policy import ArcFace, CombinedMargin, CosFace, NormFace, core_margin


def test_members_are_combined_margins():
    assert CosFace(0.2, 30) == CombinedMargin(1, 0, 0.2, 30)
    assert ArcFace(0.3, 16, easy=True) == CombinedMargin(1, 0.3, 0, 16, easy=True)
    assert NormFace(25) == CombinedMargin(1, 0, 0, 25)
    # The papers' values.
    assert CosFace() == CombinedMargin(m3=0.35, scale=64)
    assert ArcFace() == CombinedMargin(m2=0.5, scale=64)


@pytest.mark.parametrize(
    ("margin", "core"),
    [
        (3, (0, 3.0, 0.0, 0.0)),
        ("QUADRUPLE", (0, 4.0, 0.0, 0.0)),
        (CosFace(0.2), (1, 1.0, 0.0, 0.2)),
        (CombinedMargin(1.1, 0.2, 0.3, easy=True), (2, 1.1, 0.2, 0.3)),
    ],
)
def test_what_the_operators_take(margin, core):
    assert core_margin(margin) == core


@pytest.mark.parametrize("name", ["m1", "m2", "m3", "scale"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1", None])
def test_bad_values_are_named(name, value):
    with pytest.raises(SphereFaceError, match=f"CombinedMargin: {name} is "):
        CombinedMargin(**{name: value})


def test_margin_of_another_kind_is_named():
    with pytest.raises(SphereFaceError, match=r"margin is 1.5; expected 1, 2, 3, 4"):
        core_margin(1.5)
