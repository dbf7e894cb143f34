import pytest

from reference.datum_wire import encode_datum
from sphereface.data.record_file import RecordFile
from sphereface.errors import SphereFaceError


def test_keys_by_number_and_values_by_key(face_lmdb, faces):
    records = RecordFile(face_lmdb)
    assert records.size == 10
    for index in (0, 1, 7, 7, 9, 2, 0):
        assert records.key(index) == b"%08d_%d.png" % (index, index)
        assert records.value(records.key(index)).label == faces.labels[index]
    assert records.key_after(records.key(3)) == b"00000004_4.png"
    assert records.key_after(records.key(9)) == b"00000000_0.png"
    assert [datum.label for _, datum in records] == faces.labels
    records.close()
    records.close()


def test_several_readers_of_one_file(face_lmdb):
    first, second = RecordFile(face_lmdb), RecordFile(f"{face_lmdb}/../lmdb")
    first.close()
    assert second.key(1) == b"00000001_1.png"
    second.close()
    RecordFile(face_lmdb).close()


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
    with pytest.raises(SphereFaceError, match="a LevelDB; expected an LMDB; .*convert-imageset"):
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
