import json

import numpy as np
import pytest
import scipy.io

from sphereface.errors import SphereFaceError
from sphereface.faces.face import Face
from sphereface.faces.records import face_of, face_record, iterate_records, read_faces

FACE = Face(np.array([9.5, 19, 29, 49]), 0.98765432, np.arange(10.0).reshape(5, 2))


def test_lines_are_one_based():
    record = face_record(FACE)
    assert record == {
        "box": [10.5, 20.0, 30.0, 50.0],
        "score": 0.987654,
        "landmarks": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]],
    }
    again = face_of(json.loads(json.dumps(record)))
    np.testing.assert_array_equal(again.box, FACE.box)
    np.testing.assert_array_equal(again.landmarks, FACE.landmarks)


def test_faces_without_landmarks():
    record = face_record(Face(FACE.box, 1.0, None))
    assert record["landmarks"] is None
    assert face_of(record).landmarks is None


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"file": "a", "status": "ok"}',
        '{"file": 3, "status": "ok", "faces": []}',
        '{"file": "a", "status": "ok", "faces": [{"box": [1, 2], "score": 1, "landmarks": null}]}',
        '{"file": "a", "status": "ok", "faces": [{"box": [1, 2, 3, 4], "score": 1}]}',
        '{"file": "a", "status": "ok", "faces": 4}',
    ],
)
def test_bad_lines(tmp_path, line):
    path = tmp_path / "faces.jsonl"
    path.write_text('{"file": "a", "status": "no_face", "faces": []}\n' + line + "\n")
    with pytest.raises(SphereFaceError, match=r"faces\.jsonl:2: no line of a file of faces"):
        list(iterate_records(path))


def data_list(path, entries):
    array = np.empty((1, len(entries)), [("file", "O"), ("dataset", "O"), ("facial5point", "O")])
    for index, (name, points) in enumerate(entries):
        array[0, index] = (name, "CASIA", points)
    scipy.io.savemat(path, {"dataList": array})


def test_data_list_of_the_original(tmp_path):
    points = np.array([[30, 50], [65, 51], [48, 71], [33, 92], [62, 92]], np.float32)
    data_list(
        tmp_path / "dataList.mat",
        [("data/CASIA/0001/001.jpg", points), ("data/CASIA/0002/001.jpg", np.empty((0, 0)))],
    )
    found, missing = read_faces(tmp_path / "dataList.mat").records
    assert (found["file"], found["status"]) == ("0001/001.jpg", "ok")
    np.testing.assert_allclose(found["faces"][0]["landmarks"], points)
    assert (missing["file"], missing["status"], missing["faces"]) == (
        "0002/001.jpg",
        "no_face",
        [],
    )


def test_data_list_of_two_data_sets(tmp_path):
    names = ["C:\\d\\CASIA\\0001\\001.jpg", "C:\\d\\LFW\\Ann\\Ann_0001.jpg"]
    data_list(tmp_path / "dataList.mat", [(name, np.empty((0, 0))) for name in names])
    records = read_faces(tmp_path / "dataList.mat").records
    assert [r["file"] for r in records] == ["CASIA/0001/001.jpg", "LFW/Ann/Ann_0001.jpg"]


def test_other_mat_files(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.eye(3)})
    with pytest.raises(SphereFaceError, match="no list of faces; expected a struct array"):
        read_faces(tmp_path / "x.mat")
    (tmp_path / "y.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(SphereFaceError, match="no readable .mat .*a MAT file of version 5"):
        read_faces(tmp_path / "y.mat")
    data_list(tmp_path / "z.mat", [("a.jpg", np.eye(3))])
    with pytest.raises(SphereFaceError, match=r"entry 1: landmarks of shape \(3, 3\)"):
        read_faces(tmp_path / "z.mat")
