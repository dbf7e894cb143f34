"""The rules are checked against NetStateRule's definition, written out here on plain values."""

from __future__ import annotations

import itertools

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import schema, text
from sphereface.proto.state_rules import (
    filter_by_state,
    filter_net,
    kept_layers,
    meets_rule,
    phase_number,
)


def names(net):
    return [layer.name for layer in net.layer]


def test_every_combination_of_conditions():
    rules = itertools.product((None, 0, 1), (None, 0, 2), (None, 1, 2), ((), ("a",), ("a", "b")),
                              ((), ("b",), ("c",)))  # fmt: skip
    states = list(itertools.product((0, 1), (-1, 0, 1, 2), ((), ("a",), ("a", "b"), ("c", "a"))))
    outcomes = set()
    for phase, low, high, stages, forbidden in rules:
        rule = schema.message("NetStateRule")(
            phase=phase, min_level=low, max_level=high, stage=stages, not_stage=forbidden
        )
        for at, level, given in states:
            expected = True
            if phase is not None and phase != at:
                expected = False
            if low is not None and level < low:
                expected = False
            if high is not None and level > high:
                expected = False
            for stage in stages:
                if stage not in given:
                    expected = False
            for stage in forbidden:
                if stage in given:
                    expected = False
            state = schema.message("NetState")(phase=at, level=level, stage=given)
            assert meets_rule(state, rule) is expected
            outcomes.add(expected)
    assert outcomes == {True, False}


TRAIN_TEST = """
layer { name: "train" type: "Data" include { phase: TRAIN } }
layer { name: "test" type: "Data" include { phase: TEST } }
layer { name: "both" type: "ReLU" }
layer { name: "not_train" type: "Accuracy" exclude { phase: TRAIN } }
layer { name: "either" type: "ReLU" include { phase: TRAIN } include { stage: "deploy" } }
layer { name: "neither" type: "ReLU" exclude { phase: TRAIN } exclude { stage: "deploy" } }
layer { name: "and" type: "ReLU" include { phase: TEST stage: "deploy" not_stage: "x" } }
layer { name: "deep" type: "ReLU" include { min_level: 1 max_level: 2 } }
layer { name: "empty_include" type: "ReLU" include { } }
layer { name: "empty_exclude" type: "ReLU" exclude { } }
"""


@pytest.mark.parametrize(
    ("phase", "level", "stages", "expected"),
    [
        ("TRAIN", 0, [], "train both either empty_include"),
        ("TEST", 0, [], "test both not_train neither empty_include"),
        ("test", 0, ["deploy"], "test both not_train either and empty_include"),
        (1, 0, ["deploy", "x"], "test both not_train either empty_include"),
        (0, 1, [], "train both either deep empty_include"),
        (0, 2, [], "train both either deep empty_include"),
        (0, 3, [], "train both either empty_include"),
    ],
)
def test_filter_net(phase, level, stages, expected):
    net = text.read(TRAIN_TEST)
    filtered = filter_net(net, phase, level, stages)
    assert names(filtered) == expected.split()
    assert filtered.state.phase == phase_number(phase)
    assert (filtered.state.level, list(filtered.state.stage)) == (level, stages)
    assert net == text.read(TRAIN_TEST)


def test_state_of_the_net_itself():
    net = text.read('state { phase: TRAIN level: 5 stage: "deploy" }' + TRAIN_TEST)
    assert names(filter_by_state(net)) == ["train", "both", "either", "empty_include"]
    # Phase and level are replaced, the stages stay, as Caffe's Net(file, phase, level, stages).
    filtered = filter_net(net, "TEST", 1, ["x"])
    assert names(filtered) == ["test", "both", "not_train", "either", "deep", "empty_include"]
    assert list(filtered.state.stage) == ["deploy", "x"]


def test_state_defaults_to_test():
    net = text.read(TRAIN_TEST)
    assert kept_layers(net) == [1, 2, 3, 5, 8]


def test_both_kinds_of_rules_are_an_error():
    net = text.read('layer { name: "d" type: "Data" include { } exclude { } }')
    with pytest.raises(SphereFaceError, match=r'^layer "d" \(Data\): both include and exclude'):
        filter_net(net, "TRAIN")


@pytest.mark.parametrize("phase", ["TRIAN", 2, ""])
def test_unknown_phase(phase):
    with pytest.raises(SphereFaceError, match='expected "TRAIN" or "TEST"'):
        phase_number(phase)
