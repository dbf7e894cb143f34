from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

from sphereface.evaluation.plots import new_figure
from sphereface.evaluation.report import Section, write_report
from sphereface.evaluation.tables import Table

EVIL = "<script>alert(1)</script>&\"'"
RECORD = {
    "sphereface": "0.1.0",
    "options": {"pairs": EVIL, "html": "x.html", "pca": None, "far": [0.1]},
    "inputs": {f"{EVIL}.npz": "ab" * 32},
}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def read(tmp_path: Path) -> tuple[str, Reader]:
    figure = new_figure((2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    table = Table(EVIL, ["fold", EVIL], [["1", "99.83%"], [EVIL, "-"]], ["AVE", "99.52%"], [EVIL])
    sections = [Section("Verification", [table], {EVIL: figure}), Section("Empty", [], {})]
    write_report(tmp_path / "r.html", EVIL, sections, RECORD)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_names_are_escaped(tmp_path: Path) -> None:
    text, reader = read(tmp_path)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert "<script" not in text
    assert reader.text.count(EVIL) >= 4
    for cell in ("99.83%", "AVE", "99.52%", "ab" * 32):
        assert cell in reader.text


def test_nothing_is_fetched_and_the_picture_is_inside(tmp_path: Path) -> None:
    text, reader = read(tmp_path)
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    [image] = [attributes for tag, attributes in reader.tags if tag == "img"]
    start, _, data = image["src"].partition(",")
    assert start == "data:image/png;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (120, 240, 3)
    assert image["alt"] == EVIL


def test_light_and_dark(tmp_path: Path) -> None:
    assert "color-scheme: light dark" in read(tmp_path)[0]
