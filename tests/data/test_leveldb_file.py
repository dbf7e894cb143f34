import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reference.datum_wire import encode_datum
from sphereface.data import (
    ImagesetOptions,
    compute_mean,
    convert_imageset,
    leveldb_file,
    open_source,
)
from sphereface.data.leveldb_file import LevelDbFile, LevelDbWriter
from sphereface.data.record_file import RecordFile
from sphereface.errors import ExistsError, SphereFaceError


@pytest.fixture(scope="module")
def plyvel():
    return pytest.importorskip("plyvel", reason="plyvel, which has wheels for Python < 3.13")


@pytest.fixture
def make_leveldb(tmp_path, plyvel):
    """make_leveldb([record, ...]) writes a LevelDB by its own library and returns its folder."""

    def make(records, name="leveldb"):
        with plyvel.DB(str(tmp_path / name), create_if_missing=True) as db:
            for index, record in reversed(list(enumerate(records))):
                db.put(b"%08d_%d.png" % (index, index), record)
        return tmp_path / name

    return make


@pytest.fixture
def face_leveldb(faces, make_leveldb):
    return make_leveldb(
        [encode_datum(i, label) for i, label in zip(faces.images, faces.labels, strict=True)]
    )


def data_layer(layer, source, backend="", batch=4):
    return layer("Data", f'data_param {{ source: "{source}" {backend} batch_size: {batch} }}')


@pytest.mark.parametrize("backend", ["", "backend: LEVELDB"])
@pytest.mark.parametrize("workers", [0, 3])
def test_a_data_layer_reads_it(layer, faces, face_leveldb, backend, workers):
    with open_source(data_layer(layer, face_leveldb, backend), workers=workers, seed=1) as source:
        batches = [source.next_batch() for _ in range(5)]
        assert source.shapes == {"data": (4, 3, 9, 7), "label": (4,)}
        assert source.record_name(3) == "00000003_3.png"
        assert [label for label, _ in source.labels()] == faces.labels
        state = source.state()
    planes = np.stack([image.transpose(2, 0, 1) for image in faces.images])
    assert (np.concatenate([b["data"] for b in batches]) == np.concatenate([planes, planes])).all()
    assert np.concatenate([b["label"] for b in batches]).tolist() == faces.labels * 2
    with open_source(data_layer(layer, face_leveldb), workers=workers, seed=9) as source:
        source.restore(state)
        assert (source.next_batch()["data"] == planes[:4]).all()


def test_readers_of_one_process_share_it(face_leveldb, faces, plyvel):
    first, second = LevelDbFile(face_leveldb), LevelDbFile(f"{face_leveldb}/../leveldb")
    first.close()
    first.close()
    assert second.size == 10
    assert second.datum(second.record(7)).label == faces.labels[7]
    assert [key for key, _ in second][:2] == [b"00000000_0.png", b"00000001_1.png"]
    # Another process (here: another handle) is told that there is one already.
    with pytest.raises(plyvel.IOError):
        plyvel.DB(str(face_leveldb))
    second.close()
    with (
        plyvel.DB(str(face_leveldb)),
        pytest.raises(SphereFaceError, match="here: .*LOCK.*one process at a time may"),
    ):
        LevelDbFile(face_leveldb, "here")
    LevelDbFile(face_leveldb).close()


def test_what_is_no_leveldb(tmp_path, make_leveldb):
    with pytest.raises(SphereFaceError, match="here: .*gone: no such LevelDB; paths are relative"):
        LevelDbFile(tmp_path / "gone", "here")
    with pytest.raises(SphereFaceError, match="a folder without CURRENT; expected a LevelDB"):
        LevelDbFile(tmp_path)
    with pytest.raises(SphereFaceError, match="a LevelDB without records"):
        LevelDbFile(make_leveldb([], "empty"))
    (tmp_path / "CURRENT").write_text("nonsense")
    with pytest.raises(SphereFaceError, match="not a readable LevelDB"):
        LevelDbFile(tmp_path)


def test_bad_records_are_named(make_leveldb, faces):
    records = LevelDbFile(make_leveldb([encode_datum(faces.images[0], 5), b"no datum"]))
    with pytest.raises(SphereFaceError, match='leveldb: key "00000001_1.png": not a binary Datum'):
        list(records)
    records.close()


def test_a_damaged_table(make_leveldb, rng, plyvel):
    records = [
        encode_datum(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), i) for i in range(60)
    ]
    path = make_leveldb(records)
    with plyvel.DB(str(path)) as db:
        db.compact_range()
    (table,) = path.glob("*.ldb")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    with (
        pytest.raises(SphereFaceError, match="Corruption: .*checksum"),
        closing(LevelDbFile(path)) as damaged,
    ):
        list(damaged)


@pytest.mark.parametrize(
    "options", [{}, {"encoded": True}, {"gray": True, "resize_height": 4, "resize_width": 5}]
)
def test_convert_imageset_writes_what_it_writes_into_an_lmdb(faces, tmp_path, options, plyvel):
    for backend in ("lmdb", "leveldb"):
        given = ImagesetOptions(backend=backend, **options)
        report = convert_imageset(f"{faces.folder}/", faces.list, tmp_path / backend, given)
        assert report.written == 10
    ours, theirs = LevelDbFile(tmp_path / "leveldb"), RecordFile(tmp_path / "lmdb")
    for (key, datum), (wanted, expected) in zip(ours, theirs, strict=True):
        assert key == wanted
        assert datum == expected
    ours.close()
    theirs.close()
    if not options.get("encoded"):
        mean = compute_mean(tmp_path / "leveldb")
        np.testing.assert_array_equal(mean, compute_mean(tmp_path / "lmdb"))


def test_only_a_leveldb_is_replaced(faces, face_leveldb, tmp_path, plyvel):
    options = ImagesetOptions(backend="leveldb")
    with pytest.raises(ExistsError):
        convert_imageset(f"{faces.folder}/", faces.list, face_leveldb, options)
    LevelDbFile(face_leveldb).close()  # leaves LOG.old and tables
    convert_imageset(f"{faces.folder}/", faces.list, face_leveldb, options, overwrite=True)
    with closing(LevelDbFile(face_leveldb)) as records:
        assert records.size == 10
    (face_leveldb / "mine.txt").touch()
    with pytest.raises(SphereFaceError, match="a folder that holds mine.txt"):
        convert_imageset(f"{faces.folder}/", faces.list, face_leveldb, options, overwrite=True)
    with pytest.raises(SphereFaceError, match="backend 'mdb'"):
        ImagesetOptions(backend="mdb")


def test_many_records_in_several_batches(tmp_path, plyvel):
    (tmp_path / "db").mkdir()
    with LevelDbWriter(tmp_path / "db") as writer:
        for index in range(2500):
            writer.put(
                b"%08d" % index, encode_datum(np.full((1, 1, 1), index % 251, np.uint8), index)
            )
    with closing(LevelDbFile(tmp_path / "db")) as records:
        assert records.size == 2500
        for index in (0, 999, 1000, 2499):
            assert records.datum(records.record(index)).label == index


@pytest.mark.parametrize(
    ("version", "words"),
    [((3, 13, 0), "no wheels for Python 3.13"), ((3, 12, 1), "sphereface.leveldb")],
)
def test_without_plyvel(version, words, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    monkeypatch.setattr(leveldb_file.sys, "version_info", version)
    Path(tmp_path, "CURRENT").touch()
    with pytest.raises(SphereFaceError, match=f"plyvel .*{words}"):
        LevelDbFile(tmp_path)
