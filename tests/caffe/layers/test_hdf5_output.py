from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from sphereface.errors import SphereFaceError


def layer(path) -> str:
    return (
        'layer { name: "l" type: "HDF5Output" bottom: "x" bottom: "t" '
        f'hdf5_output_param {{ file_name: "{path}" }} }}'
    )


def read(path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def test_each_forward_writes_the_file(layer_net, rng, tmp_path):
    path = tmp_path / "out.h5"
    net = layer_net(layer(path), x=(2, 3), t=(2,))
    assert not path.exists()
    for batch in (2, 5):
        x, t = rng.normal(size=(batch, 3)), rng.integers(0, 9, size=batch).astype(float)
        result = net.run({"x": x, "t": t}, dtype=torch.float32)
        assert not result.tops
        found = read(path)
        assert set(found) == {"data", "label"}
        assert found["data"].dtype == np.float32
        np.testing.assert_array_equal(found["data"], x.astype(np.float32).reshape(batch, 3, 1, 1))
        np.testing.assert_array_equal(found["label"], t.reshape(batch, 1, 1, 1))


def test_double_stays_double_and_compilers_leave_it_alone(layer_net, rng, tmp_path, dynamo):
    path = tmp_path / "out.h5"
    net = layer_net(layer(path), x=(2, 3, 4, 5), t=(2, 1)).net
    x, t = torch.tensor(rng.normal(size=(2, 3, 4, 5))), torch.zeros(2, 1, dtype=torch.int64)
    torch.compile(net, backend="eager")(x, t)
    np.testing.assert_array_equal(read(path)["data"], x.numpy())
    assert read(path)["label"].shape == (2, 1, 1, 1)
    with pytest.raises(SphereFaceError, match="has no export"):
        torch.export.export(net, (x, t))


@pytest.mark.parametrize(
    ("path", "x", "message"),
    [
        ("", (2, 3), "no file_name"),
        ("a.h5", (3, 3), "the same first dimension"),
        ("a.h5", (2, 1, 1, 1, 1), "at most 4 axes"),
    ],
)
def test_what_does_not_fit(path, x, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(path), x=x, t=(2,))
