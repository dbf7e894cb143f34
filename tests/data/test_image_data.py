import logging

import cv2
import numpy as np
import pytest
from scipy import stats

from sphereface.data import ImagesetOptions, compute_mean, convert_imageset, open_source
from sphereface.errors import SphereFaceError


def read(param, batches=1, **options):
    options = {"workers": 0, "seed": 1, **options}
    with open_source(param, "train.prototxt:1", **options) as source:
        got = [source.next_batch() for _ in range(batches)]
    return np.concatenate([b["data"] for b in got]), np.concatenate([b["label"] for b in got])


def which(faces, data):
    """Index of the face in each row of untransformed data."""
    planes = np.stack([image.transpose(2, 0, 1) for image in faces.images])
    same = (data[:, None] == planes[None]).all((2, 3, 4))
    assert (same.sum(1) == 1).all()
    return same.argmax(1)


def test_images_and_labels_in_the_lists_order(layer, faces):
    param = layer("ImageData", faces.param())
    with open_source(param, workers=0, seed=1) as source:
        assert source.shapes == {"data": (4, 3, 9, 7), "label": (4,)}
    data, label = read(param, 5)
    assert data.dtype == label.dtype == np.float32
    assert which(faces, data).tolist() == list(range(10)) * 2
    assert label.tolist() == faces.labels * 2


def test_each_epoch_has_its_order_and_all_images(layer, faces):
    data, label = read(layer("ImageData", faces.param("shuffle: true", batch=5)), 40)
    order = which(faces, data)
    assert (label == np.array(faces.labels)[order]).all()
    epochs = order.reshape(20, 10)
    assert (np.sort(epochs) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 20


def test_resized_cropped_mirrored_and_normalised_as_by_hand(layer, tmp_path, rng):
    sizes = [(20, 31), (44, 18), (25, 25)]
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), image)
    (tmp_path / "list").write_text("".join(f"{tmp_path}/{i}.jpg 0\n" for i in range(3)))
    param = layer(
        "ImageData",
        f'image_data_param {{ source: "{tmp_path}/list" batch_size: 3 new_height: 12 new_width: 10'
        " } transform_param { crop_size: 6 mirror: true mean_value: 127.5 scale: 0.0078125 }",
    )
    mirrored = 0
    for phase in ("TRAIN", "TEST"):
        data, _ = read(param, 20, phase=phase)
        assert data.shape == (60, 3, 6, 6)
        for index, row in enumerate(data):
            image = cv2.resize(cv2.imread(f"{tmp_path}/{index % 3}.jpg"), (10, 12))
            values = ((image.astype(np.float64) - 127.5) / 128).transpose(2, 0, 1)
            places = [(3, 2)] if phase == "TEST" else [(y, x) for y in range(7) for x in range(5)]
            crops = [values[:, y : y + 6, x : x + 6] for y, x in places]
            plain = any((row == crop).all() for crop in crops)
            flipped = any((row == crop[:, :, ::-1]).all() for crop in crops)
            assert plain != flipped
            mirrored += flipped
    assert 35 < mirrored < 85  # of 120


def test_augmentation_is_new_in_each_epoch_and_fair(layer, faces):
    param = layer("ImageData", faces.param(transform="crop_size: 6 mirror: true", batch=10))
    data, _ = read(param, 100)
    crops = data.reshape(100, 10, 3, 6, 6)
    counts = np.zeros((4, 2, 2), int)
    for epoch in crops:
        for image, row in zip(faces.images, epoch, strict=True):
            for y, x, flip in np.ndindex(4, 2, 2):
                crop = image[y : y + 6, x : x + 6].transpose(2, 0, 1)
                counts[y, x, flip] += (row == (crop[:, :, ::-1] if flip else crop)).all()
    assert counts.sum() == 1000
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("options", ["", "is_color: false"])
@pytest.mark.parametrize("forced", ["", "force_color: true", "force_gray: true"])
def test_colour(layer, faces, options, forced):
    data, _ = read(layer("ImageData", faces.param(options, forced)))
    gray = forced == "force_gray: true" or (not forced and bool(options))
    assert data.shape == (4, 1 if gray else 3, 9, 7)
    flag = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
    for index, row in enumerate(data):
        expected = cv2.imread(str(faces.folder / f"{index}.png"), flag)
        assert (row == (expected[None] if gray else expected.transpose(2, 0, 1))).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_does_not_show(layer, faces, workers):
    options = faces.param("shuffle: true", "crop_size: 5 mirror: true", batch=70)
    param = layer("ImageData", options)
    expected, labels = read(param, 6)
    data, label = read(param, 6, workers=workers)
    assert (data == expected).all()
    assert (label == labels).all()
    other, _ = read(param, 6, seed=2)
    assert (data != other).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_the_middle_of_an_epoch_is_exact(layer, faces, workers):
    param = layer("ImageData", faces.param("shuffle: true", "crop_size: 5 mirror: true", batch=7))
    with open_source(param, seed=1, workers=workers) as source:
        for _ in range(4):
            source.next_batch()
        state = source.state()
        rest = [source.next_batch() for _ in range(5)]
    assert (state["epoch"], state["position"]) == (2, 8)  # prefetched batches do not count
    with open_source(param, seed=77, workers=2) as source:
        source.next_batch()
        source.restore(state)
        assert source.state() == state
        for batch in rest:
            again = source.next_batch()
            assert all((again[name] == batch[name]).all() for name in ("data", "label"))
    with open_source(param, seed=1, workers=0) as source:
        source.seek(4)  # what is known without a saved state: the iteration
        assert (source.next_batch()["data"] == rest[0]["data"]).all()


