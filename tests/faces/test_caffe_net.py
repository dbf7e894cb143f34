from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
import torch

from reference.detection_nets import NETS, fill_again
from sphereface.caffe import list_layers, load, registry
from sphereface.cli.main import main
from sphereface.errors import SphereFaceError
from sphereface.faces.caffe_net import CaffeNet, CaffeNetSettings
from sphereface.faces.detectors import DetectorOptions, open_detector

OPTIONS = DetectorOptions(thresholds=(0.55,), scale=1 / 64, min_size=4)


@pytest.fixture
def prototxt(tmp_path):
    net = load(NETS["res10_face"]())
    fill_again(net)
    net.save(tmp_path / "face.caffemodel")
    (tmp_path / "face.prototxt").write_text(NETS["res10_face"]())
    return tmp_path / "face.prototxt"


def expected(prototxt, image):
    """The net's own rows for an RGB picture of its size."""
    net = load(prototxt, prototxt.with_suffix(".caffemodel"))
    data = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
    data = (data - np.float32([104, 117, 123])[:, None, None]) / 64
    with torch.no_grad():
        rows = net(torch.from_numpy(data[None]))["detection_out"][0, 0].numpy().astype(float)
    rows = rows[rows[:, 2] >= 0.55]
    boxes = rows[np.argsort(-rows[:, 2], kind="stable")][:, 2:]
    boxes[:, 1:] *= 60
    keep = np.minimum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2]) >= 4
    return boxes[keep]


def test_its_faces(prototxt, rng):
    images = rng.integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)
    opened = open_detector(str(prototxt), OPTIONS)
    assert len(opened.files) == 2
    assert (opened.settings["threshold"], opened.settings["size"]) == (0.55, (60, 60))
    for image, faces in zip(images, opened.detect(list(images)), strict=True):
        rows = expected(prototxt, image)
        assert len(faces) == len(rows) > 1
        for face, (score, *corners) in zip(faces, rows, strict=True):
            assert face.score == pytest.approx(score, rel=1e-4)
            np.testing.assert_allclose(face.box, np.subtract(corners, [0, 0, 1, 1]), atol=1e-2)
            assert face.landmarks is None


def test_its_command(prototxt, rng, tmp_path, capsys):
    picture = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture[:, :, ::-1])
    output = tmp_path / "faces.jsonl"
    options = ["--thresholds", "0.55", "--scale", str(1 / 64), "--min-size", "4"]
    command = ["detect", str(tmp_path / "a.png"), "--output", str(output)]
    assert main([*command, "--detector", str(prototxt), *options]) == 0
    (line,) = output.read_text().splitlines()
    rows = expected(prototxt, picture)
    assert f"{len(rows)} faces in 1 of 1 pictures" in capsys.readouterr().out
    found = json.loads(line)["faces"]
    assert len(found) == len(rows)
    # Files count from 1.
    np.testing.assert_allclose(found[0]["box"][:2], rows[0][1:3] + 1, atol=0.06)


def test_what_is_refused(prototxt, tmp_path):
    with pytest.raises(SphereFaceError, match=r"none\.caffemodel: no such file; name the caffemod"):
        CaffeNet(prototxt, tmp_path / "none.caffemodel")
    with pytest.raises(SphereFaceError, match="it has no factor"):
        open_detector(str(prototxt), DetectorOptions(factor=0.5))
    with pytest.raises(SphereFaceError, match="expected one number"):
        open_detector(str(prototxt), DetectorOptions(thresholds=(0.1, 0.2)))
    with pytest.raises(SphereFaceError, match='detector "mtcnn": it has no mean'):
        open_detector("mtcnn", DetectorOptions(mean=(1.0,)))
    many = prototxt.with_name("many.prototxt")
    many.write_text(NETS["mobilenet_ssd"]())
    net = load(many)
    net.save(many.with_suffix(".caffemodel"))
    with pytest.raises(SphereFaceError, match="num_classes 5; expected 2, background and faces"):
        CaffeNet(many)


def test_pictures_in_their_own_size(prototxt, rng):
    picture = rng.integers(0, 256, (72, 84, 3), dtype=np.uint8)
    settings = CaffeNetSettings(threshold=0.5, scale=1 / 64)
    own = CaffeNet(prototxt, settings=settings, native=True)
    warped = CaffeNet(prototxt, settings=settings)
    assert (own.settings.size, warped.settings.size) == (None, (60, 60))
    assert [face.score for face in own(picture)] != [face.score for face in warped(picture)]


LAYERS = """
import sphereface.caffe as caffe


@caffe.register_layer("ActOfTheFaceTest")
class Act(caffe.Layer):
    def forward(self, x):
        return x.clamp(min=0)
"""


def test_a_net_with_layers_of_a_file_in_worker_processes(prototxt, rng, tmp_path, monkeypatch):
    list_layers()
    monkeypatch.setattr(registry, "LAYERS", dict(registry.LAYERS))
    (tmp_path / "layers_of_the_face_test.py").write_text(LAYERS)
    own = prototxt.read_text().replace('"ReLU"', '"ActOfTheFaceTest"')
    (tmp_path / "own.prototxt").write_text(own)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(pictures / name), rng.integers(0, 256, (60, 60, 3), dtype=np.uint8))
    options = [str(pictures), "--models", str(prototxt.with_suffix(".caffemodel")), "--thresholds",
               "0.55", "--scale", "0.015625", "--min-size", "4"]  # fmt: skip
    found = []
    for net, more in (
        (str(prototxt), []),
        (
            str(tmp_path / "own.prototxt"),
            ["--layers", str(tmp_path / "layers_of_the_face_test.py"), "--workers", "2"],
        ),
    ):
        output = tmp_path / f"{len(found)}.jsonl"
        assert main(["detect", *options, "--detector", net, "--output", str(output), *more]) == 0
        found.append(
            {
                line["path"]: line["faces"]
                for line in map(json.loads, output.read_text().splitlines())
                if "path" in line
            }
        )
    sys.modules.pop("layers_of_the_face_test", None)
    assert found[0] == found[1]
    assert all(found[0].values())
