from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from sphereface import pycaffe as caffe
from sphereface.caffe import Layer
from sphereface.caffe.blob import Blob
from sphereface.caffe.layers.convolution import Convolution
from sphereface.pycaffe import execution
from sphereface.pycaffe.prepared import Prepared, Step

FILTERED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "keep" type: "Input" top: "keep" input_param { shape { dim: 4 } } }
layer { name: "double" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
layer { name: "filter" type: "Filter" bottom: "y" bottom: "keep" top: "kept" }
layer { name: "add" type: "Power" bottom: "kept" top: "z" power_param { shift: 1 } }
layer { name: "square" type: "Power" bottom: "z" top: "z" power_param { power: 2 } }
"""


@pytest.fixture
def work(monkeypatch):
    """Counts shape inferences, look-ups of memory, and layers that ran outside of a row."""
    counted = Counter()

    def count(owner, name):
        method = getattr(owner, name)

        def counting(*args, **kwargs):
            counted[name] += 1
            return method(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(Convolution, "reshape")
    count(Layer, "reshape")
    count(Blob, "data_tensor")
    count(execution.Execution, "_forward_layer")
    return counted


def test_a_forward_with_the_shapes_of_the_last_is_a_loop(small_net, image, work):
    net = small_net(force_backward=False)
    for _ in range(2):
        net.forward(data=image)
    work.clear()
    net.forward(data=image)
    # The data layer alone, which has its place before the row.
    assert work == {"_forward_layer": 1}
    net.blobs["data"].reshape(5, 3, 6, 5)
    net.forward()
    assert work["reshape"] > 0
    assert work["data_tensor"] > 0


def test_values_and_views_stay_those_of_the_blobs(small_net, small_numbers, image, norm_error):
    net = small_net(force_backward=False)
    views = {name: blob.data for name, blob in net.blobs.items()}
    for scale in (1, 2, -3):
        net.blobs["data"].data[...] = scale * image
        net.params["conv"][1].data[...] = scale
        net.forward()
        numbers, _ = small_numbers(net, scale * image)
        for name, expected in numbers.items():
            assert norm_error(views[name], expected) < 1e-6, name
    # Written between two layers of the row.
    net.blobs["conv"].data[...] = 1
    net.forward(start="left", end="left")
    weight, bias = (blob.data.astype(float) for blob in net.params["left"])
    assert norm_error(views["left"], (weight.sum(1) + bias)[None].repeat(2, 0)) < 1e-6


def test_new_memory_is_used_at_once(small_net, small_numbers, image, norm_error):
    net, other = small_net(force_backward=False), small_net(force_backward=False)
    for _ in range(3):
        net.forward(data=image)
    net.share_with(other)
    other.params["conv"][0].data[...] *= 2
    for batch in (7, 2, 7, 7, 7):
        x = np.resize(image, (batch, 3, 6, 5))
        net.blobs["data"].reshape(*x.shape)
        net.blobs["data"].data[...] = x
        net.forward()
        numbers, _ = small_numbers(other, x)
        for name, expected in numbers.items():
            assert net.blobs[name].shape == expected.shape
            assert norm_error(net.blobs[name].data, expected) < 1e-6, name


def test_shapes_that_values_tell(write_net):
    net = caffe.Net(write_net(FILTERED), caffe.TEST)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    for keep in ("1011", "1011", "0111", "0010", "1111", "1111", "1011"):
        marks = np.array(list(keep), np.float32)
        kept = marks > 0
        out = net.forward(x=x, keep=marks)
        np.testing.assert_array_equal(out["z"], (2 * x[kept] + 1) ** 2)
        assert net.blobs["kept"].shape == (kept.sum(), 2)


def test_in_place_what_is_a_view_of_its_bottom(write_net, rng):
    net = caffe.Net(
        write_net("""layer { name: "x" type: "Input" top: "x"
  input_param { shape { dim: 2 dim: 3 dim: 3 dim: 2 } } }
layer { name: "permute" type: "Permute" bottom: "x" top: "x"
  permute_param { order: 0 order: 2 order: 1 order: 3 } }
layer { name: "double" type: "Power" bottom: "x" top: "x" power_param { scale: 2 } }"""),
        caffe.TEST,
    )
    for _ in range(4):
        x = rng.normal(size=(2, 3, 3, 2)).astype(np.float32)
        net.blobs["x"].data[...] = x
        net.forward(start="permute")
        np.testing.assert_array_equal(net.blobs["x"].data, 2 * x.transpose(0, 2, 1, 3))


def test_hooks_have_the_callers_mode_and_see_each_layer(small_net, image):
    net = small_net(force_backward=False)
    for _ in range(3):
        net.forward(data=image)
    seen = []

    def before(index):
        seen.append((index, torch.is_grad_enabled()))
        if net._layer_names[index] == "left":
            net.blobs["conv_relu_0_split_0"].data[...] = 0

    net.before_forward(before)
    out = net.forward()["sum"].copy()
    assert seen == [(index, True) for index in range(len(net.layers))]
    biases = net.params["left"][1].data, net.params["right"][1].data
    # A Split's tops share their data.
    np.testing.assert_allclose(out, np.broadcast_to(sum(biases), out.shape), rtol=1e-6)


def test_a_row_stops_where_its_memory_changes(write_net):
    net = caffe.Net(write_net(FILTERED), caffe.TEST)
    double, filter_, add = net.module.layers[2:5]
    x, keep = torch.arange(8.0).reshape(4, 2), torch.tensor([1.0, 0, 0, 1])
    y, kept, z = torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 2)
    row = Prepared(
        [2, 3, 4],
        [
            Step(double, [x], [y], False),
            Step(filter_, [y, keep], [kept], False),
            Step(add, [kept], [z], False),
        ],
    )
    stored = []
    assert row.run(lambda index, values: stored.append((index, *values))) == 3
    assert stored[0][0] == 3
    torch.testing.assert_close(stored[0][1], 2 * x[[0, 3]])
    torch.testing.assert_close(y, 2 * x)
    assert not z.any()
    keep[...] = 1
    assert row.run(lambda index, values: stored.append(index)) is None
    torch.testing.assert_close(z, 2 * x + 1)
