from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError
from sphereface.pycaffe.batches import each_batch, joined


def test_the_last_batch_is_filled_with_zeros():
    data = np.arange(1.0, 11).reshape(5, 2)
    batches = list(each_batch({"a": data, "b": data + 10}, 2))
    assert len(batches) == 3
    np.testing.assert_array_equal(batches[1]["b"], data[2:4] + 10)
    np.testing.assert_array_equal(batches[2]["a"], [[9, 10], [0, 0]])


def test_results_of_the_filling_are_dropped():
    results = [{"out": np.full((2, 3), i), "loss": np.array(float(i))} for i in range(3)]
    whole = joined(results, 5)
    np.testing.assert_array_equal(whole["out"][:, 0], [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(whole["loss"], [0, 1, 2])


def test_different_numbers_of_samples():
    with pytest.raises(SphereFaceError, match="as many for every argument"):
        list(each_batch({"a": np.zeros(3), "b": np.zeros(4)}, 2))
