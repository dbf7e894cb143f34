import json

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.faces import Face
from sphereface.faces.detectors import DETECTORS, OpenDetector


@pytest.fixture
def options(monkeypatch):
    """A detector that finds a face in pictures that are not black; its options."""
    seen = []

    def detect(images):
        return [[Face(np.array([0.0, 0, 9, 9]), 1.0, None)] * bool(i.any()) for i in images]

    def build(options):
        seen.append(options)
        return OpenDetector(detect, {}, {}, 1)

    monkeypatch.setitem(DETECTORS, "mtcnn", build)
    return seen


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, value in (("a.png", 99), ("b.png", 0)):
        cv2.imwrite(str(folder / name), np.full((30, 20, 3), value, np.uint8))
    return folder


def test_summary_and_exit_code(pictures, options, tmp_path, capsys):
    output = tmp_path / "faces.jsonl"
    assert main(["detect", str(pictures), "--output", str(output)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 faces in 1 of 2 pictures",
        "  no_face: 1",
        "  ok: 1",
        f"  what failed and why: {tmp_path}/faces.failures.csv",
    ]
    assert [json.loads(line)["file"] for line in output.read_text().splitlines()] == [
        "a.png",
        "b.png",
    ]
    assert main(["detect", str(pictures), "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith("1 faces in 1 of 2 pictures")
    other = ["--exif", "ignore"]
    assert main(["detect", str(pictures), "--output", str(output), *other]) == 2
    assert "exists already" in capsys.readouterr().err
    (pictures / "a.png").unlink()
    assert main(["detect", str(pictures), "--output", str(output), "--overwrite"]) == 1


def test_options(pictures, options, tmp_path):
    words = "--models M --min-size 30 --factor 0.7 --thresholds 0.5 0.6 0.7 --exif ignore"
    limits = ["--max-pixels", "500", "--output", str(tmp_path / "faces.jsonl")]
    assert main(["detect", str(pictures), *words.split(), *limits]) == 1
    (given,) = options
    assert (given.models, given.min_size, given.factor) == ("M", 30, 0.7)
    assert given.thresholds == (0.5, 0.6, 0.7)
    record = json.loads((tmp_path / "faces.jsonl").read_text().splitlines()[0])
    assert record["status"] == "too_large"
    meta = json.loads((tmp_path / "faces.jsonl.meta.json").read_text())
    assert meta["settings"]["exif"] is False
