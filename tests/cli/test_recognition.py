from __future__ import annotations

import json
import re
import shutil

import pytest

from sphereface import caffe
from sphereface.cli.main import main


def test_from_pictures_to_names(folder, options, capsys):
    people, known = folder / "people", folder / "known"
    known.mkdir()
    for name in ("p0", "p1"):
        (known / name).mkdir()
        shutil.copy(people / name / "0.png", known / name / "0.png")
    (known / "p9").mkdir()
    gallery, calibration = str(folder / "g.npz"), str(folder / "c.json")
    assert main(["calibrate", str(people), "--far", "0.05", "--output", calibration, *options]) == 0
    assert "for a false accept rate of 0.05" in capsys.readouterr().out
    assert main(["enroll", str(known), "--output", gallery, *options]) == 0
    told = capsys.readouterr().out
    assert "2 people, 2 faces" in told
    assert "left out: p9: a folder without a picture that can be read" in told
    inputs = [str(people / name / "1.png") for name in ("p0", "p1", "p4")]
    command = ["identify", *inputs, "--gallery", gallery, "--output", str(folder / "out")]
    # Pictures of one name in three folders: each keeps a place of its own.
    assert main([*command, "--calibration", calibration, *options]) == 0
    told = capsys.readouterr().out
    assert "3 faces in 3 pictures, 1 of them unknown" in told
    assert "calibrated on" in told
    lines = (folder / "out/identities.jsonl").read_text().splitlines()
    assert [json.loads(line)["faces"][0]["name"] for line in lines] == ["p0", "p1", None]
    assert len(list((folder / "out").rglob("*.png"))) == 3
    assert "left out" not in told
    assert main([*command, "--calibration", calibration, *options]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_video_from_frame_to_frame(folder, options, capsys):
    """Every third frame is looked at, and the rate counts these; options of videos are theirs."""
    from sphereface.images import read_image
    from sphereface.recognition.video import VideoFile

    gallery = str(folder / "g.npz")
    assert main(["enroll", str(folder / "people"), "--output", gallery, *options]) == 0
    with VideoFile(folder / "in.mp4", 10, (112, 96)) as video:
        for _ in range(7):
            video.write(read_image(folder / "people/p2/0.png", color="rgb"))
    command = ["identify", "--gallery", gallery, "--threshold", "0.5", "--every", "3", *options]
    more = ["--smooth", "0.5", "--output", str(folder / "out")]
    capsys.readouterr()
    assert main([*command, str(folder / "in.mp4"), *more]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("threshold 0.5000 (--threshold)")
    assert re.fullmatch(
        r"3 faces in 3 frames, 0 of them unknown; [\d.]+ frames/s -> .*out \(identities\.jsonl\)",
        told[1],
    )
    lines = (folder / "out/identities.jsonl").read_text().splitlines()
    assert [(json.loads(line)["frame"], json.loads(line)["seconds"]) for line in lines] == [
        (0, 0.0), (3, 0.3), (6, 0.6),
    ]  # fmt: skip
    assert {face["name"] for line in lines for face in json.loads(line)["faces"]} == {"p2"}
    assert main([*command, str(folder / "people"), "--output", str(folder / "new")]) == 2
    assert "--every or --smooth with pictures; expected with a video" in capsys.readouterr().err


def test_pictures_that_cannot_be_read_are_told(folder, options, capsys):
    gallery, inputs = str(folder / "g.npz"), folder / "people/p0"
    assert main(["enroll", str(folder / "people"), "--output", gallery, *options]) == 0
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    command = ["identify", str(inputs), "--gallery", gallery, "--threshold", "0.5", *options]
    assert main([*command, "--output", str(folder / "out")]) == 0
    told = capsys.readouterr().out
    assert "3 faces in 3 pictures" in told
    assert f"left out: {inputs / 'broken.png'}: " in told


@pytest.mark.parametrize(
    ("second", "threshold", "code", "same"),
    [("p0/1.png", "0.9", 0, True), ("p1/0.png", "0.999", 1, False), ("p0/1.png", None, 2, None)],
)
def test_verify(folder, options, capsys, second, threshold, code, same):
    pictures = [str(folder / "people" / name) for name in ("p0/0.png", second)]
    more = ["--threshold", threshold] if threshold else []
    told = folder / "told.json"
    assert main(["verify", *pictures, "--json", str(told), *options, *more]) == code
    result = json.loads(told.read_text())
    assert result["same"] == same
    assert result["threshold"] == (threshold and float(threshold))
    assert -1 <= result["score"] <= 1
    assert f"cosine {result['score']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--threshold", "nan"], "--threshold: nan; expected a cosine, from -1 to 1"),
        (["--threshold", "1.24"], "--threshold: 1.24; expected a cosine"),
        (["--calibration", "nan.json"], "no calibration (threshold nan"),
        (["--calibration", "none.json"], "no such calibration"),
        (["--threshold", "0.5", "--json", "told.json"], "exists already"),
    ],
)
def test_what_is_no_decision(folder, options, capsys, monkeypatch, change, told):
    monkeypatch.chdir(folder)
    (folder / "nan.json").write_text('{"value": NaN, "origin": "x"}')
    (folder / "told.json").write_text("before")
    assert main(["verify", "people/p0/0.png", "people/p1/0.png", *options, *change]) == 2
    assert told in capsys.readouterr().err
    assert (folder / "told.json").read_text() == "before"


