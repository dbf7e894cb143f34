"""One caffemodel of a sharded weight, and back on another number of processes."""

import numpy as np
import pytest

import sharded_work as work
from sphereface import SphereFaceError
from sphereface.distributed import ShardedMarginLoss, load_caffemodel
from sphereface.weights import read_caffemodel


def test_one_caffemodel_and_back_on_other_processes(pool, tmp_path, rng):
    weight, path = rng.normal(size=(23, 5)).astype("f4"), str(tmp_path / "head.caffemodel")
    pool.run(work.save_head, 3, weight, path)
    layer = read_caffemodel(path).layers[0]
    assert (layer.name, layer.type) == ("fc6", "MarginInnerProduct")
    np.testing.assert_array_equal(layer.blobs[0].data, weight)
    for ranks in (1, 2):
        parts = pool.run(work.load_head, ranks, weight, path)
        np.testing.assert_array_equal(np.concatenate(parts), weight)


def test_other_shapes_and_layers_are_refused(pool, tmp_path, rng):
    path = str(tmp_path / "head.caffemodel")
    pool.run(work.save_head, 1, rng.normal(size=(7, 5)).astype("f4"), path)
    loss = ShardedMarginLoss(5, 8)
    with pytest.raises(SphereFaceError, match=r"shape \(7, 5\); expected one of shape \(8, 5\)"):
        load_caffemodel(loss, path)
    with pytest.raises(SphereFaceError, match='layer "fc7": no blob'):
        load_caffemodel(loss, path, "fc7")
