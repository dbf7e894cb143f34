import csv
import json

import cv2
import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.faces import TEMPLATES, Face, align, aligned_folder
from sphereface.faces.aligned_folder import Crops, align_folder, crop_names
from sphereface.faces.records import face_record

TURN = np.array([[0.5, 0.2], [-0.2, 0.5]])
PNG = Crops(format="png")


def face_at(shift, score=0.9):
    points = TEMPLATES["112x96"].pixels @ TURN.T + shift
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(np.concatenate([low - 9, high + 9]).round(4), score, points.round(4))


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[:, :, ::-1]


@pytest.fixture
def photos(tmp_path, drawing):
    """A folder of pictures and its file of faces, as `detect` writes it."""
    root = tmp_path / "photos"
    pictures = {
        "Ann/Ann_0001.png": drawing(130, 140),
        "Ann/Ann_0002.png": drawing(120, 150),
        "schön/人.png": drawing(110, 110)[:, :, 1],
    }
    faces = {
        "Ann/Ann_0001.png": [face_at((20, 50))],
        "Ann/Ann_0002.png": [face_at((5, 30), 0.99), face_at((45, 45), 0.95)],
        "schön/人.png": [face_at((20, 40))],
    }
    records = []
    for name, image in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), image if image.ndim == 2 else image[:, :, ::-1])
        found = [face_record(face) for face in faces[name]]
        size = {"width": image.shape[1], "height": image.shape[0]}
        records.append({"file": name, "status": "ok", **size, "faces": found})
    records.append(
        {"file": "none.png", "status": "no_face", "reason": "no face found", "faces": []}
    )
    write_faces(tmp_path / "faces.jsonl", records, root)
    return tmp_path, pictures, faces


def write_faces(path, records, root):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    meta = {"root": str(root), "settings": {"exif": True, "max_pixels": 10**6}}
    path.with_name(f"{path.name}.meta.json").write_text(json.dumps(meta))


def failures(summary):
    with summary.failures.open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}


def test_crops_keep_their_places(photos):
    folder, pictures, faces = photos
    summary = align_folder(folder / "faces.jsonl", folder / "out", PNG)
    assert summary.counts == {"ok": 3, "no_face": 1}
    assert (summary.crops, summary.several) == (3, 1)
    assert failures(summary) == {"none.png": ("no_face", "no face found")}
    for name, image in pictures.items():
        chosen = faces[name][-1]  # of the second picture, the central one
        expected = align(image, chosen.landmarks, "112x96")
        got = read(folder / "out" / name)
        assert got.shape == expected.shape  # grey stays grey
        assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("how", "chosen"), [("best", [0]), ("central", [1]), ("all", [0, 1])])
def test_selections(photos, how, chosen):
    folder, pictures, faces = photos
    align_folder(folder / "faces.jsonl", folder / "out", Crops("arcface-112x112", how, "png"))
    name = "Ann/Ann_0002"
    paths = sorted((folder / "out" / "Ann").glob("Ann_0002*"))
    numbers = [f".{n}" for n in range(len(chosen))] if how == "all" else [""]
    assert [path.name for path in paths] == [f"Ann_0002{number}.png" for number in numbers]
    for path, index in zip(paths, chosen, strict=True):
        landmarks = faces[f"{name}.png"][index].landmarks
        expected = align(pictures[f"{name}.png"], landmarks, "arcface-112x112")
        assert np.abs(read(path).astype(int) - expected).max() <= 1


