from __future__ import annotations

import os
from contextlib import closing

import lmdb
import numpy as np
import pytest

from sphereface.data.lmdb_pages import PageFile
from sphereface.errors import SphereFaceError


def write(path, records, **options):
    with lmdb.open(str(path), map_size=1 << 28, **options) as env, env.begin(write=True) as txn:
        for key, value in records.items():
            txn.put(key, value)
    return path / "data.mdb"


def read_all(path):
    records = {}
    with closing(PageFile(path)) as file:
        for leaf in file.leaves():
            if isinstance(leaf, SphereFaceError):
                raise leaf
            for slot in range(len(leaf.nodes)):
                key, value = file.record(leaf, slot)
                records[key] = bytes(file.read(value))
        assert len(records) == file.entries
    return records


@pytest.fixture
def records(rng):
    """3,000 records, from an empty one to one of several pages, in a tree of three levels."""
    keys = [rng.bytes(int(rng.integers(1, 500))) for _ in range(3000)]
    sizes = rng.choice([0, 1, 7, 300, 2000, 2030, 2100, 4080, 4081, 20000], len(keys))
    return {key: rng.bytes(int(size)) for key, size in zip(keys, sizes, strict=True)}


def test_all_records_in_the_order_of_lmdb(tmp_path, records):
    found = read_all(write(tmp_path, records))
    assert found == records
    assert list(found) == sorted(records)


def test_after_changes(tmp_path, records, rng):
    """Pages that are free again, and the newer of the two heads."""
    write(tmp_path, records)
    for number in range(3):
        with lmdb.open(str(tmp_path), map_size=1 << 28) as env, env.begin(write=True) as txn:
            for key in list(records)[number::4]:
                txn.delete(key)
                del records[key]
            txn.put(b"new", b"%d" % number)
            records[b"new"] = b"%d" % number
        assert read_all(tmp_path / "data.mdb") == records


def test_one_leaf_and_none(tmp_path):
    (tmp_path / "a").mkdir()
    assert read_all(write(tmp_path / "a", {b"k": b"v"})) == {b"k": b"v"}
    (tmp_path / "b").mkdir()
    assert read_all(write(tmp_path / "b", {})) == {}


def test_a_program_may_hold_it_open(tmp_path):
    path = write(tmp_path, {b"k": b"v"})
    with lmdb.open(str(tmp_path), map_size=1 << 28) as env:
        file = PageFile(path)
        with env.begin(write=True) as txn:
            txn.put(b"k", b"w")
        file.close()
        assert read_all(path) == {b"k": b"w"}


@pytest.mark.parametrize("flag", [0x02, 0x04, 0x08])  # reverse keys, several values, integers
def test_other_kinds_are_refused(tmp_path, flag):
    path = write(tmp_path, {b"12345678": b"v"})
    data = bytearray(path.read_bytes())
    for head in (0, 4096):
        data[head + 92] = flag
    path.write_bytes(data)
    with pytest.raises(SphereFaceError, match=f"an LMDB with flags {flag:#x}"):
        PageFile(path)


def test_a_database_within_is_refused(tmp_path):
    env = lmdb.open(str(tmp_path), map_size=1 << 20, max_dbs=2)
    database = env.open_db(b"inner")
    with env.begin(write=True, db=database) as txn:
        txn.put(b"k", b"v")
    env.close()
    with pytest.raises(SphereFaceError, match="a database within the LMDB"):
        read_all(tmp_path / "data.mdb")


def test_damage_and_cuts_are_errors(tmp_path, records, rng):
    """Any bytes, anywhere: a right record, or an error; lmdb itself dies of some of these."""
    path = write(tmp_path, records)
    whole = path.read_bytes()
    outcomes = {"read": 0, "told": 0}
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            page = int(rng.integers(0, len(data) // 4096)) * 4096
            at = page + int(rng.integers(0, rng.choice([16, 160, 4096])))
            data[at] = int(rng.choice([0, 1, 255, rng.integers(256)]))
        path.write_bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.2 else data)
        try:
            file = PageFile(path)
        except SphereFaceError:
            outcomes["told"] += 1
            continue
        for leaf in file.leaves():
            if isinstance(leaf, SphereFaceError):
                outcomes["told"] += 1
                continue
            for slot in range(len(leaf.nodes)):
                try:
                    file.read(file.record(leaf, slot)[1])
                    outcomes["read"] += 1
                except SphereFaceError:
                    outcomes["told"] += 1
        file.close()
    assert min(outcomes.values()) > 50


def test_a_page_that_is_its_own_child_ends(tmp_path, records):
    path = write(tmp_path, records)
    file = PageFile(path)
    root = file.root
    file.close()
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[root * 4096 + 16 : root * 4096 + 18], "little") + root * 4096
    data[first : first + 6] = root.to_bytes(6, "little")
    path.write_bytes(data)
    with closing(PageFile(path)) as file:
        problems = [leaf for leaf in file.leaves() if isinstance(leaf, SphereFaceError)]
    assert [error.problem for error in problems] == [f"page {root} is damaged"]


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    values = {b"%03d" % index: np.full(9000, index, np.uint8).tobytes() for index in range(100)}
    path = write(tmp_path, values)
    file = PageFile(path)
    places = [file.record(leaf, slot) for leaf in file.leaves() for slot in range(len(leaf.nodes))]
    os.truncate(path, path.stat().st_size // 2)
    told = 0
    for key, value in places:
        try:
            assert bytes(file.read(value)) == values[key]
        except SphereFaceError as error:
            assert "it was cut" in str(error)  # noqa: PT017 - half of them are read
            told += 1
    file.close()
    assert 40 < told < 60
