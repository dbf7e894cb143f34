from __future__ import annotations

import numpy as np
import pytest

from sphereface.errors import SphereFaceError

TEXT = (
    'layer { name: "l" type: "CenterLoss" bottom: "x" bottom: "label" top: "y" '
    "center_loss_param { num_output: 5 axis: -2 } }"
)


def test_sizes_follow_the_axis(layer_net, rng):
    net = layer_net(TEXT, x=(2, 3, 4, 6), label=(2, 3))
    assert (net.layer.axis, net.layer.in_features) == (2, 24)
    assert tuple(net.layer.weight.shape) == (5, 24)
    label = np.array([[0, 1, 2], [3, 4, 0]])
    net.run({"x": rng.normal(size=(2, 3, 6, 4)), "label": label})
    with pytest.raises(SphereFaceError, match="has 12 values from axis 2 on; expected 24"):
        net.run({"x": rng.normal(size=(2, 3, 3, 4)), "label": label})
    with pytest.raises(
        SphereFaceError, match=r"6 labels \(shape \(2, 3\)\); expected 3, one a row"
    ):
        net.run({"x": rng.normal(size=(1, 3, 6, 4)), "label": label})
