import lmdb
import pytest

from reference.datum_wire import encode_datum
from sphereface.data.lmdb_pages import PageFile
from sphereface.data.record_file import RecordFile
from sphereface.errors import SphereFaceError


def test_records_by_number(face_lmdb, faces):
    records = RecordFile(face_lmdb)
    assert records.size == 10
    for index in (0, 1, 7, 7, 9, 2, 0):
        record = records.record(index)
        assert record.key == b"%08d_%d.png" % (index, index)
        assert records.datum(record).label == faces.labels[index]
    with pytest.raises(SphereFaceError, match="record 10 is not there; expected 10 records"):
        records.record(10)
    assert [datum.label for _, datum in records] == faces.labels
    records.close()
    records.close()


def test_programs_that_have_it_open_too(face_lmdb):
    """Which LMDB's library forbids within a process."""
    first, second = RecordFile(face_lmdb), RecordFile(f"{face_lmdb}/../lmdb")
    with lmdb.open(str(face_lmdb), readonly=True, lock=False):
        first.close()
        assert second.record(1).key == b"00000001_1.png"
    second.close()


def test_a_step_back_walks_nothing_again(make_lmdb, faces, monkeypatch):
    records = RecordFile(make_lmdb([encode_datum(faces.images[0], i) for i in range(400)]))
    pages = []
    read = PageFile._bytes
    monkeypatch.setattr(PageFile, "_bytes", lambda *a: pages.append(a[1]) or read(*a))
    assert records.record(399).key.startswith(b"00000399")
    walked = len(pages)
    assert walked > 5
    for index in (398, 200, 3):
        assert records.record(index).key.startswith(b"%08d" % index)
    assert len(pages) <= walked + 3
    records.close()


def test_a_file_without_its_folder(face_lmdb):
    records = RecordFile(face_lmdb / "data.mdb")
    assert records.size == 10
    records.close()


def test_what_is_no_lmdb(tmp_path, make_lmdb):
    with pytest.raises(SphereFaceError, match="here: .*gone: no such LMDB"):
        RecordFile(tmp_path / "gone", "here")
    with pytest.raises(SphereFaceError, match="a folder without data.mdb"):
        RecordFile(tmp_path)
    (tmp_path / "CURRENT").touch()
    with pytest.raises(
        SphereFaceError, match="a LevelDB; expected an LMDB; say so: backend: LEVELDB"
    ):
        RecordFile(tmp_path)
    (tmp_path / "text").write_text("no database" * 1000)
    with pytest.raises(SphereFaceError, match="not a readable LMDB"):
        RecordFile(tmp_path / "text")
    with pytest.raises(SphereFaceError, match="an LMDB without records"):
        RecordFile(make_lmdb([], "empty"))


def test_a_truncated_file(face_lmdb, faces):
    data = face_lmdb / "data.mdb"
    size = data.stat().st_size
    with data.open("r+b") as file:
        file.truncate(size - 4096)
    with pytest.raises(SphereFaceError, match=f"{size - 4096} bytes; expected {size}; .*truncated"):
        RecordFile(face_lmdb)


def test_a_record_that_is_no_datum_is_named(make_lmdb, faces):
    records = RecordFile(make_lmdb([encode_datum(faces.images[0]), b"\xff\xff"]))
    with pytest.raises(SphereFaceError, match='key "00000001_1.png": not a binary Datum'):
        list(records)
    records.close()
