import csv
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from hostile_pictures import BAD, GOOD, forbid, write_folder
from sphereface.errors import SphereFaceError
from sphereface.faces import Face, detection
from sphereface.faces.detection import Reading, detect_folder
from sphereface.faces.detectors import DETECTORS, DetectorOptions, OpenDetector
from sphereface.faces.mtcnn.stages import build_net

LOOSE = (0.6, 0.6, 0.6)  # scores that the random nets give


def middle(images):
    """A face around the middle of every picture, whose score is the red of its first quarter."""
    faces = []
    for image in images:
        height, width = image.shape[:2]
        score = image[: height // 2, : width // 2, 0].mean() / 255
        faces.append([Face(np.array([1.0, 2, width, height]), float(score), None)])
    return faces


@pytest.fixture
def fake(monkeypatch):
    """A detector of which nothing but the folder run depends."""
    calls = []

    def detect(images):
        calls.append(len(images))
        return middle(images)

    opened = OpenDetector(detect, {"fake": 1}, {"model": "hash"}, 20)
    monkeypatch.setitem(DETECTORS, "fake", lambda options: opened)
    return calls


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def failures(path):
    with path.open(newline="") as file:
        return {row["path"]: (row["stage"], row["status"]) for row in csv.DictReader(file)}


def test_hostile_folder(tmp_path, fake, drawing):
    image = drawing(60, 40)
    image[:30, :20] = (250, 10, 10)
    write_folder(tmp_path / "in", image)
    forbidden = tmp_path / "in" / "forbidden.jpg"
    forbidden.write_bytes((tmp_path / "in" / "plain.jpg").read_bytes())
    expected = {**dict.fromkeys(GOOD, "ok"), **BAD}
    expected["forbidden.jpg"] = "unreadable" if forbid(forbidden) else "ok"
    summary = detect_folder(tmp_path / "in", tmp_path / "out.jsonl", detector="fake")
    records = lines(tmp_path / "out.jsonl")
    assert {record["file"]: record["status"] for record in records} == expected
    assert [record["file"] for record in records] == sorted(expected)
    assert summary.counts["unreadable"] == sum(v == "unreadable" for v in expected.values())
    assert summary.faces == sum(status == "ok" for status in expected.values())
    bad = {name: ("detect", status) for name, status in expected.items() if status != "ok"}
    assert failures(summary.failures) == bad
    for record in records:
        assert bool(record.get("reason")) == (record["status"] != "ok")
        if record["status"] != "ok":
            assert record["faces"] == []
            continue
        # Upright, whole, 8 bits, red not blue, alpha ignored.
        assert (record["height"], record["width"]) == (60, 40)
        (face,) = record["faces"]
        assert face["box"] == [2, 3, 41, 61]
        gray = record["file"] == "gray.jpg"
        assert face["score"] == pytest.approx(0.32 if gray else 0.98, abs=0.03)
    assert {r["file"]: r["orientation"] for r in records if "width" in r}["turned.jpg"] == 6


def test_exif_can_be_ignored(tmp_path, fake, drawing):
    write_folder(tmp_path / "in", drawing(60, 40))
    source = tmp_path / "in" / "turned.jpg"
    for exif, size in ((True, (60, 40)), (False, (40, 60))):
        output = tmp_path / f"{exif}.jsonl"
        detect_folder(source, output, detector="fake", reading=Reading(exif=exif))
        (record,) = lines(output)
        assert (record["height"], record["width"]) == size
        assert record["file"] == "turned.jpg"


def test_meta(tmp_path, fake, drawing):
    write_folder(tmp_path / "in", drawing(60, 40))
    detect_folder(tmp_path / "in", tmp_path / "out.jsonl", detector="fake")
    meta = json.loads((tmp_path / "out.jsonl.meta.json").read_text())
    assert meta["root"] == str(tmp_path / "in")
    assert meta["settings"] == {
        "detector": "fake",
        "fake": 1,
        "exif": True,
        "max_pixels": 100_000_000,
    }
    assert meta["models"] == {"model": "hash"}
    assert {record["settings"] for record in lines(tmp_path / "out.jsonl")} == {
        meta["settings_hash"]
    }


def test_lists(tmp_path, fake, drawing, monkeypatch):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), drawing(30, 30))
    (tmp_path / "list.txt").write_text("b/2.png 1\na/1.png 0\na/3.png 0\n")
    detect_folder(
        tmp_path / "list.txt", tmp_path / "out.jsonl", detector="fake", root=str(tmp_path)
    )
    found = [(r["file"], r["status"]) for r in lines(tmp_path / "out.jsonl")]
    assert found == [("b/2.png", "ok"), ("a/1.png", "ok"), ("a/3.png", "unreadable")]
    # Absolute names outside the root are told from a folder that holds them all.
    (tmp_path / "abs.txt").write_text(f"{tmp_path}/a/1.png\n{tmp_path}/b/2.png\n")
    monkeypatch.chdir(tmp_path / "a")
    detect_folder(tmp_path / "abs.txt", tmp_path / "abs.jsonl", detector="fake")
    assert [r["file"] for r in lines(tmp_path / "abs.jsonl")] == ["a/1.png", "b/2.png"]
    assert json.loads((tmp_path / "abs.jsonl.meta.json").read_text())["root"] == str(tmp_path)


