import os

import cv2
import numpy as np
import pytest

from reference.datum_wire import encode_datum
from sphereface.data import open_source
from sphereface.data.lmdb_pages import PageFile
from sphereface.errors import SphereFaceError


def data_param(path, options="", transform="", batch=4):
    return (
        f'data_param {{ source: "{path}" backend: LMDB batch_size: {batch} {options} }}'
        f" transform_param {{ {transform} }}"
    )


def read(param, batches=1, **options):
    with open_source(param, "net:1", **{"workers": 0, "seed": 1, **options}) as source:
        got = [source.next_batch() for _ in range(batches)]
    return {name: np.concatenate([batch[name] for batch in got]) for name in got[0]}


@pytest.mark.parametrize("workers", [0, 3])
def test_raw_records_in_the_order_of_their_keys(layer, faces, face_lmdb, workers):
    got = read(layer("Data", data_param(face_lmdb)), 5, workers=workers)
    planes = np.stack([image.transpose(2, 0, 1) for image in faces.images])
    assert (got["data"] == np.concatenate([planes, planes])).all()
    assert got["label"].tolist() == faces.labels * 2


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("force", ["", "force_gray: true", "force_color: true"])
def test_encoded_records(layer, faces, make_lmdb, suffix, force):
    files = [cv2.imencode(f".{suffix}", image)[1] for image in faces.images]
    path = make_lmdb([encode_datum(encoded=file.tobytes(), label=9) for file in files])
    got = read(layer("Data", data_param(path, "", force)))
    flag = cv2.IMREAD_GRAYSCALE if "gray" in force else cv2.IMREAD_COLOR
    for row, file in zip(got["data"], files[:4], strict=True):
        image = cv2.imdecode(file, flag)
        assert (row == (image[None] if image.ndim == 2 else image.transpose(2, 0, 1))).all()
    assert got["label"].tolist() == [9] * 4


@pytest.mark.parametrize(
    ("transform", "channels"), [("", 3), ("force_color: true", 3), ("force_gray: true", 1)]
)
def test_force_encoded_color_of_older_nets(layer, faces, make_lmdb, transform, channels):
    file = cv2.imencode(".png", faces.images[0][:, :, 0])[1]
    path = make_lmdb([encode_datum(encoded=file.tobytes(), label=9)])
    param = data_param(path, "force_encoded_color: true", transform, batch=1)
    image = faces.images[0][:, :, :1].transpose(2, 0, 1)
    got = read(layer("Data", param))["data"]
    assert (got == np.broadcast_to(image, (1, channels, 9, 7))).all()
    assert got.shape[1] == channels


def test_float_records_are_transformed(layer, make_lmdb, rng):
    values = rng.standard_normal((5, 2, 4, 3)).astype(np.float32)
    path = make_lmdb([encode_datum(floats=v, label=i) for i, v in enumerate(values)])
    got = read(layer("Data", data_param(path, transform="mean_value: 0.5 scale: 2", batch=5)))
    assert (got["data"] == (values - np.float32(0.5)) * 2).all()


def test_without_a_label(layer, face_lmdb):
    got = read(layer("Data", data_param(face_lmdb), tops=("data",)))
    assert {name: array.shape for name, array in got.items()} == {"data": (4, 3, 9, 7)}


def test_cropping_and_resuming_as_image_data(layer, faces, face_lmdb):
    # The same seed, epoch and index: the same random numbers, whatever the file.
    transform = "crop_size: 5 mirror: true scale: 0.25"
    records = layer("Data", data_param(face_lmdb, transform=transform, batch=7))
    images = read(layer("ImageData", faces.param(transform=transform, batch=7)), 6)
    got = read(records, 6)
    assert (got["data"] == images["data"]).all()
    with open_source(records, workers=2, seed=1) as source:
        for _ in range(3):
            source.next_batch()
        state = source.state()
    with open_source(records, workers=2, seed=5) as source:
        source.restore(state)
        assert (source.next_batch()["data"] == got["data"][21:28]).all()


def test_ranks_and_rand_skip(layer, faces, face_lmdb):
    half = layer("Data", data_param(face_lmdb, batch=2))
    ranks = [read(half, 5, rank=rank, ranks=2)["label"] for rank in range(2)]
    assert np.stack(ranks, 1).ravel().tolist() == faces.labels * 2
    skipping = layer("Data", data_param(face_lmdb, "rand_skip: 3", batch=1))
    assert {read(skipping, seed=seed)["label"][0] for seed in range(40)} == {0, 1, 2}


