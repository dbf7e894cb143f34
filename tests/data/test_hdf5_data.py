import h5py
import numpy as np
import pytest

from sphereface.data import open_source
from sphereface.errors import SphereFaceError

ROWS = (4, 1, 7)  # 12 samples in three files


@pytest.fixture
def files(tmp_path):
    """Row i of all files: data full of i, weight (i, -i), label i % 5."""
    names, begin = [], 0
    for number, rows in enumerate(ROWS):
        name = tmp_path / f"{number}.h5"
        index = np.arange(begin, begin + rows)
        with h5py.File(name, "w") as file:
            file["data"] = np.broadcast_to(index[:, None, None], (rows, 2, 3)).astype(np.float32)
            file["weight"] = np.stack([index, -index], 1).astype(np.int16)
            file.create_dataset("label", data=(index % 5).astype(np.float64), compression="gzip")
        names.append(f"{name}\n")
        begin += rows
    (tmp_path / "list.txt").write_text("".join(names))
    return tmp_path


@pytest.fixture
def param(layer, files):
    def make(options="", tops=("data", "weight", "label"), batch=5):
        text = f'hdf5_data_param {{ source: "{files}/list.txt" batch_size: {batch} {options} }}'
        return layer("HDF5Data", text, tops)

    return make


def read(param, batches=1, **options):
    with open_source(param, "net:1", **{"workers": 0, "seed": 1, **options}) as source:
        got = [source.next_batch() for _ in range(batches)]
    return {name: np.concatenate([batch[name] for batch in got]) for name in got[0]}


@pytest.mark.parametrize("workers", [0, 3])
def test_rows_of_all_files_in_order(param, workers):
    with open_source(param(), workers=0) as source:
        assert source.shapes == {"data": (5, 2, 3), "weight": (5, 2), "label": (5,)}
    got = read(param(), 12, workers=workers)
    index = np.arange(60) % 12
    assert all(array.dtype == np.float32 for array in got.values())
    assert (got["data"] == index[:, None, None]).all()
    assert (got["weight"] == np.stack([index, -index], 1)).all()
    assert (got["label"] == index % 5).all()


@pytest.mark.parametrize("workers", [0, 3])
def test_shuffling_keeps_files_together(param, workers):
    got = read(param("shuffle: true", batch=6), 200, workers=workers)
    assert (got["weight"][:, 0] == got["data"][:, 0, 0]).all()
    epochs = got["data"][:, 0, 0].reshape(100, 12).astype(int)
    assert (np.sort(epochs) == np.arange(12)).all()
    file = np.searchsorted(np.cumsum(ROWS), epochs, "right")
    assert ((np.diff(file) != 0).sum(1) == 2).all()
    assert len({tuple(dict.fromkeys(row)) for row in file.tolist()}) == 6  # orders of files
    first = [tuple(epoch[epoch < 4]) for epoch in epochs]
    assert len(set(first)) > 20  # orders of the four rows of the first file


def test_resuming_and_ranks(param):
    whole = read(param("shuffle: true", batch=6), 8)
    ranks = [read(param("shuffle: true", batch=3), 8, rank=r, ranks=2)["data"] for r in range(2)]
    assert (np.stack(ranks, 1).reshape(whole["data"].shape) == whole["data"]).all()
    with open_source(param("shuffle: true", batch=6), workers=2, seed=1) as source:
        for _ in range(3):
            source.next_batch()
        state = source.state()
    with open_source(param("shuffle: true", batch=6), workers=0, seed=9) as source:
        source.restore(state)
        assert (source.next_batch()["weight"] == whole["weight"][18:24]).all()


def test_labels_and_their_places(param, files):
    with open_source(param(), workers=0) as source:
        labels = list(source.labels())
    assert [label for label, _ in labels] == [i % 5 for i in range(12)]
    assert labels[5][1] == f"{files}/2.h5: row 0 of label"
    with open_source(param(tops=("data", "weight")), workers=0) as source:
        assert source.labels() is None


def test_a_transformation_is_refused(layer, files):
    text = f'hdf5_data_param {{ source: "{files}/list.txt" batch_size: 1 }}'
    with pytest.raises(SphereFaceError, match="HDF5Data does not transform data"):
        read(layer("HDF5Data", f"{text} transform_param {{ scale: 2 }}"))


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"data": np.zeros((3, 2, 3))}, 'no dataset "weight"; expected data, weight, label'),
        (
            {"data": np.zeros((3, 2, 3)), "weight": np.zeros((2, 2)), "label": np.zeros(3)},
            "3, 2, 3 rows; expected as many in every dataset",
        ),
        (
            {"data": np.zeros((3, 2, 4)), "weight": np.zeros((3, 2)), "label": np.zeros(3)},
            r"rows of \[\(2, 4\), \(2,\), \(\)\]; expected .* as in other files",
        ),
        (
            {
                "data": np.zeros((3, 2, 3)),
                "weight": np.zeros((3, 2)),
                "label": np.array([b"a"] * 3),
            },
            'dataset "label" of',
        ),
        ({"data": 1.0, "weight": 1.0, "label": 1.0}, 'dataset "data" of float64; expected rows'),
    ],
)
def test_files_that_do_not_fit(param, files, datasets, message):
    with h5py.File(files / "1.h5", "w") as file:
        for name, values in datasets.items():
            file[name] = values
    with pytest.raises(SphereFaceError, match=f"net:1: .*1.h5: {message}"):
        read(param())


def test_missing_damaged_and_no_files(param, files):
    data = (files / "2.h5").read_bytes()
    (files / "2.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(SphereFaceError, match="2.h5: HDF5 cannot read it: .*truncated"):
        read(param())
    (files / "2.h5").unlink()
    with pytest.raises(SphereFaceError, match="2.h5: no such file"):
        read(param())
    (files / "list.txt").write_text("\n")
    with pytest.raises(SphereFaceError, match="list.txt: zero lines"):
        read(param())
    (files / "list.txt").unlink()
    with pytest.raises(SphereFaceError, match="list.txt: no such list of files"):
        read(param())
