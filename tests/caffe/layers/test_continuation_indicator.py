from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "marks": example("ContinuationIndicator", "time_step: 5 batch_size: 2"),
}


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "ContinuationIndicator" top: "y" '
        f"continuation_indicator_param {{ {options} }} }}"
    )


def test_the_first_row_starts(layer_net):
    y = layer_net(layer("time_step: 3 batch_size: 2")).run({}).tops["y"]
    np.testing.assert_array_equal(y, [[0, 0], [1, 1], [1, 1]])


def test_both_sizes_are_needed(layer_net):
    with pytest.raises(SphereFaceError, match=r"time_step, batch_size \(3, 0\)"):
        layer_net(layer("time_step: 3"))
