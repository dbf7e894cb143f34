from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reference.datum_wire import decode_mean
from sphereface.cli.main import main


@pytest.fixture
def images(tmp_path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    made = [rng.integers(0, 256, (8, 6, 3), np.uint8) for _ in range(3)]
    for index, image in enumerate(made):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    (tmp_path / "list").write_text("0.png 0\n1.png 1\n2.png 2\n")
    return made


@pytest.mark.parametrize("kind", ["list", "lmdb"])
def test_mean_file_and_channels(
    images: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    names = [f"{tmp_path}/", str(tmp_path / "list"), str(tmp_path / "lmdb")]
    assert main(["convert-imageset", *names]) == 0
    capsys.readouterr()
    source = ["--root", *names[:2]] if kind == "list" else names[2:]
    assert main(["compute-mean", *source, str(tmp_path / "mean.binaryproto")]) == 0
    expected = np.mean([image.astype(float) for image in images], 0).transpose(2, 0, 1)
    mean = decode_mean((tmp_path / "mean.binaryproto").read_bytes())
    assert (mean == expected[None].astype(np.float32)).all()
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"mean_value channel [{c}]: {expected[c].astype(np.float32).mean(dtype=float):g}"
        for c in range(3)
    ]
    assert "compute-mean: 3/3 (100 %)" in printed.err


def test_without_an_output(
    images: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--root", f"{tmp_path}/", "--gray", "--resize-height", "4", "--resize_width", "3"]
    assert main(["compute-mean", str(tmp_path / "list"), *options]) == 0
    assert capsys.readouterr().out.startswith("mean_value channel [0]: ")
    assert main(["compute-mean", str(tmp_path / "gone")]) == 2
    assert "gone: no such list of images" in capsys.readouterr().err
