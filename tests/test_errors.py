from __future__ import annotations

import pickle

import pytest

from sphereface.caffe.layer import UnknownShapeError
from sphereface.errors import (
    ExistsError,
    NonFiniteError,
    ProblemsError,
    SphereFaceError,
    nearest,
    raise_problems,
)


def test_the_text_has_its_four_parts():
    error = SphereFaceError("x is 3", where="net.prototxt:4", expected="1 or 2", fix="write 1")
    assert str(error) == "net.prototxt:4: x is 3; expected 1 or 2; write 1"
    assert str(SphereFaceError("odd")) == "odd"
    assert error.on_command_line() is error


def test_an_outer_place_keeps_class_and_fields():
    inner = NonFiniteError("x is NaN", where="fc6", expected="numbers", fix="lower the rate")
    outer = inner.at("iteration 7")
    assert type(outer) is NonFiniteError
    assert str(outer) == "iteration 7: fc6: x is NaN; expected numbers; lower the rate"
    assert str(inner).startswith("fc6: ")
    assert str(inner.at("", fix="stop")) == "fc6: x is NaN; expected numbers; stop"
    assert str(SphereFaceError("odd").at("a.txt")) == "a.txt: odd"


@pytest.mark.parametrize(
    "error",
    [
        SphereFaceError("odd", where="a", fix="b"),
        UnknownShapeError("data", "no shape", where="net.prototxt"),
        ExistsError("out.npz"),
    ],
)
def test_errors_with_other_arguments_keep_theirs(error):
    outer = pickle.loads(pickle.dumps(error.at("here")))  # noqa: S301 - made in this line
    assert type(outer) is type(error)
    assert str(outer) == f"here: {error}"
    assert vars(outer) == vars(error) | {"where": f"here: {error.where}"}
    assert error.problem in repr(outer)


def test_a_command_names_its_option_for_an_output_that_exists():
    error = ExistsError("out.npz")
    assert str(error).endswith("pass overwrite=True")
    assert str(error.on_command_line()).endswith("--overwrite to replace it")


def test_nearest_folds_case():
    assert nearest("KERNAL_SIZE", ["kernel_size", "pad"]) == 'did you mean "kernel_size"?'
    assert nearest("zzz", ["kernel_size"]) == ""


def test_all_problems_are_told_in_groups():
    odd = [SphereFaceError("odd", where=f"n:{line}", fix="mend it") for line in range(1, 9)]
    other = ExistsError("out.npz")
    with pytest.raises(ProblemsError) as caught:
        raise_problems([*odd[:4], other, *odd[4:]], "n")
    assert str(caught.value) == (
        "n: 9 problems\n"
        "  odd; mend it\n    n:1\n    n:2\n    n:3\n    n:4\n    n:5\n    n:6\n    and 2 more\n"
        "  exists already; give another name, or pass overwrite=True\n    out.npz"
    )
    told = str(caught.value.on_command_line())
    assert told.endswith(
        "  exists already; give another name, or --overwrite to replace it\n    out.npz"
    )
    with pytest.raises(ExistsError):
        raise_problems([other])
    with pytest.raises(ProblemsError, match="3 problems"):
        raise_problems([ProblemsError(odd[:2]), other])
    raise_problems([])


def test_problems_can_be_pickled():
    error = ProblemsError([SphereFaceError("odd", where="1"), ExistsError("out.npz")], "n")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    assert type(again) is ProblemsError
    assert str(again) == str(error)


def test_a_huge_name_makes_no_huge_message():
    name = "x" * 1_000_000
    text = str(SphereFaceError(f'unknown "{name}"', where=name, fix="a " * 100_000))
    assert len(text) < 21_000
    assert text.startswith("x" * 100 + "...")
    many = ProblemsError([SphereFaceError(f"{name} {index}", where=name) for index in range(500)])
    assert len(str(many)) < 21_000
    assert "and 460 more" in str(many)
