"""Rows of split tensors into one caffemodel, and from one generator, without holding the whole."""

import numpy as np
import pytest
import torch

import sharded_work as work
from sphereface.weights import read_caffemodel


@pytest.mark.parametrize("ranks", [1, 3])
def test_one_caffemodel_of_all_parts(pool, ranks, tmp_path, rng):
    weight = rng.normal(size=(7, 40_000)).astype("f4")  # a chunk is 26 rows
    tall = rng.normal(size=(400, 3000)).astype("f4")  # and one of these 336
    path = tmp_path / "whole.caffemodel"
    held = pool.run(work.write_whole, ranks, [weight, tall], str(path))
    layers = read_caffemodel(path).weights()
    for name, array in (("w0", weight), ("w1", tall)):
        np.testing.assert_array_equal(layers[name][0], array)
    assert 0 < held[0] <= 1 << 22  # bytes of a chunk


def test_a_writer_that_fails_leaves_nobody_waiting(pool, rng):
    weight = rng.normal(size=(400, 3000)).astype("f4")
    assert pool.run(work.fail_while_writing, 3, weight) == ["disk full", "served", "served"]


def test_scattered_rows_are_those_of_one_draw(pool):
    parts = pool.run(work.scattered, 3, 1000, 1500)  # 688 rows a chunk
    generator = torch.Generator().manual_seed(4)
    expected = torch.empty(1000, 1500).normal_(generator=generator).numpy()
    assert np.concatenate(parts).tobytes() == expected.tobytes()
