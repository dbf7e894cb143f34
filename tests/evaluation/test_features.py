from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import read_features
from sphereface.evaluation.features import image_key, person


@pytest.mark.parametrize(
    ("path", "key", "who"),
    [
        ("lfw-112X112/J.K._Lee/J.K._Lee_0001.JPG", "J.K._Lee/J.K._Lee_0001", "J.K._Lee"),
        ("J.K._Lee/J.K._Lee_0001", "J.K._Lee/J.K._Lee_0001", "J.K._Lee"),
        ("Bo_Ek_0003.png", "Bo_Ek_0003", "Bo_Ek"),
        (r"a\b\c.jpeg", "b/c", "b"),
        ("alone", "alone", "alone"),
    ],
)
def test_names(path: str, key: str, who: str) -> None:
    assert (image_key(path), person(path)) == (key, who)


def test_rows_by_folder_and_name(tmp_path: Path) -> None:
    file = tmp_path / "f.npz"
    values = np.arange(6, dtype=np.float16).reshape(3, 2)
    np.savez(file, path=np.array(["r/a/a_1.png", "r/b/a_1.png", "r/b/x.png"]), features=values)
    features = read_features(file)
    assert features.features.dtype == np.float32
    np.testing.assert_array_equal(features.features, values)
    assert features.rows(["a/a_1", "b/a_1.jpg", "q/b/x.jpg", "a/x"]).tolist() == [0, 1, 2, -1]
    assert features.persons == ["a", "b", "b"]


def test_text_and_flat_folders(tmp_path: Path) -> None:
    file = tmp_path / "magface.list"
    file.write_text("Bo_0001.jpg 0.5 -1e-3\n\nAnn_0001.jpg 2 3\n")
    features = read_features(file)
    np.testing.assert_array_equal(features.features, np.float32([[0.5, -1e-3], [2, 3]]))
    assert features.rows(["Ann/Ann_0001", "Bo/Bo_0001"]).tolist() == [1, 0]


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_pickles_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", path=np.array(["a"]), features=np.array([Attack()], object))
    with pytest.raises(SphereFaceError, match="bad.npz: no readable .npz .*; expected arrays with"):
        read_features("bad.npz")
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((1, 2))}, "holds features; expected path and features"),
        ({"path": ["a"], "features": np.ones((2, 2))}, r"1 paths and features of shape \(2, 2\)"),
        ({"path": ["a/b.png", "a/b.jpg"], "features": np.ones((2, 2))}, "have one name"),
        ({"path": ["a"], "features": [[np.inf]]}, 'the feature of "a" is not finite'),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(SphereFaceError, match=message):
        read_features(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2\nb 1\n", "f.txt:2: 1 fields after the path; expected 2 numbers"),
        (b"a one\n", "f.txt:1: 1 fields after the path; expected a path and its numbers"),
        (b"", "0 paths"),
    ],
)
def test_bad_text(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f.txt").write_bytes(content)
    with pytest.raises(SphereFaceError, match=message):
        read_features(tmp_path / "f.txt")


def test_truncated_npz(tmp_path: Path) -> None:
    file = tmp_path / "f.npz"
    np.savez(file, path=np.array(["a"]), features=np.ones((1, 500)))
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:size])
        with pytest.raises(SphereFaceError, match="f.npz: no readable .npz"):
            read_features(file)


def megaface_file(path: Path, values: list[float], header: tuple[int, ...] | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    start = np.array(header or (len(values), 1, 4, 5), "<i4").tobytes()
    path.write_bytes(start + np.array(values, "<f4").tobytes())


def test_folder_of_megaface_features(tmp_path: Path) -> None:
    megaface_file(tmp_path / "Bo" / "Bo_2.jpg.bin", [3, 4])
    megaface_file(tmp_path / "Ann" / "Ann_1.jpg.bin", [1, 2])
    features = read_features(tmp_path)
    assert features.path == ["Ann/Ann_1.jpg", "Bo/Bo_2.jpg"]
    assert features.features.tolist() == [[1, 2], [3, 4]]
    assert features.persons == ["Ann", "Bo"]
    megaface_file(tmp_path / "Bo" / "Bo_3.jpg.bin", [3, 4, 5])
    with pytest.raises(SphereFaceError, match=r"3 .bin files, of features of \[2, 3\] numbers"):
        read_features(tmp_path)


@pytest.mark.parametrize("header", [(3, 1, 4, 5), (2, 2, 4, 5), (2, 1, 8, 6)])
def test_bad_megaface_file(tmp_path: Path, header: tuple[int, ...]) -> None:
    megaface_file(tmp_path / "a" / "x.bin", [1, 2], header)
    with pytest.raises(SphereFaceError, match=r"x.bin: 24 bytes that begin with .* expected int32"):
        read_features(tmp_path)
    (tmp_path / "a" / "x.bin").write_bytes(b"12345")
    with pytest.raises(SphereFaceError, match="x.bin: 5 bytes"):
        read_features(tmp_path)
