import cv2
import numpy as np
import pytest

from reference.datum_wire import encode_datum
from sphereface.data import compute_mean
from sphereface.errors import SphereFaceError


def expected(images):
    return np.mean([image.astype(np.float64) for image in images], 0).transpose(2, 0, 1)[None]


def test_of_raw_records(faces, face_lmdb):
    counted = []
    mean = compute_mean(face_lmdb, on_image=counted.append)
    assert mean.dtype == np.float32
    assert counted == [10] * 10
    assert (mean == expected(faces.images).astype(np.float32)).all()


def test_of_encoded_and_float_records(faces, make_lmdb):
    files = [cv2.imencode(".png", image)[1].tobytes() for image in faces.images]
    mean = compute_mean(make_lmdb([encode_datum(encoded=data) for data in files]))
    assert (mean == expected(faces.images).astype(np.float32)).all()
    planes = np.float32([[[[0.25]]], [[[1.5]]]])
    assert compute_mean(make_lmdb([encode_datum(floats=p) for p in planes], "floats")) == 0.875


def test_of_a_list(faces):
    mean = compute_mean(faces.list, root_folder=f"{faces.folder}/")
    assert (mean == expected(faces.images).astype(np.float32)).all()
    mean = compute_mean(
        faces.list, root_folder=f"{faces.folder}/", new_height=4, new_width=5, gray=True
    )
    gray = [cv2.imread(f"{faces.folder}/{i}.png", cv2.IMREAD_GRAYSCALE) for i in range(10)]
    resized = [cv2.resize(image, (5, 4))[:, :, None] for image in gray]
    assert (mean == expected(resized).astype(np.float32)).all()


def test_images_that_do_not_fit_or_are_bad(faces, make_lmdb):
    cv2.imwrite(str(faces.folder / "3.png"), np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(SphereFaceError, match=r"list.txt:4: an image of shape \(9, 8, 3\)"):
        compute_mean(faces.list, root_folder=f"{faces.folder}/")
    (faces.folder / "3.png").unlink()
    with pytest.raises(SphereFaceError, match=r"list.txt:4: .*3.png: no such picture"):
        compute_mean(faces.list, root_folder=f"{faces.folder}/")
    path = make_lmdb([encode_datum(faces.images[0]), encode_datum(encoded=b"x")])
    for _ in range(2):  # the file was closed in between
        with pytest.raises(SphereFaceError, match='key "00000001_1.png": encoded Datum: no pic'):
            compute_mean(path)
    with pytest.raises(SphereFaceError, match="new_height 3, new_width 0"):
        compute_mean(faces.list, new_height=3)
