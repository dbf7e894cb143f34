from __future__ import annotations

import cv2
import numpy as np
import pytest

from reference.detection_nets import NETS, fill_again
from sphereface.caffe import load
from sphereface.cli.main import main
from sphereface.images import Preprocessing
from sphereface.inference import BoxFinder, Predictor


@pytest.fixture
def net(tmp_path, monkeypatch, rng):
    """A detector as net.prototxt and net.caffemodel, and pictures a.png and b/c.png."""
    monkeypatch.chdir(tmp_path)
    net = load(NETS["mobilenet_ssd"]())
    fill_again(net)
    net.save("net.caffemodel")
    (tmp_path / "net.prototxt").write_text(NETS["mobilenet_ssd"]())
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("a.png", "b/c.png"):
        cv2.imwrite(f"in/{name}", rng.integers(0, 256, (48, 80, 3), dtype=np.uint8))
    (tmp_path / "names.txt").write_text("background\ncat\ndog\nbird\nfish\n")
    return net


COMMAND = ["run", "net.prototxt", "net.caffemodel", "in", "--scale", "0.015625"]


def found(net, least=0.0):
    finder = BoxFinder(Predictor(net), Preprocessing(size=(64, 64), scale=1 / 64), least=least)
    return finder([cv2.imread("in/a.png"), cv2.imread("in/b/c.png")])


def test_boxes_are_printed(net, capsys):
    assert main([*COMMAND, "--labels", "names.txt", "--min-score", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["background", "cat", "dog", "bird", "fish"]
    expected = []
    for path, boxes in zip(("in/a.png", "in/b/c.png"), found(net, 0.5), strict=True):
        assert len(boxes) > 1
        expected.append(f"{path}: {len(boxes)} boxes")
        for box in boxes:
            corners = " ".join(f"{value:.1f}" for value in box.corners)
            expected.append(f"  {names[box.label]} {box.score:.4f} {corners}")
    assert lines == expected


def test_boxes_are_drawn(net, tmp_path, capsys):
    assert main([*COMMAND, "--draw", "out", "--min-score", "0.5"]) == 0
    for name in ("a.png", "b/c.png"):
        before, after = cv2.imread(f"in/{name}"), cv2.imread(f"out/{name}")
        assert before.shape == after.shape
        assert 0.01 < (before != after).any(2).mean() < 0.9
    assert "2 pictures -> out" in capsys.readouterr().err
    assert main([*COMMAND, "--draw", "out"]) == 2
    assert "a.png" in capsys.readouterr().err
    assert main([*COMMAND, "--draw", "out", "--overwrite"]) == 0


def test_boxes_are_saved(net, capsys):
    assert main([*COMMAND, "--output", "boxes.npz", "--batch", "1"]) == 0
    with np.load("boxes.npz") as file:
        assert file["paths"].tolist() == ["in/a.png", "in/b/c.png"]
        rows = file["detection_out"]
    expected = [
        [number, box.label, box.score, *box.corners]
        for number, boxes in enumerate(found(net))
        for box in boxes
    ]
    np.testing.assert_allclose(rows, np.float32(expected), rtol=1e-3, atol=1e-3)
    assert f"detection_out ({len(rows)}, 7) -> boxes.npz" in capsys.readouterr().out


def test_no_boxes(net, capsys):
    assert main([*COMMAND, "--min-score", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == ["in/a.png: no boxes", "in/b/c.png: no boxes"]


def test_arrays_give_the_rows_as_they_are(net, capsys):
    np.save("x.npy", np.zeros((3, 3, 64, 64), np.float32))
    assert main(["run", "net.prototxt", "net.caffemodel", "x.npy"]) == 0
    assert capsys.readouterr().out.startswith("detection_out (1, 1, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blob", "conv3", "--labels", "names.txt"], "--labels: no boxes to tell"),
        (["--with-mirror"], "--with-mirror; expected pictures as they are"),
        (["--mirror"], "mirrored or transposed"),
    ],
)
def test_what_is_refused(options, message, net, capsys):
    assert main([*COMMAND, *options]) == 2
    assert message in capsys.readouterr().err