def test_ranks_read_disjoint_parts_of_one_larger_batch(layer, faces):
    whole, _ = read(layer("ImageData", faces.param("shuffle: true", "mirror: true", batch=6)), 4)
    part = layer("ImageData", faces.param("shuffle: true", "mirror: true", batch=2))
    ranks = [read(part, 4, rank=rank, ranks=3)[0] for rank in range(3)]
    assert (np.stack(ranks, 1).reshape(whole.shape) == whole).all()


def test_rand_skip_starts_elsewhere(layer, faces):
    param = layer("ImageData", faces.param("rand_skip: 10", batch=1))
    starts = {int(which(faces, read(param, seed=seed)[0])[0]) for seed in range(60)}
    assert starts == set(range(10))
    with pytest.raises(SphereFaceError, match="rand_skip 11 of 10 samples"):
        read(layer("ImageData", faces.param("rand_skip: 11")))


def test_a_batch_of_one_has_the_size_of_its_image(layer, faces):
    cv2.imwrite(str(faces.folder / "1.png"), np.full((5, 6, 3), 9, np.uint8))
    with open_source(layer("ImageData", faces.param(batch=1)), workers=2, seed=1) as source:
        shapes = [source.next_batch()["data"].shape for _ in range(3)]
    assert shapes == [(1, 3, 9, 7), (1, 3, 5, 6), (1, 3, 9, 7)]


def test_another_size_in_a_larger_batch_is_named(layer, faces):
    cv2.imwrite(str(faces.folder / "1.png"), np.full((5, 6, 3), 9, np.uint8))
    with pytest.raises(
        SphereFaceError, match=r"list.txt:2: .*1.png: .*of 5 x 6; expected .*9 x 7.*set new_height"
    ):
        read(layer("ImageData", faces.param()))


def damage(faces):
    (faces.folder / "0.png").unlink()
    (faces.folder / "1.png").write_bytes(b"")
    (faces.folder / "4.png").write_text("<html>")
    whole = cv2.imencode(".jpg", faces.images[5])[1].tobytes()
    (faces.folder / "5.png").write_bytes(whole[:-9])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0.png 0", r"list.txt:1: .*faces/0.png: no such picture"),
        ("2.png 0\n1.png 0", r"list.txt:2: .*1.png: empty file"),
        ("2.png 0\n3.png 0\n4.png 0", r"list.txt:3: .*4.png: no picture"),
        ("2.png 0\n3.png 0\n\n5.png 0", r"list.txt:4: .*5.png: truncated"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_named_with_its_line(layer, faces, lines, message, workers):
    damage(faces)
    faces.list.write_text(lines)
    with (
        pytest.raises(SphereFaceError, match=message),
        open_source(layer("ImageData", faces.param()), workers=workers, seed=1) as source,
    ):
        source.next_batch()


@pytest.mark.parametrize("workers", [0, 3])
def test_bad_images_are_skipped_and_counted_on_request(layer, faces, workers, caplog):
    damage(faces)
    param = layer("ImageData", faces.param(batch=10))
    with (
        caplog.at_level(logging.WARNING, "sphereface.data"),
        open_source(param, workers=workers, seed=1, bad_images="skip") as source,
    ):
        batches = [source.next_batch() for _ in range(3)]
        assert sorted(source.bad) == [0, 1, 4, 5]
    for batch in batches:
        # The next good image takes the place, with its own label.
        assert which(faces, batch["data"]).tolist() == [2, 2, 2, 3, 6, 6, 6, 7, 8, 9]
        assert batch["label"].tolist() == [2, 2, 2, 0, 0, 0, 0, 1, 2, 0]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 4
    assert sum("list.txt:1: " in message for message in messages) == 1


def test_when_all_images_are_bad_skipping_ends(layer, faces):
    for path in faces.folder.iterdir():
        path.unlink()
    with pytest.raises(SphereFaceError, match="all 10 images are bad, the last one: .*list.txt:10"):
        read(layer("ImageData", faces.param()), bad_images="skip")


def test_an_error_stays_until_the_source_is_moved(layer, faces):
    (faces.folder / "5.png").unlink()
    with open_source(layer("ImageData", faces.param()), workers=2, seed=1) as source:
        source.next_batch()
        state = source.state()
        for _ in range(2):
            with pytest.raises(SphereFaceError, match=r"list.txt:6"):
                source.next_batch()
        assert source.state() == state
        source.seek(0)
        assert which(faces, source.next_batch()["data"]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "transform", "message"),
    [
        ("new_height: 4", "", "new_height 4, new_width 0; expected both or neither"),
        ("", "crop_size: 8", "crop_size 8 of an image of 9 x 7"),
        ("", "mean_value: [1, 2]", "2 mean_value; expected 1, or 3"),
        ("", 'mean_file: "nowhere"', "mean_file: nowhere: no such"),
    ],
)
def test_bad_options(layer, faces, options, transform, message):
    with pytest.raises(SphereFaceError, match=f"train.prototxt:1.*{message}"):
        read(layer("ImageData", faces.param(options, transform)))