def test_jpeg_of_the_originals_quality(photos):
    folder, pictures, faces = photos
    align_folder(folder / "faces.jsonl", folder / "out")
    crop = align(pictures["Ann/Ann_0001.png"], faces["Ann/Ann_0001.png"][0].landmarks, "112x96")
    expected = cv2.imencode(".jpg", crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
    assert (folder / "out" / "Ann" / "Ann_0001.jpg").read_bytes() == expected


def test_sidecar(photos):
    folder, _, _ = photos
    align_folder(folder / "faces.jsonl", folder / "out", PNG)
    sidecar = (folder / "out/aligned.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in sidecar.splitlines()]
    assert [line["crops"] for line in lines] == [
        ["Ann/Ann_0001.png"],
        ["Ann/Ann_0002.png"],
        ["schön/人.png"],
        [],
    ]
    meta = json.loads((folder / "out/aligned.jsonl.meta.json").read_text())
    assert meta["template"]["name"] == "112x96"
    assert meta["template"]["fit"] == "inverse"
    assert meta["crops"] == PNG._asdict()
    assert meta["root"] == str(folder / "photos")


def test_never_twice(photos):
    folder, _, _ = photos
    align_folder(folder / "faces.jsonl", folder / "out", PNG)
    record = {"file": "Ann/Ann_0001.png", "status": "ok", "faces": [face_record(face_at((5, 5)))]}
    write_faces(folder / "again.jsonl", [record], folder / "out")
    with pytest.raises(SphereFaceError, match="the pictures are aligned crops already"):
        align_folder(folder / "again.jsonl", folder / "twice")
    with pytest.raises(SphereFaceError, match="the output is the folder of the pictures"):
        align_folder(folder / "faces.jsonl", folder / "photos", overwrite=True)


def test_the_same_again_is_done(photos):
    folder, _, _ = photos
    first = align_folder(folder / "faces.jsonl", folder / "out", PNG)
    crop = folder / "out/Ann/Ann_0001.png"
    crop.write_bytes(b"as it is")
    assert align_folder(folder / "faces.jsonl", folder / "out", PNG) == first
    assert crop.read_bytes() == b"as it is"
    crop.unlink()
    with pytest.raises(SphereFaceError, match="exists already"):
        align_folder(folder / "faces.jsonl", folder / "out", PNG)


def test_other_files_are_kept(photos):
    folder, _, _ = photos
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")
    with pytest.raises(SphereFaceError, match="the folder has other files"):
        align_folder(folder / "faces.jsonl", folder / "out")
    align_folder(folder / "faces.jsonl", folder / "out", Crops(select="all"), overwrite=True)
    assert (folder / "out/Ann/Ann_0002.1.jpg").exists()
    with pytest.raises(SphereFaceError, match="exists already"):
        align_folder(folder / "faces.jsonl", folder / "out")
    align_folder(folder / "faces.jsonl", folder / "out", overwrite=True)
    # No crop of the replaced run is left among the new ones.
    assert sorted(path.name for path in (folder / "out/Ann").iterdir()) == [
        "Ann_0001.jpg",
        "Ann_0002.jpg",
    ]
    assert (folder / "out" / "mine.txt").read_text() == "mine"


def test_a_stopped_run_is_continued(photos, monkeypatch):
    folder, _, _ = photos
    align_folder(folder / "faces.jsonl", folder / "whole", PNG)
    monkeypatch.setattr(aligned_folder, "_BATCH", 2)
    write, written = aligned_folder.write_image, []

    def stop(path, image, **options):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, image, **options)

    monkeypatch.setattr(aligned_folder, "write_image", stop)
    with pytest.raises(KeyboardInterrupt):
        align_folder(folder / "faces.jsonl", folder / "out", PNG)
    written.clear()
    align_folder(folder / "faces.jsonl", folder / "out", PNG)
    assert [path.name for path in written] == ["人.png"]
    for path in (folder / "whole").rglob("*"):
        if path.is_file():
            assert (folder / "out" / path.relative_to(folder / "whole")).read_bytes() == (
                path.read_bytes()
            )


def test_failures_of_pictures(photos):
    folder, _, _ = photos
    (folder / "photos/Ann/Ann_0001.png").write_bytes(b"")
    cv2.imwrite(str(folder / "photos/Ann/Ann_0002.png"), np.zeros((50, 60, 3), np.uint8))
    summary = align_folder(folder / "faces.jsonl", folder / "out", PNG)
    assert summary.counts == {"unreadable": 1, "error": 1, "ok": 1, "no_face": 1}
    found = failures(summary)
    assert found["Ann/Ann_0001.png"][0] == "unreadable"
    assert "has 60 x 50 pixels now, not 150 x 120" in found["Ann/Ann_0002.png"][1]


def test_crops_that_are_crops_already(tmp_path, drawing):
    root = tmp_path / "crops"
    root.mkdir()
    records = []
    for name, size in (("a.png", (112, 96)), ("b.png", (112, 112))):
        cv2.imwrite(str(root / name), drawing(*size))
        whole = Face(np.array([0.0, 0, size[1] - 1, size[0] - 1]), 1.0, None)
        records.append({"file": name, "status": "ok", "faces": [face_record(whole)]})
    write_faces(tmp_path / "faces.jsonl", records, root)
    summary = align_folder(tmp_path / "faces.jsonl", tmp_path / "out", PNG)
    np.testing.assert_array_equal(read(tmp_path / "out/a.png"), read(root / "a.png"))
    assert "expected 96 x 112, the template's size" in failures(summary)["b.png"][1]


def test_names_of_crops():
    names = ["a/1.jpg", "a/2.jpg", "a/2.png", "./b/3.png", "../4.png", "/abs/5.png", "c.d/e"]
    assert crop_names(names) == ["a/1", "a/2.jpg", "a/2.png", "b/3", "", "", "c.d/e"]


def test_pictures_outside_the_root(tmp_path, drawing):
    (tmp_path / "root").mkdir()
    cv2.imwrite(str(tmp_path / "out.png"), drawing(90, 90))
    record = {"file": "../out.png", "status": "ok", "faces": [face_record(face_at((9, 9)))]}
    write_faces(tmp_path / "faces.jsonl", [record], tmp_path / "root")
    summary = align_folder(tmp_path / "faces.jsonl", tmp_path / "crops")
    assert failures(summary) == {"../out.png": ("error", "the picture lies outside the root")}


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        (Crops("96x112"), 'no template "96x112"'),
        (Crops(select="first"), 'selection "first"'),
        (Crops(format="gif"), 'format "gif"; expected jpg or png'),
        (Crops(quality=0), "quality 0; expected 1 to 100"),
    ],
)
def test_bad_options(photos, crops, message):
    folder, _, _ = photos
    with pytest.raises(SphereFaceError, match=message):
        align_folder(folder / "faces.jsonl", folder / "out", crops)
    assert not (folder / "out").exists()


def test_moved_pictures(photos):
    folder, _, _ = photos
    (folder / "photos").rename(folder / "moved")
    with pytest.raises(SphereFaceError, match="no such folder of pictures; give --root"):
        align_folder(folder / "faces.jsonl", folder / "out")
    summary = align_folder(folder / "faces.jsonl", folder / "out", root=folder / "moved")
    assert summary.crops == 3
