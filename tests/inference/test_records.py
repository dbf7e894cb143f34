"""Every record once, whatever the batch: names and values of all kinds of records."""

from __future__ import annotations

from dataclasses import replace

import cv2
import lmdb
import numpy as np
import pytest

from sphereface.data import open_sources
from sphereface.data.datum import encoded_datum, float_datum, raw_datum
from sphereface.errors import SphereFaceError
from sphereface.images import Preprocessing, list_images
from sphereface.inference import ArrayRecords, DataRecords, DatumRecords, ImageRecords
from sphereface.proto.net_file import read_net

COUNT = 7
FORM = Preprocessing(color="rgb", mean=np.array([10.0, 20.0, 30.0]), scale=0.5)


@pytest.fixture
def folder(tmp_path, rng):
    """Seven pictures of 4 x 6 in two folders, a list of them, and their pixels (7, 4, 6, 3) BGR."""
    pixels = rng.integers(0, 256, (COUNT, 4, 6, 3), dtype=np.uint8)
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(COUNT)]
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "p" / name), image)
    (tmp_path / "list.txt").write_text("".join(f"{n} {i}\n" for i, n in enumerate(names)))
    return tmp_path, names, pixels


def expected(pixels):
    values = pixels[..., ::-1].astype(float) - [10, 20, 30]
    return (values * 0.5).transpose(0, 3, 1, 2)


def gathered(records, size, form=0):
    batches = list(records.batches(size))
    assert all(len(batch.names) == size for batch in batches[:-1])
    rows = [next(iter(b.forms[form].values()))[: len(b.names)] for b in batches]
    return [name for batch in batches for name in batch.names], np.concatenate(rows)


@pytest.mark.parametrize("size", [1, 3, 7, 16])
@pytest.mark.parametrize("workers", [0, 3])
def test_images_of_a_folder(folder, size, workers):
    path, names, pixels = folder
    files = list_images([path / "p"])
    order = np.argsort(names)
    records = ImageRecords(files, "data", FORM, workers=workers)
    assert records.count == COUNT
    found, values = gathered(records, size)
    assert found == [names[i] for i in order]
    np.testing.assert_array_equal(values, expected(pixels)[order])


@pytest.mark.parametrize("transpose", [False, True])
def test_mirrors_are_those_of_the_option(folder, transpose):
    path, _, _ = folder
    form = replace(FORM, transpose=transpose, mean=np.arange(72.0).reshape(3, 4, 6))
    files = list_images([path / "list.txt"], str(path / "p"))
    both = ImageRecords(files, "data", form, with_mirror=True)
    alone = ImageRecords(files, "data", replace(form, mirror=True))
    np.testing.assert_array_equal(gathered(both, 4, form=1)[1], gathered(alone, 4)[1])
    assert (gathered(both, 4)[1] != gathered(alone, 4)[1]).any()


@pytest.fixture
def database(folder):
    path, names, pixels = folder
    with lmdb.open(str(path / "db")) as env, env.begin(write=True) as transaction:
        for index, image in enumerate(pixels):
            data = encoded_datum(cv2.imencode(".png", image)[1].tobytes(), 0)
            transaction.put(f"{index:08d}_{names[index]}".encode(),
                            data if index % 2 else raw_datum(image, 0))  # fmt: skip
    return path / "db", [f"{i:08d}_{name}" for i, name in enumerate(names)], pixels


@pytest.mark.parametrize("size", [2, 7])
def test_records_of_an_lmdb(database, size):
    path, keys, pixels = database
    records = DatumRecords(path, "data", FORM)
    assert records.count == COUNT
    found, values = gathered(records, size)
    assert found == keys
    np.testing.assert_array_equal(values, expected(pixels))


