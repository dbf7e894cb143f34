from __future__ import annotations

import numpy as np
import pytest

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError

MEMORY = """
layer { name: "memory" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 2 channels: 1 height: 2 width: 3 } }
layer { name: "twice" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }
layer { name: "keep" type: "Power" bottom: "label" top: "keep" }
"""


@pytest.fixture
def net(write_net):
    return caffe.Net(write_net(MEMORY), caffe.TEST)


def arrays(count=4):
    data = np.arange(count * 6, dtype=np.float32).reshape(count, 1, 2, 3)
    return data, np.arange(count, dtype=np.float32)


def test_batches_come_round_and_round(net):
    data, labels = arrays()
    net.set_input_arrays(data, labels)
    assert net.inputs == []
    for batch in (slice(0, 2), slice(2, 4), slice(0, 2)):
        out = net.forward()
        np.testing.assert_array_equal(out["twice"], 2 * data[batch])
        np.testing.assert_array_equal(out["keep"], labels[batch])


def test_arrays_are_not_copied(net):
    data, labels = arrays(2)
    net._set_input_arrays(data, labels.reshape(2, 1, 1, 1))
    data[...] = 5
    assert (net.forward()["twice"] == 10).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, n: (d.astype(float), n), "data array of float64"),
        (lambda d, n: (d[:, :, ::-1], n), "C contiguous"),
        (lambda d, n: (d[0], n), "4-d"),
        (lambda d, n: (d.reshape(4, 1, 3, 2), n), r"\(N, 1, 2, 3\)"),
        (lambda d, n: (d, n.astype(int)), "labels array of int64"),
        (lambda d, n: (d, n[:2]), "same first dimension"),
        (lambda d, n: (d[:3], n[:3]), "multiple of batch_size 2"),
    ],
)
def test_arrays_that_caffe_refuses(net, change, message):
    with pytest.raises(SphereFaceError, match=message):
        net.set_input_arrays(*change(*arrays()))


def test_forward_without_arrays(net):
    with pytest.raises(SphereFaceError, match="set_input_arrays"):
        net.forward()


def test_only_for_memory_data(small_net):
    with pytest.raises(SphereFaceError, match="first layer is a MemoryData"):
        small_net().set_input_arrays(*arrays())


def test_a_data_layer_says_how_to_feed_its_net(write_net):
    path = write_net("""
        layer { name: "train" type: "ImageData" top: "data" top: "label"
          image_data_param { source: "list.txt" batch_size: 2 new_height: 2 new_width: 3 } }
        layer { name: "twice" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }
    """)
    net = caffe.Net(path, caffe.TRAIN)
    with pytest.raises(SphereFaceError, match=r"ImageData.*forward\(start="):
        net.forward()
    net.blobs["data"].data[...] = 3
    assert (net.forward(start="twice")["twice"] == 6).all()
