from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from sphereface.errors import SphereFaceError
from sphereface.evaluation import Features, PairFeatures, PairList, look_up, read_pair_features
from sphereface.evaluation.pair_features import write_pairs_mat, write_pairs_npz

SAME, FOLD = np.array([True, False, False]), np.array([1, 1, 2])


def example() -> PairFeatures:
    rng = np.random.default_rng(0)
    names = [f"a/a_{i:04d}.jpg" for i in range(6)]
    left, right = rng.normal(size=(2, 3, 4)).astype(np.float32)
    return PairFeatures(left, right, SAME, FOLD, np.zeros(3, bool), names[:3], names[3:])


def assert_equal(found: PairFeatures, expected: PairFeatures, names: bool = True) -> None:
    for field in ("left", "right", "same", "fold", "missing"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    if names:
        assert list(found.left_name) == list(expected.left_name)
        assert list(found.right_name) == list(expected.right_name)


def test_npz_and_mat_come_back(tmp_path: Path) -> None:
    pairs = example()
    write_pairs_npz(tmp_path / "pairs.npz", pairs)
    assert_equal(read_pair_features(tmp_path / "pairs.npz"), pairs, names=False)
    write_pairs_mat(tmp_path / "pairs.mat", pairs)
    assert_equal(read_pair_features(tmp_path / "pairs.mat"), pairs)


def test_the_mat_is_what_matlab_reads(tmp_path: Path) -> None:
    pairs = example()
    write_pairs_mat(tmp_path / "pairs.mat", pairs)
    records = loadmat(tmp_path / "pairs.mat")["pairs"]
    assert records.shape == (3, 1)
    assert records.dtype.names == ("fileL", "fileR", "fold", "flag", "featureL", "featureR")
    assert records["fileL"][1, 0].item() == "a/a_0001.jpg"
    assert [records["flag"][i, 0].item() for i in range(3)] == [1, -1, -1]
    assert [records["fold"][i, 0].item() for i in range(3)] == [1, 1, 2]
    assert records["featureR"][2, 0].shape == (4, 1)
    np.testing.assert_array_equal(records["featureR"][2, 0].ravel(), pairs.right[2])


def test_a_single_pair_and_another_variable_name(tmp_path: Path) -> None:
    record = {"fileL": "x", "fileR": "y", "fold": 1, "flag": 1, "featureL": [1, 2], "featureR": [3]}
    savemat(tmp_path / "p.mat", {"other": 1, "data": {**record, "featureR": [3, 4]}})
    pairs = read_pair_features(tmp_path / "p.mat")
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([[1, 2]], [[3, 4]])
    savemat(tmp_path / "p.mat", {"data": record})
    with pytest.raises(SphereFaceError, match=r"left \(1, 2\), right \(1, 1\)"):
        read_pair_features(tmp_path / "p.mat")


def write_v73(path: Path, pairs: PairFeatures) -> None:
    """As Matlab's -v7.3: 512 bytes of text, a group of references a field, UTF-16 characters."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group, cells = file.create_group("pairs"), file.create_group("#refs#")

        def put(field: str, values: list, text: bool = False) -> None:
            references = group.create_dataset(field, (1, len(values)), h5py.ref_dtype)
            for index, value in enumerate(values):
                stored = np.array([[ord(c)] for c in value], np.uint16) if text else value
                cell = cells.create_dataset(f"{field}{index}", data=np.atleast_2d(stored))
                cell.attrs["MATLAB_class"] = np.bytes_("char" if text else "double")
                references[0, index] = cell.ref

        put("fileL", list(pairs.left_name), text=True)
        put("fileR", list(pairs.right_name), text=True)
        put("fold", [float(f) for f in pairs.fold])
        put("flag", [1.0 if s else -1.0 for s in pairs.same])
        put("featureL", list(pairs.left))
        put("featureR", list(pairs.right))


def test_v73(tmp_path: Path) -> None:
    pairs = example()
    write_v73(tmp_path / "pairs.mat", pairs)
    assert_equal(read_pair_features(tmp_path / "pairs.mat"), pairs)


def test_look_up_with_missing_images_and_their_fallback() -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2) + 1
    features = Features(["a/1.png", "a/2.png", "b/1.png", "c/1.png"], values, "f.npz")
    pairs = PairList(["a/1", "a/2", "d/1"], ["a/2.jpg", "e/9", "b/1"], SAME, FOLD)
    found = look_up(pairs, features)
    np.testing.assert_array_equal(found.left, [values[0], values[1], [0, 0]])
    np.testing.assert_array_equal(found.right, [values[1], [0, 0], values[2]])
    assert found.missing.tolist() == [False, True, True]
    assert found.missing_names == ["d/1", "e/9"]
    spare = Features(["d/1.jpg", "a/1.jpg"], np.float32([[7, 7], [8, 8]]), "crops.npz")
    filled = look_up(pairs, features, spare)
    np.testing.assert_array_equal(filled.left, [values[0], values[1], [7, 7]])
    assert filled.missing.tolist() == [False, True, False]
    assert filled.missing_names == ["e/9"]


def test_nothing_found() -> None:
    features = Features(["x/1.png"], np.ones((1, 2), np.float32), "f.npz")
    pairs = PairList(["a/1"], ["a/2"], SAME[:1], FOLD[:1])
    with pytest.raises(SphereFaceError, match='f.npz: "a/1" and every other image .* "x/1.png"'):
        look_up(pairs, features)


def test_bad_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", left=np.ones((2, 2)), flag=[1, -1])
    with pytest.raises(SphereFaceError, match="no right and no fold among flag, left; expected"):
        read_pair_features(tmp_path / "p.npz")
    two = {"left": np.ones((2, 2)), "right": np.ones((2, 2)), "fold": [1, 2]}
    np.savez(tmp_path / "p.npz", flag=[1, 2], **two)
    with pytest.raises(SphereFaceError, match="a flag of 2; expected 1, or -1 or 0"):
        read_pair_features(tmp_path / "p.npz")
    savemat(tmp_path / "p.mat", {"labels": [1, 2]})
    with pytest.raises(SphereFaceError, match="holds labels; expected a struct array with the fie"):
        read_pair_features(tmp_path / "p.mat")
    for content in (b"", b"MATLAB 5.0", bytes(600)):
        (tmp_path / "p.mat").write_bytes(content)
        with pytest.raises(SphereFaceError, match=r"p.mat: (no readable .mat|holds nothing)"):
            read_pair_features(tmp_path / "p.mat")
