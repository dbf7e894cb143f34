from __future__ import annotations

import pickle

import pytest

from sphereface.caffe.layer import UnknownShapeError
from sphereface.errors import ExistsError, NonFiniteError, SphereFaceError, nearest


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
