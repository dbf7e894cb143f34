import cv2
import lmdb
import numpy as np
import pytest

from reference.datum_wire import decode_datum
from sphereface.data import ImagesetOptions, convert_imageset, open_source, record_writer
from sphereface.errors import ExistsError, SphereFaceError


def records(path):
    """{key: {field: value}} by lmdb and the wire format alone."""
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return {bytes(k): decode_datum(v) for k, v in transaction.cursor()}


def convert(faces, **options):
    out = faces.folder.parent / "out"
    report = convert_imageset(f"{faces.folder}/", faces.list, out, ImagesetOptions(**options))
    return report, records(out)


def pixels(datum):
    shape = [datum[name] for name in ("channels", "height", "width")]
    return np.frombuffer(datum["data"], np.uint8).reshape(shape).transpose(1, 2, 0)


def test_raw_records_with_caffes_keys(faces):
    counted = []
    out = faces.folder.parent / "out"
    report = convert_imageset(f"{faces.folder}/", faces.list, out, on_image=counted.append)
    assert (report.written, report.skipped, counted) == (10, (), [10] * 10)
    found = records(out)
    assert list(found) == [b"%08d_%d.png" % (i, i) for i in range(10)]
    for datum, image, label in zip(found.values(), faces.images, faces.labels, strict=True):
        assert (pixels(datum) == image).all()
        assert datum["label"] == label
        assert not datum.get("encoded")
    assert sorted(path.name for path in out.iterdir()) == ["data.mdb"]
    assert out.stat().st_mode & 0o755 == 0o755


def test_resized_and_gray(faces):
    _, found = convert(faces, gray=True, resize_height=12, resize_width=5)
    for index, datum in enumerate(found.values()):
        image = cv2.imread(f"{faces.folder}/{index}.png", cv2.IMREAD_GRAYSCALE)
        assert (pixels(datum)[:, :, 0] == cv2.resize(image, (5, 12))).all()


def test_encoded_records_are_the_files(faces):
    _, found = convert(faces, encoded=True)
    for index, datum in enumerate(found.values()):
        assert datum["data"] == (faces.folder / f"{index}.png").read_bytes()
        assert datum["encoded"] == 1
        assert datum["label"] == faces.labels[index]


@pytest.mark.parametrize(
    "change", [{"encode_type": "jpg"}, {"gray": True}, {"resize_height": 6, "resize_width": 5}]
)
def test_encoded_records_of_changed_images(faces, change):
    _, found = convert(faces, encoded=True, **change)
    for index, datum in enumerate(found.values()):
        gray = "gray" in change
        image = cv2.imread(str(faces.folder / f"{index}.png"), int(not gray))
        if "resize_width" in change:
            image = cv2.resize(image, (5, 6))
        suffix = change.get("encode_type", "png")
        assert datum["data"] == cv2.imencode(f".{suffix}", image)[1].tobytes()


def test_jpeg_and_jpg_are_one_format(faces):
    (faces.folder / "0.png").rename(faces.folder / "0.JPEG")
    faces.list.write_text("0.JPEG 0\n")
    _, found = convert(faces, encoded=True, encode_type="jpg")
    assert found[b"00000000_0.JPEG"]["data"] == (faces.folder / "0.JPEG").read_bytes()


def test_shuffled_by_seed(faces):
    report, found = convert(faces, shuffle=True, seed=4)
    names = [key.split(b"_")[1].decode() for key in found]
    assert sorted(names) == sorted(f"{i}.png" for i in range(10)) != names
    assert [key[:8] for key in found] == [b"%08d" % i for i in range(10)]
    for name, datum in zip(names, found.values(), strict=True):
        assert (pixels(datum) == faces.images[int(name[0])]).all()
    out = faces.folder.parent / "again"
    options = ImagesetOptions(shuffle=True, seed=4)
    convert_imageset(f"{faces.folder}/", faces.list, out, options, workers=3)
    assert records(out) == found
    assert report.written == 10


