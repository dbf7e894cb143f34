from __future__ import annotations

import json

import numpy as np
import pytest

from sphereface.errors import ExistsError, SphereFaceError
from sphereface.images import list_images, read_image, write_image
from sphereface.recognition import Gallery, Threshold
from sphereface.recognition.drawing import colour_of
from sphereface.recognition.enrollment import calibrate_folder, enroll, people_of
from sphereface.recognition.identification import Identifier, identify_pictures, identify_video
from sphereface.recognition.video import Video, VideoFile


@pytest.fixture
def people(tmp_path, picture):
    """A folder for Ann and Bob, a picture for Cléo, and one without a face."""
    root = tmp_path / "people"
    for name in ("Ann", "Bob"):
        (root / name).mkdir(parents=True)
        for number, x in enumerate((10, 90)):
            write_image(root / name / f"{number}.png", picture((x, name)), color="rgb")
    write_image(root / "Cléo.png", picture((50, "Cléo")), color="rgb")
    write_image(root / "Bob" / "none.png", picture(), color="rgb")
    return root


@pytest.fixture
def identifier(people, analyzer):
    gallery = enroll(people_of(people), analyzer).gallery
    return Identifier(analyzer, gallery, Threshold(0.9, "test"))


def test_enrolled(people, analyzer, colours):
    done = enroll(people_of(people), analyzer)
    assert done.gallery.people == ["Ann", "Bob", "Cléo"]
    assert len(done.gallery.names) == 5
    assert list(done.failures.values()) == ["no face found"]
    assert (done.gallery.embedder, done.gallery.label) == ("c0", "colours")
    expected = np.array(colours["Ann"]) / np.linalg.norm(colours["Ann"])
    np.testing.assert_allclose(done.gallery.embeddings[0], expected, atol=0.02)
    with pytest.raises(SphereFaceError, match=r"no people; expected a folder or a picture"):
        people_of(people / "Ann" / "0.png")


def test_a_person_without_pictures_is_named_and_left_out(people, analyzer):
    (people / "Dora").mkdir()
    (people / "Emil" / "deep").mkdir(parents=True)
    (people / "Emil" / "deep" / "notes.txt").write_text("no picture")
    done = enroll(people_of(people), analyzer)
    assert done.gallery.people == ["Ann", "Bob", "Cléo"]
    told = {name: why for name, why in done.failures.items() if name in ("Dora", "Emil")}
    assert told == dict.fromkeys(("Dora", "Emil"), "a folder without a picture that can be read")
    _, failures = calibrate_folder(people, analyzer, 0.2)
    assert failures == done.failures


def test_pictures_without_a_face_are_told_before_empty_folders(people, analyzer):
    none = str(people / "Bob" / "none.png")
    given = {"Dora": [], "Emil": [], "Finn": [], "Bob": [none]}
    expected = rf"no face in 1 pictures \({none}: no face found; Dora: a folder without"
    with pytest.raises(SphereFaceError, match=expected):
        enroll(given, analyzer)


def test_only_people_without_pictures(tmp_path):
    (tmp_path / "Dora").mkdir()
    with pytest.raises(SphereFaceError, match=r"no people; expected a folder or a picture"):
        people_of(tmp_path)


def test_who_is_in_a_picture(identifier, picture, colours):
    found = identifier(picture((0, "Bob"), (60, (250, 250, 250)), (120, "Cléo")))
    assert [person.name for person in found] == ["Bob", None, "Cléo"]
    assert [person.known for person in found] == [True, False, True]
    assert found[0].match.score > 0.99
    white, ann = np.ones(3) / np.sqrt(3), np.array(colours["Ann"])
    assert found[1].match.score == pytest.approx(ann @ white / np.linalg.norm(ann), abs=0.02)
    assert identifier(picture()) == []


def test_pictures(tmp_path, identifier, picture):
    inputs = tmp_path / "inputs"
    (inputs / "deep").mkdir(parents=True)
    write_image(inputs / "deep" / "both.png", picture((10, "Ann"), (120, "Bob")), color="rgb")
    write_image(inputs / "empty.png", picture(), color="rgb")
    (inputs / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = identify_pictures(list_images([inputs]), identifier, tmp_path / "out")
    assert (done.pictures, done.faces, done.strangers) == (2, 2, 0)
    assert list(done.failures) == [str(inputs / "broken.png")]
    lines = [json.loads(x) for x in (tmp_path / "out/identities.jsonl").read_text().splitlines()]
    assert [(line["file"], line["status"]) for line in lines] == [
        ("broken.png", "unreadable"), ("deep/both.png", "ok"), ("empty.png", "no_face"),
    ]  # fmt: skip
    assert [face["name"] for face in lines[1]["faces"]] == ["Ann", "Bob"]
    assert lines[1]["faces"][0]["box"] == [11, 21, 50, 60]  # 1-based, both ends inside
    drawn = read_image(tmp_path / "out/deep/both.png", color="rgb")
    for x, name in ((10, "Ann"), (159, "Bob")):  # OpenCV smooths its lines
        np.testing.assert_allclose(drawn[40, x].astype(int), colour_of(name), atol=20)
    with pytest.raises(ExistsError, match=r"identities\.jsonl"):
        identify_pictures(list_images([inputs]), identifier, tmp_path / "out")


def test_the_users_pictures_are_never_replaced(tmp_path, identifier, picture):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    write_image(inputs / "a.png", picture((10, "Ann")), color="rgb")
    before = (inputs / "a.png").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(SphereFaceError, match=r"a\.png: the output is an input"):
            identify_pictures(list_images([inputs]), identifier, inputs, overwrite=overwrite)
    # Nor by another name of the folder.
    (tmp_path / "link").symlink_to(inputs)
    with pytest.raises(SphereFaceError, match="the output is an input"):
        identify_pictures(list_images([inputs]), identifier, tmp_path / "link", overwrite=True)
    assert [path.name for path in inputs.iterdir()] == ["a.png"]
    assert (inputs / "a.png").read_bytes() == before
    # What lies in the folder of results only where that is asked for.
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"precious")
    with pytest.raises(ExistsError, match=r"a\.png"):
        identify_pictures(list_images([inputs]), identifier, out)
    assert [path.name for path in out.iterdir()] == ["a.png"]
    assert (out / "a.png").read_bytes() == b"precious"
    identify_pictures(list_images([inputs]), identifier, out, overwrite=True)
    assert read_image(out / "a.png").shape == (80, 200, 3)


