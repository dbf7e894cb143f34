from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from reference.convolution import softmax
from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe import execution

TRAIN = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [4, 5] } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" dropout_param { dropout_ratio: 0.4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
  loss_weight: 3 }
layer { name: "penalty" type: "Reduction" bottom: "ip" top: "penalty" loss_weight: 0.5
  reduction_param { operation: SUMSQ } }
"""


@pytest.fixture
def train_net(write_net, rng):
    net = caffe.Net(write_net(TRAIN), caffe.TRAIN)
    net.blobs["data"].data[...] = rng.normal(size=(4, 5))
    net.blobs["label"].data[...] = [0, 2, 1, 1]
    return net


def test_forward_and_backward(small_net, small_numbers, image, norm_error, rng):
    net = small_net()
    diff = rng.normal(size=(2, 3)).astype("f")
    net.blobs["data"].data[...] = image
    net.blobs["sum"].diff[...] = diff
    net._forward(0, 6)
    net._backward(6, 0)
    numbers, grads = small_numbers(net, image, diff)
    for name, expected in numbers.items():
        assert norm_error(net.blobs[name].data, expected) < 1e-6, name
    for name in ("data", "conv"):
        assert norm_error(net.blobs[name].diff, grads[name]) < 1e-6, name
    for name in ("conv/0", "conv/1", "left/0", "left/1"):
        layer, index = name.split("/")
        assert norm_error(net.params[layer][int(index)].diff, grads[name]) < 1e-6, name


def test_losses_and_their_gradient(train_net, norm_error):
    net = train_net
    assert net.blobs["loss"].diff == 3
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(
        3 * net.blobs["loss"].data + 0.5 * net.blobs["penalty"].data
    )
    net.backward()
    ip = net.blobs["ip"].data.astype(float)
    assert net.blobs["penalty"].data == pytest.approx((ip**2).sum())
    one_hot = np.eye(3)[[0, 2, 1, 1]]
    dip = 3 * (softmax(ip) - one_hot) / 4 + 0.5 * 2 * ip
    # Dropout is in place and random: what it kept is what is not zero.
    mask = (ip != 0) / 0.6
    assert 0 < mask.astype(bool).sum() < 12
    assert norm_error(net.blobs["ip"].diff, dip * mask) < 1e-6
    data = net.blobs["data"].data.astype(float)
    assert norm_error(net.params["ip"][0].diff, (dip * mask).T @ data) < 1e-6
    assert not net.blobs["data"].diff.any()


def test_backward_may_be_repeated(train_net):
    net = train_net
    net.forward()
    net.backward()
    once = net.params["ip"][0].diff.copy()
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, 2 * once, rtol=1e-6)


def test_edits_between_forward_and_backward_count(small_net, image, rng, norm_error):
    net = small_net()
    net.blobs["data"].data[...] = image
    net.forward()
    rows = rng.normal(size=(2, 48)).astype("f")
    net.blobs["conv"].data[...] = rows.reshape(2, 4, 4, 3)
    diff = rng.normal(size=(2, 3)).astype("f")
    net.backward(sum=diff, end="left")
    assert norm_error(net.params["left"][0].diff, diff.astype(float).T @ rows) < 1e-6


def test_partial_passes_leave_the_rest(small_net, image):
    net = small_net()
    net.blobs["data"].data[...] = image
    net.forward()
    before = {name: blob.data.copy() for name, blob in net.blobs.items()}
    net.blobs["conv"].data[...] = 1
    net.blobs["data"].data[...] = 0
    net.forward(start="left", end="left")
    assert (net.blobs["right"].data == before["right"]).all()
    weight, bias = (blob.data for blob in net.params["left"])
    np.testing.assert_allclose(net.blobs["left"].data[0], weight.sum(1) + bias, rtol=1e-5)


def test_backward_of_a_layer_that_did_not_run(small_net, image, rng, norm_error):
    net = small_net()
    net.blobs["conv"].data[...] = np.abs(rng.normal(size=(2, 4, 4, 3)))
    rows = net.blobs["conv"].data.reshape(2, -1).astype(float)
    net.forward(start=net._layer_names[3], end="left")  # the Split, then left
    diff = rng.normal(size=(2, 3)).astype("f")
    net.blobs["right"].diff[...] = diff
    net.backward(start="right", end="right")
    assert norm_error(net.params["right"][0].diff, diff.astype(float).T @ rows) < 1e-6


def test_split_adds_what_its_tops_hold(small_net, image):
    # Caffe's stale diffs: a branch that a partial backward leaves out keeps its last diff.
    net = small_net()
    net.blobs["data"].data[...] = image
    net.forward()
    split = "conv_relu_0_split"
    net.blobs[f"{split}_0"].diff[...] = 1
    net.blobs[f"{split}_1"].diff[...] = 2
    net.backward(start=split, end=split)
    assert (net.blobs["conv"].diff == 3).all()


def test_shared_parameters_share_data_and_diff(write_net, rng, norm_error):
    net = caffe.Net(
        write_net("""force_backward: true
            layer { name: "in" type: "Input" top: "x" top: "y"
              input_param { shape { dim: [2, 3] } } }
            layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
              inner_product_param { num_output: 4 bias_term: false
                                    weight_filler { type: "xavier" } } }
            layer { name: "b" type: "InnerProduct" bottom: "y" top: "b" param { name: "w" }
              inner_product_param { num_output: 4 bias_term: false } }
        """),
        caffe.TEST,
    )
    x, y, da, db = (rng.normal(size=shape).astype("f") for shape in [(2, 3)] * 2 + [(2, 4)] * 2)
    net.forward(x=x, y=y)
    net.backward(a=da, b=db)
    expected = da.T.astype(float) @ x + db.T.astype(float) @ y
    for name in "ab":
        assert norm_error(net.params[name][0].diff, expected) < 1e-6
    net.params["a"][0].data[...] = 1
    np.testing.assert_allclose(net.forward()["b"][0], y[0].sum(), rtol=1e-5)


def test_statistics_are_blobs(write_net, rng, norm_error):
    net = caffe.Net(
        write_net("""
            layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [4, 2, 3, 3] } } }
            layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" }
        """),
        caffe.TRAIN,
    )
    x = rng.normal(3, 2, size=(4, 2, 3, 3)).astype("f")
    net.forward(x=x)
    mean, variance, factor = (blob.data for blob in net.params["bn"])
    assert factor == 1
    assert norm_error(mean, x.astype(float).mean((0, 2, 3))) < 1e-6
    assert norm_error(variance, x.astype(float).var((0, 2, 3), ddof=1)) < 1e-5


def test_a_reshape_before_backward(small_net, image):
    net = small_net()
    net.forward(data=image)
    net.blobs["sum"].reshape(1, 3)
    with pytest.raises(SphereFaceError, match="run forward after a reshape"):
        net.backward()


def test_impossible_shapes_name_the_layer(small_net):
    net = small_net()
    net.blobs["data"].reshape(2, 3, 9, 9)
    with pytest.raises(SphereFaceError, match='net.prototxt:9: layer "left".*48'):
        net.forward()


def test_the_automatic_top_of_a_loss(write_net):
    net = caffe.Net(write_net(TRAIN.replace('top: "loss"', "")), caffe.TRAIN)
    assert "(automatic)" in net.blobs
    assert net.outputs == ["penalty"]
    assert net.blobs["(automatic)"].diff == 3


class Layers:
    """Python layer classes that rely on Caffe's blobs being the same ones in all calls."""

    class Feed(caffe.Layer):
        """A data layer: sizes and values in setup, as many people wrote it."""

        def setup(self, bottom, top):
            self.top = top
            top[0].reshape(4, 3, 2, 2)
            top[1].reshape(4)
            top[1].data[...] = [0, 1, 2, 1]

        def reshape(self, bottom, top):
            pass

        def forward(self, bottom, top):
            self.top[0].data[...] += 1

        def backward(self, top, propagate_down, bottom):
            pass

    class Overwrite(caffe.Layer):
        """Replaces what it reads, and keeps a state that only the first reshape makes."""

        def setup(self, bottom, top):
            self.seen = bottom[0]
            self.blobs.add_blob(1)
            self.blobs[0].data[...] = 2

        def reshape(self, bottom, top):
            if not top[0].count > 1:
                self.first = bottom[0].num
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = bottom[0].data * self.blobs[0].data + self.first
            self.seen.data[...] = 5

        def backward(self, top, propagate_down, bottom):
            self.propagate_down = propagate_down
            self.blobs[0].diff[...] += top[0].diff.sum()
            bottom[0].diff[...] = 3


