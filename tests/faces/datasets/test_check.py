import json

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.errors import SphereFaceError
from sphereface.faces.datasets import check
from sphereface.faces.datasets.check import KnownSet, check_dataset


@pytest.fixture
def root(tmp_path):
    image = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    for name, count in (("Ann_Lee", 3), ("Bo", 1), ("Cy", 2)):
        (tmp_path / "root" / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / "root" / name / f"{index}.png").write_bytes(image)
    (tmp_path / "root/Cy/0.png").write_bytes(b"")
    (tmp_path / "root/Cy/1.png").write_bytes(image[:-20])
    return tmp_path / "root"


def test_report(root, monkeypatch):
    report = check_dataset(root, others=["ann lee", "Dan"])
    assert (report.people, report.images, report.single) == (3, 6, 1)
    assert (report.smallest, report.largest) == (1, 3)
    assert report.overlap == ["Ann_Lee"]
    assert list(report.unreadable) == ["Cy/0.png"]
    assert report.remarks == []
    deep = check_dataset(root, decode=True)
    assert list(deep.unreadable) == ["Cy/0.png", "Cy/1.png"]


def test_known_counts(root, monkeypatch):
    monkeypatch.setitem(check.KNOWN, "mine", KnownSet(3, 7, "me"))
    assert check_dataset(root, "mine").remarks == ["6 pictures; a whole copy has 7 (me)"]
    monkeypatch.setitem(check.KNOWN, "mine", KnownSet(3, 7, "me", 0.2))
    assert check_dataset(root, "mine").remarks == []
    with pytest.raises(SphereFaceError, match='no data set "minf"; .* did you mean "mine"'):
        check_dataset(root, "minf")


def test_command(root, tmp_path, capsys):
    (tmp_path / "pairs.txt").write_text("10\t300\nBo\t1\t2\nAnn_Lee\t1\tDan\t2\n")
    report = tmp_path / "report.json"
    words = ["--others", str(tmp_path / "pairs.txt"), "--json", str(report)]
    assert main(["check-dataset", str(root), *words]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "3 people, 6 pictures",
        "1 to 3 pictures a person; 1 have one",
        "1 pictures cannot be read:",
        "  Cy/0.png: empty file",
        "2 people are in --others:",
        "  Ann_Lee",
        "  Bo",
    ]
    assert json.loads(report.read_text())["overlap"] == ["Ann_Lee", "Bo"]
    (root / "Cy/0.png").unlink()
    assert main(["check-dataset", str(root)]) == 0
