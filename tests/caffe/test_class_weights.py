from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface.caffe.class_weights import class_labels
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.int64])
def test_labels_of_any_dtype(dtype, layer_net):
    layer = layer_net(TEXT, x=(2, 3, 4, 6), label=(2, 3)).layer
    labels = class_labels(layer, torch.tensor([[4], [0]], dtype=dtype), 5)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [4, 0]
    assert class_labels(layer, torch.empty(0), 5).shape == (0,)
    for wrong in (5, -1):
        with pytest.raises(SphereFaceError, match=f'"l" .*label {wrong} in row 1; expected 0 to 4'):
            class_labels(layer, torch.tensor([2, wrong], dtype=dtype), 5)