def test_many_records_outgrow_the_map(faces, monkeypatch):
    monkeypatch.setattr(record_writer, "_MAP_SIZE", 1 << 16)
    monkeypatch.setattr(record_writer, "_COMMIT", 7)
    faces.list.write_text("".join(f"{i % 10}.png {i}\n" for i in range(600)))
    report, found = convert(faces, resize_height=20, resize_width=20)
    assert report.written == len(found) == 600
    assert [datum["label"] for datum in found.values()] == list(range(600))


def test_a_data_layer_reads_what_was_written(layer, faces):
    convert(faces, encoded=True)
    text = f'data_param {{ source: "{faces.list.parent}/out" backend: LMDB batch_size: 10 }}'
    with open_source(layer("Data", text), workers=0, seed=1) as source:
        batch = source.next_batch()
    assert (batch["data"] == np.stack([i.transpose(2, 0, 1) for i in faces.images])).all()


def test_bad_images(faces):
    (faces.folder / "3.png").write_bytes(b"nothing")
    with pytest.raises(SphereFaceError, match=r"list.txt:4: .*3.png: no picture"):
        convert(faces)
    assert sorted(path.name for path in faces.list.parent.iterdir()) == [
        "faces",
        "list.txt",
    ]  # nothing left behind
    report, found = convert(faces, bad_images="skip")
    assert (report.written, len(report.skipped)) == (9, 1)
    assert "list.txt:4" in report.skipped[0]
    assert b"00000003_3.png" not in found
    assert b"00000004_4.png" in found


def test_check_size(faces):
    cv2.imwrite(str(faces.folder / "2.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(SphereFaceError, match="list.txt:3: an image of 4 x 4; expected 9 x 7"):
        convert(faces, check_size=True)
    assert convert(faces)[0].written == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize_height": 4}, "resize_height 4, resize_width 0; expected both or neither"),
        ({"encode_type": "jpg"}, "encode_type jpg; add encoded"),
        ({"bad_images": "no"}, 'bad_images .no.; expected "raise" or "skip"'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(SphereFaceError, match=message):
        ImagesetOptions(**options)


def test_bad_targets_and_names(faces, tmp_path):
    with pytest.raises(SphereFaceError, match="faces: a folder that holds 0.png"):
        convert_imageset("", faces.list, faces.folder)
    with pytest.raises(SphereFaceError, match="no folder "):
        convert_imageset("", faces.list, tmp_path / "no" / "where")
    (faces.folder / "bare").write_bytes((faces.folder / "0.png").read_bytes())
    faces.list.write_text("bare 0\n")
    with pytest.raises(SphereFaceError, match="list.txt:1: .*: no suffix; give encode_type"):
        convert(faces, encoded=True)
    long = "/".join(["x" * 200] * 3) + ".png"
    (faces.folder / long).parent.mkdir(parents=True)
    (faces.folder / long).write_bytes((faces.folder / "0.png").read_bytes())
    faces.list.write_text(f"{long} 0\n")
    with pytest.raises(SphereFaceError, match="a key of 615 bytes .*expected at most 511"):
        convert(faces)


def test_an_interruption_leaves_nothing(faces, monkeypatch):
    def interrupt(total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_imageset(
            f"{faces.folder}/", faces.list, faces.list.parent / "out", on_image=interrupt
        )
    assert sorted(path.name for path in faces.list.parent.iterdir()) == ["faces", "list.txt"]


def test_an_lmdb_is_replaced_only_on_request_and_only_if_it_is_one(faces, tmp_path):
    target = tmp_path / "made"
    convert_imageset(f"{faces.folder}/", faces.list, target)
    first = (target / "data.mdb").stat().st_ino
    with pytest.raises(ExistsError, match="made: exists already"):
        convert_imageset(f"{faces.folder}/", faces.list, target)
    assert (target / "data.mdb").stat().st_ino == first
    convert_imageset(f"{faces.folder}/", faces.list, target, overwrite=True)
    assert (target / "data.mdb").stat().st_ino != first
    (target / "mine.txt").touch()
    with pytest.raises(SphereFaceError, match="made: a folder that holds mine.txt"):
        convert_imageset(f"{faces.folder}/", faces.list, target, overwrite=True)
    assert [path.name for path in tmp_path.glob(".made*")] == []