FEED = """
layer { name: "feed" type: "Python" top: "x" top: "label"
        python_param { module: "layers_of_the_test" layer: "Feed" } }
layer { name: "over" type: "Python" bottom: "x" top: "y"
        python_param { module: "layers_of_the_test" layer: "Overwrite" } }
layer { name: "after" type: "Power" bottom: "x" top: "after" power_param { scale: 2 } }
"""


@pytest.fixture
def fed(write_net, monkeypatch):
    monkeypatch.setitem(sys.modules, "layers_of_the_test", Layers)
    return caffe.Net(write_net(f"force_backward: true {FEED}"), caffe.TRAIN)


def test_a_python_layer_works_on_the_blobs_of_the_net(fed):
    net = fed
    assert net.blobs["x"].shape == net.blobs["y"].shape == (4, 3, 2, 2)
    assert net.blobs["label"].data.tolist() == [0, 1, 2, 1]
    for call in (1, 2):
        net.blobs["x"].data[...] = call
        net.forward()
        # Caffe's Split gives both readers the memory of x.
        assert (net.blobs["x"].data == 5).all()
        assert (net.blobs["after"].data == 10).all()
        assert (net.blobs["y"].data == (call + 1) * 2 + 4).all()
        assert net.blobs["label"].data.tolist() == [0, 1, 2, 1]
    feed, over = net.layers[0], net.layer_dict["over"]
    feed.top[0].data[...] = 7
    assert (net.blobs["x"].data == 7).all()
    feed.top[0].reshape(2, 3, 2, 2)
    net.reshape()
    assert net.blobs["x"].shape == net.blobs["after"].shape == net.blobs["y"].shape == (2, 3, 2, 2)
    net.forward(start="x_feed_0_split")
    assert (net.blobs["y"].data == 7 * 2 + 4).all()
    assert over.blobs[0] is net.params["over"][0]
    net.params["over"][0].data[...] = 0
    assert (net.forward(start="over")["y"] == 4).all()


