from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation import read_pairs

ROOT = Path(__file__).parents[3]
A, B = "Ann_Lee/Ann_Lee_0001", "Bo/Bo_0012"


def read(tmp_path: Path, text: str):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return read_pairs(path)


LFW = "Ann_Lee\t1\t2\nBo\t12\t3\nAnn_Lee\t1\tBo\t12\nBo\t3\tAnn_Lee\t2\n"


def test_lfw_with_its_header(tmp_path: Path) -> None:
    pairs = read(tmp_path, "2\t1\n" + "".join(LFW.splitlines(True)[i] for i in (0, 2, 1, 3)))
    assert pairs.left == [A, A, "Bo/Bo_0012", "Bo/Bo_0003"]
    assert pairs.right == ["Ann_Lee/Ann_Lee_0002", B, "Bo/Bo_0003", "Ann_Lee/Ann_Lee_0002"]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("header", ["2\n", "1 2\r\n"])
def test_one_fold_of_dev_lists(tmp_path: Path, header: str) -> None:
    pairs = read(tmp_path, header + LFW.replace("\t", "  "))
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.fold.tolist() == [1] * 4


def test_without_header_ten_equal_parts(tmp_path: Path) -> None:
    pairs = read(tmp_path, LFW * 10)
    assert pairs.fold.tolist() == np.repeat(np.arange(1, 11), 4).tolist()
    assert read(tmp_path, LFW).fold.tolist() == [1, 2, 3, 4]


def test_names_with_blanks_between_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, "Ann Lee\t1\t2\n").left == ["Ann Lee/Ann Lee_0001"]


@pytest.mark.parametrize(
    "text",
    [
        "x/a.jpg x/b.jpg 1\ny/a.jpg x/c.jpg 0\n",
        "1 x/a.jpg x/b.jpg\n0 y/a.jpg x/c.jpg\n",
        "x/a.jpg\tx/b.jpg\t1\n\ny/a.jpg\tx/c.jpg\t-1",
        "path1,path2,label\nx/a.jpg,x/b.jpg,1\ny/a.jpg,x/c.jpg,0\n",
        "same,right,left\nTrue,x/b.jpg,x/a.jpg\nfalse,x/c.jpg,y/a.jpg\n",
    ],
)
def test_paths_and_flags(tmp_path: Path, text: str) -> None:
    pairs = read(tmp_path, text)
    assert pairs.left == ["x/a.jpg", "y/a.jpg"]
    assert pairs.right == ["x/b.jpg", "x/c.jpg"]
    assert pairs.same.tolist() == [True, False]


def test_csv_with_folds_and_kaggles_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "left,right,flag,fold\na,b,1,3\nc,d,-1,4\n").fold.tolist() == [3, 4]
    pairs = read(tmp_path, "name,imagenum1,name,imagenum2\nAnn_Lee,1,Bo,12\nBo,12,3,\n")
    assert (pairs.left, pairs.right) == ([A, B], [B, "Bo/Bo_0003"])
    assert pairs.same.tolist() == [False, True]


def test_numbers_as_names(tmp_path: Path) -> None:
    pairs = read(tmp_path, "17 4 1\n17 5 0\n")  # IJB's templates
    assert (pairs.left, pairs.right, pairs.same.tolist()) == (
        ["17", "17"],
        ["4", "5"],
        [True, False],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs; expected a line a pair"),
        ("Ann 1 2\nAnn 1\n", "pairs.txt:2: 'Ann 1'; expected 'name n1 n2'"),
        ("a b 7\n", "pairs.txt:1: 'a b 7'"),
        ("10\t300\n" + LFW, "4 pairs; expected 6000: the header says 10 folds of 300 same"),
        ("left,right,flag\na,b,maybe\n", "pairs.txt:2: 'a,b,maybe'; expected two images, a flag"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SphereFaceError, match=message):
        read(tmp_path, text)


def test_view_2_of_lfw() -> None:
    path = ROOT / "shared" / "lfw" / "pairs.txt"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    pairs = read_pairs(path)
    assert pairs.same.sum() == 3000
    np.testing.assert_array_equal(pairs.fold, np.ceil(np.arange(1, 6001) / 600))
    images = {*pairs.left, *pairs.right}
    assert len(images) == 7701
    assert len({name.split("/")[0] for name in images}) == 4281