def test_pictures_that_verify_cannot_decide_on(folder, options, capsys):
    one, threshold = str(folder / "people/p0/0.png"), ["--threshold", "0.5", *options]
    (folder / "empty.png").write_bytes(b"")
    for other in ("missing.png", "empty.png", "net.prototxt"):
        assert main(["verify", one, str(folder / other), *threshold]) == 2
        assert other in capsys.readouterr().err
        assert main(["verify", str(folder / other), one, *threshold]) == 2


def test_verify_without_a_face(folder, options, capsys, monkeypatch):
    from sphereface.faces import FaceAnalyzer

    monkeypatch.setattr(FaceAnalyzer, "get", lambda self, image: [])
    one, told = str(folder / "people/p0/0.png"), folder / "told.json"
    command = ["verify", one, one, "--threshold", "0.5", "--json", str(told)]
    assert main([*command, *options]) == 2
    assert capsys.readouterr().out.count("no face found") == 2
    assert json.loads(told.read_text())["same"] is None


def test_calibrated_on_a_list_of_pairs(folder, options, capsys):
    lines = [f"p{p}/0.png p{q}/1.png {int(p == q)}\n" for p in range(6) for q in range(6)]
    (folder / "pairs.txt").write_text("".join(lines))
    command = ["calibrate", str(folder / "pairs.txt"), "--root", str(folder / "people")]
    output = ["--far", "0.1", "--output", str(folder / "c.json")]
    assert main([*command, *output, *options]) == 0
    made = json.loads((folder / "c.json").read_text())
    assert (made["genuine"], made["impostors"]) == (6, 30)
    assert made["far"] <= 0.1
    (folder / "people/p3/1.png").unlink()
    assert main([*command, *output, "--overwrite", *options]) == 2
    assert 'no picture "p3/1"' in capsys.readouterr().err


def test_what_is_missing(folder, options, capsys):
    gallery = str(folder / "g.npz")
    assert main(["enroll", str(folder / "people"), "--output", gallery, *options]) == 0
    command = ["identify", str(folder / "people"), "--gallery", gallery]
    assert main([*command, "--output", str(folder / "out"), *options]) == 2
    assert "no threshold for tiny" in capsys.readouterr().err
    assert not (folder / "out").exists()
    other = [*options[:3], str(folder / "other.caffemodel"), *options[4:]]
    caffe.load(folder / "net.prototxt").save(folder / "other.caffemodel")
    assert main([*command, "--output", str(folder / "out"), "--threshold", "0.5", *other]) == 2
    assert "embeddings of two nets cannot be compared" in capsys.readouterr().err