def test_backward_of_a_python_layer(fed):
    net = fed
    net.forward()
    net.blobs["y"].diff[...] = 1
    for call in (1, 2):  # added up, as in Caffe
        net.backward()
        assert net.params["over"][0].diff == call * net.blobs["y"].count
    assert net.layer_dict["over"].propagate_down == [True]
    assert (net.blobs["x"].diff == 3).all()  # "after" has no diff at its top
    net.clear_param_diffs()
    assert net.layer_dict["over"].blobs[0].diff == 0


@pytest.fixture(params=["cpu:0", pytest.param("cuda:0", marks=pytest.mark.cuda)])
def compute_on(request, monkeypatch):
    """Switch to a device with memory of its own ("cpu:0" stands in for one) and back."""

    def switch(gpu):
        device = torch.device(request.param if gpu else "cpu")
        monkeypatch.setattr(execution, "current_device", lambda: device)

    return switch


def test_device_memory_follows_edits(
    compute_on, small_net, small_numbers, image, rng, norm_error, tmp_path
):
    tolerance = 1e-3  # TF32 convolutions
    net = small_net()
    diff = rng.normal(size=(2, 3)).astype("f")
    for gpu in (True, False, True):
        compute_on(gpu)
        net.blobs["data"].data[...] = image = image + 1
        net.params["left"][1].data[...] += 1
        net.forward()
        net.backward(sum=diff)
        numbers, grads = small_numbers(net, image, diff)
        for name, expected in numbers.items():
            assert norm_error(net.blobs[name].data, expected) < tolerance, name
        assert norm_error(net.blobs["data"].diff, grads["data"]) < tolerance
        assert norm_error(net.params["left"][0].diff, grads["left/0"]) < tolerance
        net.clear_param_diffs()
    net.blobs["conv"].data[...] = 1
    net.backward(end="left")
    expected = diff.sum(0, keepdims=True).T.astype(float) * np.ones(48)
    assert norm_error(net.params["left"][0].diff, expected) < tolerance
    net.save(str(tmp_path / "w.caffemodel"))
    net.params["left"][0].data[...] = 0
    net.copy_from(str(tmp_path / "w.caffemodel"))
    assert norm_error(net.forward(["left"], data=image)["left"], numbers["left"]) < tolerance


def test_a_python_layer_in_gpu_mode(compute_on, fed):
    net = fed
    for gpu in (True, False, True):
        compute_on(gpu)
        net.blobs["x"].data[...] = 0
        net.forward()
        assert (net.blobs["y"].data == 1 * 2 + 4).all()
        assert (net.blobs["after"].data == 10).all()
        net.clear_param_diffs()
        net.blobs["y"].diff[...] = 1
        net.backward()
        assert net.params["over"][0].diff == net.blobs["y"].count


def test_a_view_is_brought_up_to_date_by_the_next_access(compute_on, small_net, image):
    # As with Caffe's synced memory: it is the access that copies, into the same array.
    net = small_net()
    held = net.blobs["sum"].data
    compute_on(True)
    net.forward(start="data", end="sum", data=image)
    assert net.blobs["sum"].data.any()
    assert (held == net.blobs["sum"].data).all()
