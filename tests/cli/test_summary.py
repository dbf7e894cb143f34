from __future__ import annotations

import json

import pytest

from sphereface.cli.main import main


def test_table(capsys):
    assert main(["summary", "sphereface_20_deploy"]) == 0
    output = capsys.readouterr().out
    assert "parameters   22,670,656" in output
    assert "MACs         1,749,737,472\n" in output


def test_batch_shape_and_json(capsys):
    arguments = ["--phase", "train", "--input-shape", "data=2,3,112,96", "--batch", "4", "--json"]
    assert main(["summary", "sphereface_4_train.prototxt", *arguments]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["phase"], summary["batch"]) == ("TRAIN", 4)
    assert summary["layers"][0]["shapes"] == [[4, 3, 112, 96], [4]]
    assert summary["params"] == 12_562_496 + 512 * 10572


def test_level_and_stage(capsys, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text("""
      input: "x" input_shape { dim: 1 }
      layer { name: "staged" type: "TanH" bottom: "x" top: "y" include { stage: "s" min_level: 2 } }
      layer { name: "end" type: "Silence" bottom: "x" }""")
    for options, expected in ([], False), (["--stage", "s", "--level", "2"], True):
        assert main(["summary", str(net), *options]) == 0
        assert ("staged" in capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sphereface_20_deploi"], 'did you mean "sphereface_20_deploy"?'),
        (["sphereface_4_train"], 'does not tell the shape of input "data"'),
        (["det1", "--batch", "0"], "--batch: 0; expected at least 1"),
        (["det1", "--input-shape", "data"], '--input-shape: "data"; expected BLOB=N,C,H,W'),
        (["det1", "--input-shape", "data=1,0,2,2"], "positive sizes"),
        (["det1", "--input-shape", "date=1,3,12,12"], 'did you mean "data"?'),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert main(["summary", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sphereface summary: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
