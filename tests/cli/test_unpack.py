from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sphereface.cli.main import main
from sphereface.evaluation import read_pairs

JPEG = b"\xff\xd8\xff\xe0 not looked at"


def test_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack, folder = tmp_path / "lfw.bin", tmp_path / "lfw"
    pack.write_bytes(pickle.dumps(([JPEG] * 4, [True, False])))
    assert main(["unpack", str(pack), str(folder)]) == 0
    assert capsys.readouterr().out == f"2 pairs -> {folder}/pairs.txt\n"
    assert read_pairs(folder / "pairs.txt").same.tolist() == [True, False]
    assert main(["unpack", str(pack), str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