def test_one_pictures_trouble_is_its_own(tmp_path, monkeypatch, drawing):
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), drawing(30, 30 + index))

    def detect(images):
        if any(image.shape[1] == 32 for image in images):
            raise RuntimeError("no memory")
        return middle(images)

    opened = OpenDetector(detect, {}, {}, 1)
    monkeypatch.setitem(DETECTORS, "fake", lambda options: opened)
    detect_folder(tmp_path, tmp_path / "out.jsonl", detector="fake")
    records = lines(tmp_path / "out.jsonl")
    assert [record["status"] for record in records] == ["ok", "ok", "error", "ok", "ok"]
    assert records[2]["reason"] == "RuntimeError: no memory"


def test_large_pictures_do_not_wait_for_each_other(tmp_path, fake, drawing, monkeypatch):
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), drawing(30, 40))
    monkeypatch.setattr(detection, "_VALUES_TOGETHER", 2 * 30 * 40 * 3)
    detect_folder(tmp_path, tmp_path / "out.jsonl", detector="fake")
    assert fake == [3, 3, 0]


def test_nothing_to_do(tmp_path, fake):
    with pytest.raises(SphereFaceError, match="no images"):
        detect_folder(tmp_path, tmp_path / "out.jsonl", detector="fake")
    with pytest.raises(SphereFaceError, match="0 workers"):
        detect_folder(tmp_path, tmp_path / "out.jsonl", detector="fake", workers=0)


@pytest.fixture
def models(tmp_path, random_weights):
    folder = tmp_path / "models"
    folder.mkdir()
    for name, arrays in random_weights.nets.items():
        build_net(name, arrays).save(folder / f"{name}.caffemodel")
    return folder


@pytest.fixture
def pictures(tmp_path, drawing):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(48):
        cv2.imwrite(str(folder / f"{index:02}.png"), drawing(50 + index % 3, 45))
    return folder


@pytest.mark.slow
def test_processes_change_nothing(tmp_path, models, pictures):
    options = DetectorOptions(models=str(models), thresholds=LOOSE)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    detect_folder(pictures, one, options=options)
    detect_folder(pictures, two, options=options, workers=2)
    first, second = lines(one), lines(two)
    assert sum(len(record["faces"]) for record in first) > 20
    for a, b in zip(first, second, strict=True):
        assert (a["file"], a["status"], len(a["faces"])) == (
            b["file"],
            b["status"],
            len(b["faces"]),
        )
        for face, other in zip(a["faces"], b["faces"], strict=True):
            np.testing.assert_allclose(face["box"], other["box"], atol=2e-3)


@pytest.mark.slow
def test_killed_and_run_again(tmp_path, models, pictures):
    def command(output):
        return [
            *(sys.executable, "-m", "sphereface", "detect", str(pictures)),
            *("--models", str(models), "--thresholds", *map(str, LOOSE), "--output", str(output)),
        ]

    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    subprocess.run(command(whole), check=True, capture_output=True)
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    part = tmp_path / "killed.jsonl.part"
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert part.exists()
    assert not killed.exists()
    assert 0 < part.read_bytes().count(b"\n") < 48
    with part.open("ab") as stream:
        stream.write(b'{"file": "torn')
    subprocess.run(command(killed), check=True, capture_output=True)
    assert killed.read_bytes() == whole.read_bytes()
    assert (tmp_path / "killed.jsonl.meta.json").read_text() == (
        tmp_path / "whole.jsonl.meta.json"
    ).read_text()
