"""Photographs to decision, with released models: what the whole room is for."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main


def variants(image):
    """The same photograph as other cameras would have stored it."""
    dark = 255 * (image / 255.0) ** 1.5
    turn = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), 8, 1)
    return {
        "plain": image,
        "mirrored": image[:, ::-1],
        "dark": dark.astype(np.uint8),
        "small": cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
        "turned": cv2.warpAffine(image, turn, image.shape[1::-1]),
    }


@pytest.mark.slow
@pytest.mark.parametrize("template", ["arcface-112x112", "112x112"])
def test_same_and_different_people(shared, tmp_path, template):
    for name in ("astronaut.png", "mtcnn_test1.jpg"):
        image = cv2.imread(str(shared(f"photos/{name}")))
        (tmp_path / "in").mkdir(exist_ok=True)
        for kind, variant in variants(image).items():
            cv2.imwrite(str(tmp_path / "in" / f"{name[0]}_{kind}.png"), variant)
    faces, crops, features = (str(tmp_path / name) for name in ("f.jsonl", "crops", "x.npz"))
    models, net = str(shared("mtcnn")), str(shared("lfw/mobilefacenet.caffemodel"))
    assert main(["detect", str(tmp_path / "in"), "--models", models, "--output", faces]) == 0
    options = ["--template", template, "--select", "all", "--format", "png"]
    assert main(["align", faces, *options, "--output", crops]) == 0
    values = ["--color", "rgb", "--mean", "128", "--scale", "0.0078125"]
    form = ["--preset", "mobilefacenet"] if template.startswith("arcface") else values
    assert main(["extract", net, net, crops, *form, "--output", features]) == 0
    with np.load(features) as found:
        rows = found["features"] / np.linalg.norm(found["features"], axis=1, keepdims=True)
        paths = found["path"].tolist()
    assert len(paths) == 15
    people = [PEOPLE[name] for name in owners(tmp_path / "f.jsonl", paths)]
    scores = rows @ rows.T
    same = np.equal.outer(people, people)
    others = ~np.eye(len(paths), dtype=bool)
    assert np.bincount(people).tolist() == [5, 5, 5]
    assert scores[same & others].min() > 0.8
    assert scores[~same].max() < 0.35


PEOPLE = {"a": 0, "m left": 1, "m right": 2}


def owners(faces, paths):
    """Return the photograph of each crop and, where it shows two people, the side."""
    records = {Path(r["file"]).stem: r for r in map(json.loads, faces.read_text().splitlines())}
    found = []
    for path in paths:
        stem, number, _ = path.split(".")
        record = records[stem]
        middles = [sum(face["box"][::2]) / 2 for face in record["faces"]]
        if stem.startswith("a"):
            found.append("a")
        else:
            left = middles[int(number)] == min(middles)
            found.append("m left" if left != stem.endswith("mirrored") else "m right")
    return found
