from __future__ import annotations

import pytest

from sphereface.cli.main import main


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml "), ("png", b"\x89PNG\r\n")])
def test_pictures(suffix, start, tmp_path, capsys):
    path = tmp_path / f"net.{suffix}"
    assert main(["draw", "sphereface_4_deploy", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes().startswith(start)


def test_shapes_follow_the_options(tmp_path):
    path = tmp_path / "net.svg"
    assert main(["draw", "det1", str(path), "--input-shape", "data=2,3,20,30"]) == 0
    assert "2×10×18×28" in path.read_text()


def test_repeated_blocks_are_folded(tmp_path):
    path = tmp_path / "net.svg"
    assert main(["draw", "sphereface_64_deploy", str(path), "--fold"]) == 0
    assert "16 × (conv3_2 … res3_33)" in path.read_text(encoding="utf-8")


def test_errors(tmp_path, capsys):
    assert main(["draw", "det1", str(tmp_path / "net.gif")]) == 2
    assert "expected .svg, .png" in capsys.readouterr().err
    assert main(["draw", "det1", str(tmp_path / "nowhere" / "net.svg")]) == 2
    assert "no folder" in capsys.readouterr().err
