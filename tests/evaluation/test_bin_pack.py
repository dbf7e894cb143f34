from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import read_pairs
from sphereface.evaluation.bin_pack import convert_pack, read_pack


def encoded(suffix: str, count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return [cv2.imencode(suffix, picture)[1].tobytes() for picture in pictures]


IMAGES = encoded(".jpg", 2) + encoded(".png", 2)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("arrays", [False, True])
def test_packs_of_every_protocol(tmp_path: Path, protocol: int, arrays: bool) -> None:
    stored = [np.frombuffer(image, np.uint8) for image in IMAGES] if arrays else IMAGES
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((stored, [True, False]), protocol))
    assert read_pack(tmp_path / "lfw.bin") == (IMAGES, [True, False])


def test_a_pack_by_python_2(tmp_path: Path) -> None:
    body = b"".join(b"T" + len(i).to_bytes(4, "little") + i for i in IMAGES[:2])
    (tmp_path / "lfw.bin").write_bytes(b"\x80\x02](" + body + b"e]\x88a\x86.")
    assert read_pack(tmp_path / "lfw.bin") == (IMAGES[:2], [True])


def test_converted_to_a_folder_and_a_list(tmp_path: Path) -> None:
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((IMAGES, [1, 0]), 4))
    assert convert_pack(tmp_path / "lfw.bin", tmp_path / "lfw") == 2
    pairs = read_pairs(tmp_path / "lfw" / "pairs.txt")
    assert pairs.same.tolist() == [True, False]
    assert pairs.left == ["images/000000.jpg", "images/000002.png"]
    names = [pairs.left[0], pairs.right[0], pairs.left[1], pairs.right[1]]
    assert [(tmp_path / "lfw" / name).read_bytes() for name in names] == IMAGES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lfw", "lfw.bin"]
    with pytest.raises(SphereFaceError, match="exists already; name a new folder"):
        convert_pack(tmp_path / "lfw.bin", tmp_path / "lfw")


class Attack:
    def __init__(self, call, *arguments) -> None:
        self.call = (call, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (Attack(os.system, "touch attacked"), "system"),
        (Attack(eval, "open('attacked', 'w')"), "eval"),
        (Attack(getattr, "text", "format"), "getattr"),
        (Attack(np.fromfile, "attacked"), "fromfile"),
    ],
)
def test_a_pack_that_would_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        Path("evil.bin").write_bytes(pickle.dumps((IMAGES[:2], [attack]), protocol))
        with pytest.raises(SphereFaceError, match=rf"evil.bin: .*{name}, which would run code"):
            convert_pack("evil.bin", "out")
    assert [p.name for p in tmp_path.iterdir()] == ["evil.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no readable pack"),
        (b"\x80\x04garbage", "no readable pack"),
        (pickle.dumps([1, 2, 3]), "no pair of images and flags"),
        (pickle.dumps((1, 2)), "images or flags are no lists"),
        (pickle.dumps((IMAGES[:3], [True])), "3 images and 1 flags; expected two images a flag"),
        (pickle.dumps((["text", "text"], [True])), "an image that is not bytes"),
        (pickle.dumps((IMAGES[:2], ["yes"])), "a flag of 'yes'"),
        (pickle.dumps(([np.ones(3)] * 2, [True]), 4), "an array of 'f8'; expected uint8"),
        (pickle.dumps(([b"????"] * 2, [True])), "image 0 begins with b'[?]+'; expected JPEG"),
    ],
)
def test_bad_packs(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lfw.bin").write_bytes(content)
    with pytest.raises(SphereFaceError, match=f"lfw.bin: {message}"):
        convert_pack(tmp_path / "lfw.bin", tmp_path / "out")