def test_records_of_a_leveldb(database, tmp_path):
    path, keys, pixels = database
    plyvel = pytest.importorskip("plyvel", reason="plyvel, which has wheels for Python < 3.13")
    with (
        lmdb.open(str(path)) as env,
        env.begin() as transaction,
        plyvel.DB(str(tmp_path / "leveldb"), create_if_missing=True) as other,
    ):
        for key, value in transaction.cursor():
            other.put(key, value)
    found, values = gathered(DatumRecords(tmp_path / "leveldb", "data", FORM), 2)
    assert found == keys
    np.testing.assert_array_equal(values, expected(pixels))


def test_float_records(tmp_path, rng):
    features = rng.normal(size=(3, 5, 1, 1)).astype(np.float32)
    with lmdb.open(str(tmp_path / "db")) as env, env.begin(write=True) as transaction:
        for index, row in enumerate(features):
            transaction.put(f"{index}".encode(), float_datum(row))
    _, values = gathered(DatumRecords(tmp_path / "db", "data", Preprocessing()), 2)
    np.testing.assert_array_equal(values, features)


def test_a_damaged_record_is_named(database):
    path, _, _ = database
    with lmdb.open(str(path)) as env, env.begin(write=True) as transaction:
        transaction.put(b"zz", encoded_datum(b"no picture", 0))
    with pytest.raises(SphereFaceError, match=r'db: key "zz"'):
        gathered(DatumRecords(path, "data", FORM), 8)


def test_rows_of_arrays(tmp_path, rng):
    array = rng.normal(size=(COUNT, 3))
    np.save(tmp_path / "x.npy", array)
    records = ArrayRecords({"x": np.load(tmp_path / "x.npy", mmap_mode="r")})
    names, values = gathered(records, 3)
    assert names == [str(i) for i in range(COUNT)]
    np.testing.assert_array_equal(values, array.astype(np.float32))
    assert values.dtype == np.float32
    with pytest.raises(SphereFaceError, match=r"rows of x 7, y 6"):
        ArrayRecords({"x": array, "y": array[:6]})


IMAGES = """layer {{ name: "d" type: "ImageData" top: "data" top: "label"
  transform_param {{ scale: 0.5 mean_value: 30 mean_value: 20 mean_value: 10 }}
  image_data_param {{ source: "{0}/list.txt" root_folder: "{0}/p/" batch_size: {1} {2} }} }}"""


@pytest.mark.parametrize("options", ["", "shuffle: true", "shuffle: true rand_skip: 5"])
@pytest.mark.parametrize("size", [3, 7, 10])
def test_data_layers_once(folder, options, size):
    """A data layer's batches go on with the next epoch; the records end with the first."""
    path, names, pixels = folder
    net = read_net(IMAGES.format(path, size, options)).net
    with open_sources([(net.layer[0], "")], phase="TEST", seed=1) as sources:
        records = DataRecords(sources)
        found, values = gathered(records, size)
    assert sorted(found) == sorted(names)
    assert (found == names) == (not options)
    order = [names.index(name) for name in found]
    np.testing.assert_array_equal(values, expected(pixels)[order][:, ::-1])


def test_data_layers_of_an_lmdb(database):
    path, keys, pixels = database
    net = read_net(f"""layer {{ name: "d" type: "Data" top: "data" top: "label"
      data_param {{ source: "{path}" backend: LMDB batch_size: 4 }} }}""").net
    with open_sources([(net.layer[0], "")], phase="TEST", seed=1) as sources:
        found, values = gathered(DataRecords(sources), 4)
    assert found == keys
    np.testing.assert_array_equal(values, pixels.transpose(0, 3, 1, 2))


def test_data_that_no_file_holds():
    net = read_net("""layer { name: "m" type: "MemoryData" top: "x" top: "y"
      memory_data_param { batch_size: 2 channels: 1 height: 1 width: 1 } }""").net
    with (
        open_sources([(net.layer[0], "")], phase="TEST", seed=1) as sources,
        pytest.raises(SphereFaceError, match=r'"m" .*only a program can give'),
    ):
        DataRecords(sources)
