from __future__ import annotations

import pytest

from sphereface.caffe.load import load_graph
from sphereface.caffe.program import make_program
from sphereface.errors import SphereFaceError

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "split" type: "Split" bottom: "x" top: "a" top: "b" }
layer { name: "relu" type: "PReLU" bottom: "a" top: "a" }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "y" }
"""


def test_steps_name_slots():
    graph = load_graph(NET)
    x, a, b, a2, y = range(5)
    assert graph.blob_names == ["x", "a", "b", "a", "y"]
    program = make_program(graph, [], [])
    assert program.steps == [
        ((x,), -1, (a, b), (x,)),
        ((a,), a2, (a2,), (a,)),
        ((a2, b), y, (y,), (b, a2)),
    ]
    assert program.results == [("y", y)]


def test_what_is_wanted_is_kept():
    graph = load_graph(NET)
    x, a, b, a2, y = range(5)
    program = make_program(graph, [("split", b)], ["a", "x"])
    assert [step.frees for step in program.steps] == [(), (a,), ()]
    assert program.results == [("y", y), ("split", b), ("a", a2), ("x", x)]


def test_an_unknown_blob():
    with pytest.raises(SphereFaceError, match='no blob "A"; did you mean "a"'):
        make_program(load_graph(NET), [], ["A"])