def test_pictures_that_would_be_written_under_one_name(tmp_path, identifier, picture):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    write_image(inputs / "a.png", picture((10, "Ann")), color="rgb")
    write_image(inputs / "a.tif", picture((10, "Bob")), color="rgb")
    identify_pictures(list_images([inputs]), identifier, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000000_a.png", "000001_a.png", "identities.jsonl",
    ]  # fmt: skip


def film(path, picture, names):
    with VideoFile(path, 10, (80, 200)) as video:
        for number, name in enumerate(names):
            video.write(picture((20 + 2 * number, name)))


def test_video(tmp_path, identifier, picture, monkeypatch):
    film(tmp_path / "in.avi", picture, ["Ann"] * 6)
    looked = []
    monkeypatch.setattr(
        Identifier, "__call__", lambda self, image, tracks: looked.append(image.shape) or []
    )
    done = identify_video(str(tmp_path / "in.avi"), identifier, tmp_path / "out", every=4)
    assert len(looked) == done.pictures == 2
    lines = (tmp_path / "out/identities.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 4]
    assert json.loads(lines[1])["seconds"] == pytest.approx(0.4)
    with Video(str(tmp_path / "out/in.mp4")) as video:
        assert video.frames == 6
    with pytest.raises(SphereFaceError, match="every 0"):
        identify_video(str(tmp_path / "in.avi"), identifier, tmp_path / "out", every=0)


def test_the_users_video_is_never_replaced(tmp_path, identifier, picture):
    film(tmp_path / "in.mp4", picture, ["Ann"] * 2)
    before = (tmp_path / "in.mp4").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(SphereFaceError, match=r"in\.mp4: the output is an input"):
            identify_video(
                str(tmp_path / "in.mp4"), identifier, tmp_path, overwrite=overwrite
            )  # fmt: skip
    assert (tmp_path / "in.mp4").read_bytes() == before
    film(tmp_path / "in.avi", picture, ["Ann"] * 2)
    with pytest.raises(ExistsError, match=r"in\.mp4"):
        identify_video(str(tmp_path / "in.avi"), identifier, tmp_path)
    assert (tmp_path / "in.mp4").read_bytes() == before
    assert not (tmp_path / "identities.jsonl").exists()


def test_smoothing_over_frames(identifier, picture):
    """A frame that looks like somebody else does not change the name."""
    from sphereface.recognition import Tracks

    sequence = ["Ann", "Ann", "Bob", "Ann"]
    for weight, expected in ((0.0, sequence), (0.9, ["Ann"] * 4)):
        tracks = Tracks(weight)
        people = [identifier(picture((20 + i, name)), tracks)[0] for i, name in enumerate(sequence)]
        assert [person.match.name for person in people] == expected
        assert {person.track for person in people} == {0}


def test_an_interrupt_leaves_what_there_is(tmp_path, identifier, picture, monkeypatch):
    film(tmp_path / "in.avi", picture, ["Ann"] * 6)
    calls = []

    def interrupted(self, image, tracks):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr(Identifier, "__call__", interrupted)
    done = identify_video(str(tmp_path / "in.avi"), identifier, tmp_path / "out")
    assert done.pictures == 2
    assert len((tmp_path / "out/identities.jsonl").read_text().splitlines()) == 2
    with Video(str(tmp_path / "out/in.mp4")) as video:
        assert video.frames == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "identities.jsonl", "in.mp4",
    ]  # fmt: skip


def test_another_models_gallery_or_threshold(analyzer, identifier):
    other = Gallery(["a"], [[1.0, 0, 0]], ["a"], embedder="other", label="O")
    with pytest.raises(SphereFaceError, match="a gallery of O"):
        Identifier(analyzer, other, identifier.threshold)
    with pytest.raises(SphereFaceError, match="a threshold of another model"):
        Identifier(analyzer, identifier.gallery, Threshold(0.3, "x", "other"))


def test_calibrated_on_a_folder(people, analyzer):
    threshold, failures = calibrate_folder(people, analyzer, 0.2)
    rows = enroll(people_of(people), analyzer).gallery.embeddings
    cosines = rows @ rows.T
    assert threshold.genuine == 2  # Ann's and Bob's two pictures
    assert threshold.impostors == 8
    assert threshold.tar == 1
    assert threshold.value > cosines[0, 2]
    assert len(failures) == 1
