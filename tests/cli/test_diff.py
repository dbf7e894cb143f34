from __future__ import annotations

import json
from pathlib import Path

import pytest

from sphereface.cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = [str(GOLDEN / "train" / f"sgd_iter_{n}.caffemodel") for n in (40, 80)]


@pytest.mark.parametrize(
    "pair", [("det1", str(GOLDEN / "mtcnn" / "det1.prototxt")), MODELS[:1] * 2]
)
def test_equal(pair, capsys):
    assert main(["diff", *pair]) == 0
    assert "are equal" in capsys.readouterr().out


def test_different_nets(capsys):
    assert main(["diff", "sphereface_10_deploy", "sphereface_20_deploy"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "+ layer res1_3 (Eltwise)" in lines
    assert '~ layer conv2_1: bottom[0]: "conv1_1" -> "res1_3"' in lines
    assert main(["diff", "sphereface_10_deploy", "sphereface_20_deploy", "--json"]) == 1
    diff = json.loads(capsys.readouterr().out)
    assert (diff["kind"], diff["equal"], diff["removed"]) == ("net", False, [])
    assert len(diff["added"]) == 5 * 5


def test_different_models(capsys):
    assert main(["diff", *MODELS]) == 1
    assert "9 common blobs: 8 blobs differ" in capsys.readouterr().out
    assert main(["diff", *MODELS, "--json"]) == 1
    diff = json.loads(capsys.readouterr().out)
    greatest = max(blob["max_abs"] for blob in diff["blobs"])
    assert greatest > 0.1
    assert main(["diff", *MODELS, "--tolerance", str(greatest)]) == 0
    capsys.readouterr()


def test_phase(tmp_path):
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    text = 'layer { name: "x" type: "Input" top: "x" }\n'
    old.write_text(text)
    new.write_text(
        text + 'layer { name: "t" type: "Silence" bottom: "x" include { phase: TRAIN } }\n'
    )
    assert main(["diff", str(old), str(new)]) == 1
    assert main(["diff", str(old), str(new), "--phase", "test"]) == 0


def test_errors(capsys):
    assert main(["diff", "det1", "nowhere"]) == 2
    assert "nowhere: no such " in capsys.readouterr().err


def test_a_model_in_the_place_of_a_prototxt(tmp_path, capsys):
    deploy = str(tmp_path / "deploy.prototxt")
    assert main(["upgrade", MODELS[0], deploy]) == 0
    assert main(["diff", deploy, MODELS[0]]) == 0
    assert main(["diff", "det1", MODELS[0]]) == 1
    assert '~ name: "PNet" -> "digits"' in capsys.readouterr().out
