from __future__ import annotations

import re
from pathlib import Path

import pytest

from sphereface.errors import ProblemsError, SphereFaceError
from sphereface.proto.net_file import net_of_text, read_net

PROTOTXTS = Path(__file__).parent / "prototxts"

SOURCE = """name: "n"
input: "data"
input_dim: [1, 3, 8, 8]
layers { name: "a" type: RELU include { phase: TRAIN } }
layers { name: "b" type: SIGMOID }

layers {
  name: "c" type: TANH
  exclude { phase: TRAIN }
}
"""


def test_lines_follow_upgrade_and_filter():
    everything = read_net(SOURCE)
    assert everything.lines == (0, 4, 5, 7)
    assert everything.changes == ("V1 layers to layer", "input fields to an Input layer")
    assert everything.where(0) == 'prototxt: layer "input" (Input)'
    test = read_net(SOURCE, "TEST")
    assert [layer.name for layer in test.net.layer] == ["input", "b", "c"]
    assert test.lines == (0, 5, 7)
    assert test.where(2) == 'prototxt:7: layer "c" (TanH)'
    train = read_net(SOURCE, "TRAIN")
    assert [layer.name for layer in train.net.layer] == ["input", "a", "b"]
    assert train.lines == (0, 4, 5)


def test_level_and_stages():
    source = 'layer { name: "a" include { stage: "s" min_level: 2 } }'
    assert read_net(source, "TEST", 2, iter(["s"])).lines == (1,)
    assert read_net(source, "TEST", 1, ["s"]).lines == ()


def test_original_net_from_a_path():
    path = PROTOTXTS / "mtcnn_det1.prototxt"
    net = read_net(path, "TEST")
    assert net.source == str(path)
    assert net.where(1) == f'{path}:8: layer "conv1" (Convolution)'
    assert path.read_text().splitlines()[7].startswith("layer")
    assert list(net.net.layer[0].input_param.shape[0].dim) == [1, 3, 12, 12]


def test_errors_carry_the_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('layer { nme: "x" }')
    with pytest.raises(SphereFaceError, match=r'net\.prototxt:1:9: unknown field "nme"'):
        read_net(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'layers { type: RELU }\nlayer { type: "ReLU" }',
            '"layers" (1) and "layer" (1) in one net',
        ),
        ('input: "x" input_dim: 1\n', "1 input and 1 input_dim"),
    ],
)
def test_errors_of_the_upgrade_carry_the_file(text, problem, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('name: "n"\n' + text)
    with pytest.raises(SphereFaceError, match=re.escape(f'{path}: net "n": {problem}')):
        read_net(path)


def test_weights_in_the_place_of_the_prototxt(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\n\x04ORL4\xa2\x06\x10\x00\x00")
    with pytest.raises(SphereFaceError, match="a binary file; expected a prototxt"):
        read_net(path)


STRANGE = """layer { name: "x" type: "Input" top: "x" include { phase: TRAIN not_stage: "s" } }
layer { name: "p" type: "Strange" top: "p" strange_param { a: 1 } transform_param { b: 2 } }
layer { name: "r" type: "ReLU" bottom: "x" top: "r" exclude { phase: TEST } }
layer { name: "q" type: "Strange" top: "q" strange_param { a: 1 } include { phase: TRAIN } }
"""


def test_fields_of_unknown_types_are_not_what_is_wrong():
    file = net_of_text(STRANGE, "n", {"Input", "ReLU"})
    assert (file.problems, file.unread) == ((), (1, 3))
    assert file.kept("TEST").unread == (0,)
    assert file.kept("TRAIN").unread == (1, 3)
    assert file.net.layer[1].top == ["p"]
    with pytest.raises(ProblemsError) as caught:
        file.checked()
    assert [error.where for error in caught.value.problems] == [
        'n:2: layer "p" (Strange)',
        'n:4: layer "q" (Strange)',
    ]
    with pytest.raises(ProblemsError, match='unknown field "strange_param"'):
        net_of_text(STRANGE, "n")
    known = net_of_text(STRANGE, "n", {"Strange"})
    assert known.unread == ()
    assert [error.problem for error in known.problems] == [
        'unknown field "strange_param"',
        'unknown field "b"',
        'unknown field "strange_param"',
    ]


def test_why_a_blob_is_missing():
    test = net_of_text(STRANGE, "n", ()).kept("TEST", 3, ["s", "t"])
    assert test.why_missing("x") == (
        'n:1: layer "x" (Input) makes it, which phase TEST, level 3, stage s, stage t leaves out: '
        'include { phase: TRAIN not_stage: "s" }'
    )
    assert test.why_missing("r").endswith("leaves out: exclude { phase: TEST }")
    assert test.why_missing("p") == 'n:2: layer "p" (Strange) makes it, but stands later'
    assert test.why_missing("nowhere") == ""