def test_train_and_test_net_read_one_lmdb(layer, face_lmdb):
    param = layer("Data", data_param(face_lmdb))
    with open_source(param, seed=1) as train, open_source(param, phase="TEST", seed=1) as test:
        assert (train.next_batch()["data"] == test.next_batch()["data"]).all()


def test_a_bad_record_is_named_or_skipped(layer, faces, make_lmdb):
    records = [encode_datum(image, i) for i, image in enumerate(faces.images[:4])]
    records[0] = encode_datum(encoded=b"nothing", label=8)
    records[2] = b"\xff"
    param = layer("Data", data_param(make_lmdb(records)))
    with pytest.raises(SphereFaceError, match='key "00000000_0.png": encoded Datum: no picture'):
        read(param)
    with open_source(param, workers=2, seed=1, bad_images="skip") as source:
        assert source.next_batch()["label"].tolist() == [1, 1, 3, 3]
        assert sorted(source.bad) == [0, 2]


def damaged(make_lmdb, faces):
    """300 records in leaves of their own size; the third leaf's flags are gone."""
    path = make_lmdb([encode_datum(faces.images[0], label) for label in range(300)])
    file = PageFile(path / "data.mdb")
    leaves = list(file.leaves())
    file.close()
    lost, before = len(leaves[2].nodes), len(leaves[0].nodes) + len(leaves[1].nodes)
    with (path / "data.mdb").open("r+b") as data:
        data.seek(leaves[2].number * 4096 + 10)
        data.write(b"\0\0")
    return path, leaves[2].number, before, lost


def test_a_damaged_page_is_named_or_skipped(layer, faces, make_lmdb):
    path, page, before, lost = damaged(make_lmdb, faces)
    param = layer("Data", data_param(path, batch=300))
    with pytest.raises(SphereFaceError, match=f"page {page} is damaged"):
        read(param)
    labels = [*range(before), *range(before + lost, 300)]
    for workers in (0, 3):
        with open_source(param, workers=workers, seed=1, bad_images="skip") as source:
            got = source.next_batch()["label"].tolist()
            # What is missing at the end is replaced by what comes next: the first.
            assert got == labels + [0] * lost
            assert sorted(source.bad) == [-1, *range(300 - lost, 300)]
            assert f"page {page} is damaged" in source.bad[-1]


def test_a_file_that_is_cut_while_it_is_read(layer, faces, make_lmdb):
    path = make_lmdb([encode_datum(faces.images[0], label) for label in range(300)])
    with open_source(layer("Data", data_param(path, batch=10)), workers=0, seed=1) as source:
        assert source.next_batch()["label"].tolist() == list(range(10))
        os.truncate(path / "data.mdb", 4096 * 4)
        with pytest.raises(SphereFaceError, match=r"lmdb: .*(ends at byte|is damaged)"):
            [source.next_batch() for _ in range(29)]


def test_a_backend_that_the_source_is_not(layer, face_lmdb):
    for backend, said in (
        ("", "no backend: LEVELDB"),
        ("backend: LEVELDB", "net:1: backend: LEVELDB"),
    ):
        with pytest.raises(SphereFaceError, match=f'{said}; .*lmdb" is an LMDB: say so'):
            read(layer("Data", f'data_param {{ source: "{face_lmdb}" batch_size: 1 {backend} }}'))


def test_labels_come_with_their_keys(layer, face_lmdb):
    with open_source(layer("Data", data_param(face_lmdb)), workers=0) as source:
        labels = list(source.labels())
    assert labels[1] == (1, f'{face_lmdb}: key "00000001_1.png"')
    assert len(labels) == 10


def test_shuffled_records(layer, faces, make_lmdb):
    """Each epoch has every record once, in an order of its own that a resumed run goes on with."""
    path = make_lmdb([encode_datum(faces.images[0], label=i) for i in range(20)])
    param = layer("Data", data_param(path, "shuffle: true", batch=20))
    labels = read(param, 3)["label"].reshape(3, 20).tolist()
    assert all(sorted(epoch) == list(range(20)) for epoch in labels)
    assert len({tuple(epoch) for epoch in [*labels, range(20)]}) == 4
    assert read(param, 3, workers=3)["label"].reshape(3, 20).tolist() == labels
    with open_source(param, "net:1", workers=0, seed=1) as source:
        source.seek(2)
        assert source.next_batch()["label"].tolist() == labels[2]
