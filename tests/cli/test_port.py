from __future__ import annotations

from pathlib import Path

from sphereface.caffe import load
from sphereface.cli.main import main
from sphereface.convert import pytorch_source
from sphereface.resources import prototxt_path


def test_printed(capsys):
    assert main(["port", "det1"]) == 0
    net = load(prototxt_path("det1"))
    assert capsys.readouterr().out == pytorch_source(net, made_from="det1.prototxt")


def test_written_once(tmp_path, capsys):
    path = tmp_path / "net.py"
    arguments = ["port", "sphereface_4_deploy", "--out", str(path), "--class-name", "Face"]
    assert main(arguments) == 0
    text = path.read_text()
    assert "class Face(nn.Module):" in text
    assert capsys.readouterr().out == f"wrote {path}: {text.count(chr(10))} lines\n"
    path.write_text("mine")
    assert main(arguments) == 2
    assert "exists already; give another name, or --overwrite" in capsys.readouterr().err
    assert Path(path).read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert path.read_text() == text