def test_batch_size_zero_and_a_missing_list(layer, faces):
    with pytest.raises(SphereFaceError, match="batch_size 0"):
        read(layer("ImageData", faces.param(batch=0)))
    faces.list.unlink()
    with pytest.raises(
        SphereFaceError, match="train.prototxt:1: .*list.txt: no such list of images.*relative to"
    ):
        read(layer("ImageData", faces.param()))


def test_a_root_folder_without_its_slash(layer, faces):
    text = faces.param().replace("faces/", "faces")
    with pytest.raises(SphereFaceError, match='end root_folder with a slash: ".*faces/"'):
        read(layer("ImageData", text))


def test_labels_come_with_their_lines(layer, faces):
    with open_source(layer("ImageData", faces.param()), workers=0) as source:
        labels = list(source.labels())
    assert labels[:2] == [(0, f"{faces.list}:1"), (1, f"{faces.list}:2")]
    assert len(labels) == 10


@pytest.fixture
def turned(faces):
    """The first face as a JPEG that says "turn me by 90 degrees", and its upright pixels."""
    data = cv2.imencode(".jpg", faces.images[0])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (faces.folder / "turned.jpg").write_bytes(
        data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    )
    faces.list.write_text("turned.jpg 1\n")
    return np.rot90(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), -1)


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("encoded", [None, False, True])
def test_exif_in_lists_and_in_an_lmdb_alike(layer, faces, turned, tmp_path, exif, encoded):
    if encoded is None:
        param = layer("ImageData", faces.param(batch=1))
    else:
        options = ImagesetOptions(encoded=encoded, exif=exif)
        convert_imageset(f"{faces.folder}/", faces.list, tmp_path / "db", options)
        source = f'data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 1 }}'
        param = layer("Data", source)
    with open_source(param, workers=0, seed=1, exif=exif) as source:
        (found,) = source.next_batch()["data"]
    expected = turned if exif else np.rot90(turned)
    assert expected.shape == ((7, 9, 3) if exif else (9, 7, 3))
    assert (found == expected.transpose(2, 0, 1)).all()
    if encoded is None:
        mean = compute_mean(faces.list, root_folder=f"{faces.folder}/", exif=exif)
        assert (mean[0] == found).all()


def test_a_list_without_labels_is_of_class_0(layer, faces):
    faces.list.write_text("".join(f"{i}.png\n" for i in range(4)))
    with open_source(layer("ImageData", faces.param()), workers=0, seed=1) as source:
        batch = source.next_batch()
    assert (batch["data"] == np.stack(faces.images[:4]).transpose(0, 3, 1, 2)).all()
    assert batch["label"].tolist() == [0, 0, 0, 0]


def test_of_several_labels_only_the_last_is_one(layer, faces):
    faces.list.write_text("0.png 5 1\n")
    with pytest.raises(SphereFaceError, match=r"0.png 5: no such picture; of several labels on a"):
        read(layer("ImageData", faces.param(batch=1)))
