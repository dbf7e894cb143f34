from __future__ import annotations

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto.text import parse

NET = 'name: "n" layer { name: "a" type: "ReLU" bottom: "x" top: "y" }'
SOLVER = 'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            SOLVER,
            "a solver's prototxt; expected a net's prototxt; its net is in \"train.prototxt\"",
        ),
        ("train_net: 'a' base_lr: 1", 'a solver\'s prototxt; .*; its net is in "a"'),
        ('item { name: "none" label: 0 display_name: "b" }', "a label map; expected a net's"),
        ("item { id: 1 name: 'face' }", "a label map; expected a net's"),
        ('node { name: "x" op: "Const" } versions { producer: 9 }', "a TensorFlow graph"),
        ("model { ssd { } } train_config { }", "a TensorFlow Object Detection pipeline"),
        ('name: "n" op { type: "Relu" } external_input: "x"', "a Caffe2 net"),
        ('name: "n" platform: "x" max_batch_size: 8 input [ { name: "a" } ]', "a Triton model"),
        ('name: "a" type: "ReLU" bottom: "x" top: "y" relu_param { }', "a layer's fields; .*put"),
    ],
)
def test_texts_that_are_no_net(text, problem):
    with pytest.raises(SphereFaceError, match=f"^file: {problem}"):
        parse(text, "NetParameter", "file")


def test_a_net_in_the_place_of_a_solver():
    with pytest.raises(SphereFaceError, match="^file: a net's prototxt; expected a solver's"):
        parse(NET, "SolverParameter", "file")
    with pytest.raises(SphereFaceError, match="^file: a label map; expected a solver's"):
        parse("item { }", "SolverParameter", "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [(NET + " lair { }", "NetParameter"), (SOLVER + " momentun: 1", "SolverParameter")],
)
def test_one_unknown_field_makes_no_other_kind(text, message):
    with pytest.raises(SphereFaceError, match='unknown field "(lair|momentun)"; did you mean'):
        parse(text, message, "file")
