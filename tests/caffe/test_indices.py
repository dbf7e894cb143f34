from __future__ import annotations

import pytest
import torch

from sphereface.caffe.indices import class_labels, counted_labels, indices_below
from sphereface.errors import SphereFaceError


@pytest.fixture
def layer(layer_net):
    text = 'layer { name: "l" type: "ReLU" bottom: "x" top: "y" }'
    return layer_net(text, x=(2, 3)).layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.int64])
def test_labels_of_any_dtype(dtype, layer):
    labels = class_labels(layer, torch.tensor([[4], [0]], dtype=dtype), 5)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [4, 0]
    assert class_labels(layer, torch.empty(0), 5).shape == (0,)
    for wrong in (5, -1):
        message = rf'"l" .*: label\[1\] is {wrong}; expected 0 to 4$'
        with pytest.raises(SphereFaceError, match=message):
            class_labels(layer, torch.tensor([2, wrong, wrong], dtype=dtype), 5)


def test_indices_keep_their_shape(layer):
    found = indices_below(layer, torch.tensor([[1.0, 0.0], [2.0, 1.0]]), 3)
    assert found.tolist() == [[1, 0], [2, 1]]
    with pytest.raises(SphereFaceError, match=r"index\[2\] is 2; expected 0 to 1"):
        indices_below(layer, torch.tensor([[1.0, 0.0], [2.0, 1.0]]), 2)


def test_no_number_is_no_index(layer):
    with pytest.raises(SphereFaceError, match=r"label\[1\] is -?\d+; expected 0 to 4"):
        class_labels(layer, torch.tensor([0.0, torch.nan]), 5)


def test_labels_that_do_not_count_may_be_out_of_range(layer):
    label = torch.tensor([[2.0, 255.0], [0.0, 255.0]])
    labels, valid = counted_labels(layer, label, 3, 255)
    assert labels.tolist() == [2, 0, 0, 0]
    assert valid.tolist() == [True, False, True, False]
    labels, valid = counted_labels(layer, label[:, :1], 3, None)
    assert labels.tolist() == [2, 0]
    assert valid is None
    for ignore in (None, 254):
        with pytest.raises(SphereFaceError, match=r"label\[1\] is 255; expected 0 to 2"):
            counted_labels(layer, label, 3, ignore)
