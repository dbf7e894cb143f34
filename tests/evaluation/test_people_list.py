from __future__ import annotations

from pathlib import Path

import pytest

from sphereface.errors import SphereFaceError
from sphereface.evaluation.people_list import read_people


def read(tmp_path: Path, text: str):
    (tmp_path / "people.txt").write_text(text)
    return read_people(tmp_path / "people.txt")


def test_sets(tmp_path: Path) -> None:
    people = read(tmp_path, "2\n2\nAnn_Lee\t3\nBo\t1\n1\nCy\t12\n")
    assert people.name == ["Ann_Lee", "Bo", "Cy"]
    assert people.images.tolist() == [3, 1, 12]
    assert people.fold.tolist() == [1, 1, 2]


def test_one_set_without_their_number(tmp_path: Path) -> None:
    people = read(tmp_path, "2\nAnn_Lee\t3\nBo\t1\n")
    assert people.fold.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\nBo\t1\n", "people.txt:1: 1 people; expected 3, as this line says"),
        ("2\n1\nBo\t1\n", "people.txt:1: 1 sets; expected 2, as this line says"),
        ("1\nBo\tone\n", "people.txt:2: 'Bo one'; expected name and images"),
        ("Bo\t1\n", "no people"),
        ("", "no people"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SphereFaceError, match=message):
        read(tmp_path, text)
