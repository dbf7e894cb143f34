from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from reference.datum_wire import decode_datum
from sphereface.cli.main import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, (8, 6, 3), np.uint8))
    (tmp_path / "list").write_text("a.png 0\nb.png 1\nc.png 2\n")
    return tmp_path


def command(images: Path, *options: str) -> int:
    return main(
        ["convert-imageset", f"{images}/", str(images / "list"), str(images / "db"), *options]
    )


def records(images: Path) -> dict[bytes, dict[str, object]]:
    with lmdb.open(str(images / "db"), readonly=True, lock=False) as env, env.begin() as reader:
        return {bytes(key): decode_datum(value) for key, value in reader.cursor()}


def test_an_lmdb_is_made(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(images) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{images}/db: 3 images\n"
    assert "convert-imageset: 3/3 (100 %)" in printed.err
    found = records(images)
    assert list(found) == [b"00000000_a.png", b"00000001_b.png", b"00000002_c.png"]
    blue = cv2.imread(f"{images}/c.png")[:, :, 0]
    assert found[b"00000002_c.png"]["data"][:48] == blue.tobytes()


def test_options(images: Path) -> None:
    options = "--gray --encoded --encode_type jpg --resize-height 4 --resize_width 5 --check-size"
    assert command(images, *options.split(), "--shuffle", "--seed", "2") == 0
    found = records(images)
    assert sorted(key[9:] for key in found) == [b"a.png", b"b.png", b"c.png"]
    for key, datum in found.items():
        image = cv2.imread(f"{images}/{key[9:].decode()}", cv2.IMREAD_GRAYSCALE)
        assert datum["data"] == cv2.imencode(".jpg", cv2.resize(image, (5, 4)))[1].tobytes()


def test_a_leveldb_is_made(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plyvel = pytest.importorskip("plyvel", reason="plyvel, which has wheels for Python < 3.13")
    assert command(images) == 0
    assert command(images, "--backend", "leveldb", "--overwrite") == 2  # an LMDB is there
    assert "a folder that holds data.mdb" in capsys.readouterr().err
    expected = records(images)
    (images / "db").rename(images / "lmdb")
    assert command(images, "--backend", "leveldb") == 0
    assert command(images, "--backend", "leveldb", "--overwrite") == 0
    with plyvel.DB(str(images / "db")) as reader:
        assert {key: decode_datum(value) for key, value in reader} == expected


def test_bad_images(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "b.png").unlink()
    assert command(images) == 2
    assert f"{images}/list:2: {images}/b.png: no such picture" in capsys.readouterr().err
    assert command(images, "--skip-bad") == 0
    printed = capsys.readouterr()
    assert printed.out == f"{images}/db: 2 images, 1 skipped\n"
    assert f"skipped: {images}/list:2: {images}/b.png: no such" in printed.err
    assert command(images) == 2
    assert "exists already" in capsys.readouterr().err
