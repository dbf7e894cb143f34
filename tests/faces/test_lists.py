import os

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.errors import SphereFaceError
from sphereface.faces.lists import CASIA_OVERLAP, exclude, find_people, read_names, split

SIZES = {"b": 3, "A": 2, "a": 5, "é": 1, "0166921": 2, "Z z": 4}


@pytest.fixture
def root(tmp_path):
    image = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for name, count in SIZES.items():
        (tmp_path / "root" / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / "root" / name / f"{index:02}.png").write_bytes(image)
    (tmp_path / "root" / "A" / "readme.txt").write_text("no picture")
    return tmp_path / "root"


def test_people_are_sorted_by_bytes(root):
    people = find_people(root)
    assert list(people) == sorted(SIZES, key=os.fsencode) == ["0166921", "A", "Z z", "a", "b", "é"]
    assert {name: len(images) for name, images in people.items()} == SIZES
    assert people["A"] == ["A/00.png", "A/01.png"]


def test_pictures_without_a_person(root):
    (root / "00.png").write_bytes((root / "A/00.png").read_bytes())
    with pytest.raises(SphereFaceError, match=r"1 pictures in the folder itself, 00\.png first"):
        find_people(root)


def test_exclude(root):
    people = find_people(root)
    assert list(exclude(people, CASIA_OVERLAP)) == ["A", "Z z", "a", "b", "é"]
    assert list(exclude(people, ["z_Z", "É"])) == ["0166921", "A", "a", "b"]
    assert list(exclude(people, [], 3)) == ["Z z", "a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0166921\n1056413\n", {"0166921", "1056413"}),
        ("Ann_Lee\nBo Derek\n\n", {"Ann_Lee", "Bo Derek"}),
        ("2\nAnn_Lee\t4\nBo\t1\n", {"Ann_Lee", "Bo"}),
        ("10\n601\nAnn_Lee\t4\n600\nBo\t1\n", {"Ann_Lee", "Bo"}),
        ("10\t300\nAnn_Lee\t1\t4\nAnn_Lee\t1\tBo\t2\n", {"Ann_Lee", "Bo"}),
        ("Ann_Lee 1 Cy 4\n", {"Ann_Lee", "Cy"}),
    ],
)
def test_names(tmp_path, text, expected):
    (tmp_path / "names.txt").write_text(text)
    assert read_names(tmp_path / "names.txt") == expected


def test_names_of_a_table(tmp_path):
    (tmp_path / "names.csv").write_text('0001,"Lee, Ann"\n0002,Bo\n')
    assert read_names(tmp_path / "names.csv") == {"0001", "0002"}


def test_split_by_people(root):
    people = find_people(root)
    train, validation = split(people, 0.3, "people", seed=1)
    assert len(validation) == 2
    assert set(train) | set(validation) == set(people)
    assert not set(train) & set(validation)
    assert list(train) == [name for name in people if name in train]
    assert (train, validation) == split(people, 0.3, "people", seed=1)
    assert any(split(people, 0.3, "people", seed)[1] != validation for seed in range(2, 6))


def test_split_by_images(root):
    people = find_people(root)
    train, validation = split(people, 0.4, "images")
    for name, images in people.items():
        assert sorted(train[name] + validation[name]) == images
        assert len(validation[name]) == {1: 0, 2: 1, 3: 1, 4: 2, 5: 2}[len(images)]
    assert split({"a": ["1"]}, 0.9, "images") == ({"a": ["1"]}, {"a": []})


def test_bad_splits(root):
    with pytest.raises(SphereFaceError, match=r"a fraction of 1\.0"):
        split(find_people(root), 1.0)
    with pytest.raises(SphereFaceError, match="one person cannot be split"):
        split({"a": ["1", "2"]}, 0.5)


def test_command(root, tmp_path, capsys):
    output = tmp_path / "train.txt"
    assert main(["list", str(root), "--output", str(output), "--casia", "--min-images", "2"]) == 0
    assert output.read_text() == "".join(
        f"{name}/{index:02}.png {label}\n"
        for label, name in enumerate(["A", "Z z", "a", "b"])
        for index in range(SIZES[name])
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{output}: 14 images of 4 people",
        "left out: 0166921, é",
    ]
    assert main(["list", str(root), "--output", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_command_splits(root, tmp_path, capsys):
    train, validation, names = (tmp_path / name for name in ("t.txt", "v.txt", "names.txt"))
    names.write_text("a\n")
    words = ["--fraction", "0.5", "--split-by", "images", "--exclude", str(names), "--absolute"]
    command = ["list", str(root), "--output", str(train), "--validation", str(validation)]
    assert main([*command, *words]) == 0
    # A validation list keeps the training labels.
    assert f"{root}/b/" in validation.read_text()
    labels = [
        {line.split("/")[-2]: line.split()[-1] for line in path.read_text().splitlines()}
        for path in (train, validation)
    ]
    assert labels[1].items() <= labels[0].items()
    assert labels[0] == {"0166921": "0", "Z z": "1", "b": "2", "é": "3"} or "A" in labels[0]
    assert main(["list", str(root), "--output", str(train), "--fraction", "0.5"]) == 2
    assert "both or none" in capsys.readouterr().err


def test_names_that_fit_no_line(root, tmp_path, capsys):
    (root / "A" / "new\nline.png").write_bytes((root / "A/00.png").read_bytes())
    assert main(["list", str(root), "--output", str(tmp_path / "x.txt")]) == 2
    assert "rename it" in capsys.readouterr().err
    assert not (tmp_path / "x.txt").exists()
