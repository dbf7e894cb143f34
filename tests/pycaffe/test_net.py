from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.weights import read_caffemodel


@pytest.fixture
def net(small_net, image):
    net = small_net()
    net.blobs["data"].data[...] = image
    return net


def test_every_way_to_make_a_net(small_net, write_net, tmp_path):
    saved = small_net()
    model, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel")
    saved.save(weights)
    for net in (
        caffe.Net(model, weights, caffe.TEST),
        caffe.Net(model, weights, phase=caffe.TEST),
        caffe.Net(model, caffe.TEST, weights=weights),
        caffe.Net(model, caffe.TEST, 0, ["s"], weights),
        caffe.Net(network_file=model, phase=caffe.TEST, weights=weights, level=1, stages=["s"]),
        caffe.Net(tmp_path / "net.prototxt", tmp_path / "w.caffemodel", caffe.TEST),
    ):
        for name, blobs in saved.params.items():
            for blob, expected in zip(net.params[name], blobs, strict=True):
                assert (blob.data == expected.data).all()
    alone = caffe.Net(weights, caffe.TEST)
    assert alone.inputs == saved.inputs
    for name, blobs in alone.params.items():
        for blob, expected in zip(saved.params[name], blobs, strict=True):
            assert (blob.data == expected.data).all()
    other = caffe.Net(model, caffe.TRAIN)
    assert (other.params["conv"][0].data != saved.params["conv"][0].data).all()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        (("weights",), {}),
        ((1, 0, [], "w", 3), {}),
        ((1,), {"phase": 0}),
        ((1,), {"weigths": "w"}),
    ],
)
def test_wrong_arguments(small_net, tmp_path, args, kwargs):
    small_net()
    with pytest.raises(SphereFaceError, match=r"Net\(network_file, weights, phase\)"):
        caffe.Net(str(tmp_path / "net.prototxt"), *args, **kwargs)


def test_forward_returns_views_of_outputs_and_asked_blobs(net, small_numbers, image, norm_error):
    out = net.forward(blobs=["conv"])
    assert sorted(out) == ["conv", "sum"]
    numbers, _ = small_numbers(net, image)
    assert norm_error(out["conv"], numbers["conv"]) < 1e-6
    first = out["sum"].copy()
    net.blobs["data"].data[...] *= 2
    net.forward()
    assert (out["sum"] != first).any()  # what forward returned before is the blob itself


def test_forward_of_a_part_returns_its_tops(net):
    assert sorted(net.forward(end="relu")) == ["conv"]
    assert sorted(net.forward(start="conv_relu_0_split", end="right")) == ["right"]
    assert sorted(net.forward(start="conv_relu_0_split", end="conv_relu_0_split")) == [
        "conv_relu_0_split_0",
        "conv_relu_0_split_1",
    ]


def test_inputs_by_keyword(net, image):
    net.forward(data=image.astype(float))  # cast, as numpy assigns
    assert (net.blobs["data"].data == image).all()
    with pytest.raises(SphereFaceError, match="Input blob arguments do not match net inputs"):
        net.forward(data=image, extra=image)
    with pytest.raises(SphereFaceError, match="Input is not batch sized"):
        net.forward(data=image[:1])


def test_unknown_names(net):
    with pytest.raises(SphereFaceError, match='no layer "rleu".*did you mean "relu"'):
        net.forward(end="rleu")
    with pytest.raises(SphereFaceError, match='no blob "convv".*did you mean "conv"'):
        net.forward(blobs=["convv"])
    with pytest.raises(ValueError, match="no layer"):  # what list.index raised in pycaffe
        net.backward(start="nothing")


def test_backward_returns_input_and_asked_diffs(net, small_numbers, image, norm_error, rng):
    net.forward()
    diff = rng.normal(size=(2, 3)).astype("f")
    grads = net.backward(diffs=["conv"], sum=diff)
    _, expected = small_numbers(net, image, diff)
    assert sorted(grads) == ["conv", "data"]
    assert norm_error(grads["data"], expected["data"]) < 1e-6
    assert norm_error(grads["conv"], expected["conv"]) < 1e-6
    with pytest.raises(SphereFaceError, match="Top diff arguments do not match net outputs"):
        net.backward(left=diff)
    with pytest.raises(SphereFaceError, match="Diff is not batch sized"):
        net.backward(sum=diff[:1])


def test_backward_to_a_layer_returns_the_diffs_of_its_bottoms(net):
    net.forward()
    net.blobs["sum"].diff[...] = 1
    grads = net.backward(end="sum")
    assert sorted(grads) == ["left", "right"]
    assert (grads["left"] == 1).all()


def test_parameter_diffs_accumulate_until_cleared(net):
    net.forward()
    net.backward(sum=np.ones((2, 3), "f"))
    once = net.params["left"][0].diff.copy()
    data = net.blobs["data"].diff.copy()
    net.backward(sum=np.ones((2, 3), "f"))
    np.testing.assert_allclose(net.params["left"][0].diff, 2 * once, rtol=1e-6)
    np.testing.assert_array_equal(net.blobs["data"].diff, data)  # overwritten, not added
    net.clear_param_diffs()
    assert not net.params["left"][0].diff.any()


def test_backward_without_force_backward_warns(small_net, image):
    net = small_net(force_backward=False)
    net.forward(data=image)
    with pytest.warns(UserWarning, match="force_backward: true"):
        net.backward(sum=np.ones((2, 3), "f"))
    assert not net.blobs["data"].diff.any()
    assert not net.params["left"][0].diff.any()


def test_forward_all_in_batches(net, small_numbers, rng, norm_error):
    data = rng.normal(size=(5, 3, 6, 5)).astype("f")
    out = net.forward_all(blobs=["conv"], data=data)
    numbers, _ = small_numbers(net, data)
    assert norm_error(out["sum"], numbers["sum"]) < 1e-6
    assert norm_error(out["conv"], numbers["conv"]) < 1e-6
    with pytest.raises(SphereFaceError, match="no arrays"):
        net.forward_all()


def test_forward_backward_all(net, small_numbers, rng, norm_error):
    data = rng.normal(size=(3, 3, 6, 5)).astype("f")
    diff = rng.normal(size=(3, 3)).astype("f")
    out, grads = net.forward_backward_all(diffs=["conv"], data=data, sum=diff)
    numbers, expected = small_numbers(net, data, diff)
    assert norm_error(out["sum"], numbers["sum"]) < 1e-6
    for name in ("data", "conv"):
        assert norm_error(grads[name], expected[name]) < 1e-6
    assert norm_error(net.params["conv"][0].diff, expected["conv/0"]) < 1e-6
    with pytest.raises(SphereFaceError, match='"summ" is no input or output'):
        net.forward_backward_all(data=data, summ=diff)


def test_reshape_follows_the_input(write_net):
    net = caffe.Net(
        write_net("""
            layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 5, 5] } } }
            layer { name: "p" type: "Pooling" bottom: "x" top: "p"
              pooling_param { kernel_size: 2 stride: 2 } }
        """),
        caffe.TEST,
    )
    assert net.blobs["p"].shape == (1, 1, 3, 3)
    net.blobs["x"].reshape(2, 1, 8, 10)
    net.reshape()
    assert net.blobs["p"].data.shape == (2, 1, 4, 5)


def test_save_and_copy_from(net, small_net, tmp_path, image):
    expected = net.forward()["sum"].copy()
    # The name does not decide the format.
    net.save(str(tmp_path / "model.h5"))
    net.save_hdf5(str(tmp_path / "model.caffemodel"))
    names = [layer.name for layer in read_caffemodel(tmp_path / "model.h5").layers]
    assert names == net._layer_names  # the Splits too, as Caffe writes them
    with h5py.File(tmp_path / "model.caffemodel") as file:
        assert sorted(file["data/conv"]) == ["0", "1"]
    for load, name in (("copy_from", "model.h5"), ("load_hdf5", "model.caffemodel")):
        other = small_net()
        kept = other.params["conv"][0].data
        getattr(other, load)(str(tmp_path / name))
        assert (kept == net.params["conv"][0].data).all()  # into the same memory
        np.testing.assert_array_equal(other.forward(data=image)["sum"], expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.caffemodel", "model.h5", "net.prototxt",
    ]  # fmt: skip


def test_share_with(net, small_net, image):
    other = small_net()
    other.share_with(net)
    net.params["conv"][0].data[...] *= 0.5
    net.params["left"][1].data[...] = 3
    assert (other.params["conv"][0].data == net.params["conv"][0].data).all()
    expected = net.forward()["sum"]
    np.testing.assert_array_equal(other.forward(data=image)["sum"], expected)
    net.backward(sum=np.ones((2, 3), "f"))
    assert not other.params["left"][0].diff.any()  # diffs are each net's own


def test_share_with_another_shape(net, write_net):
    other = caffe.Net(
        write_net("""
            layer { name: "data" type: "Input" top: "d" input_param { shape { dim: [2, 9] } } }
            layer { name: "left" type: "InnerProduct" bottom: "d" top: "l"
              inner_product_param { num_output: 3 } }
        """),
        caffe.TEST,
    )
    with pytest.raises(SphereFaceError, match=r'layer "left": blobs of shapes \[\(3, 9\)'):
        net.share_with(other)


def test_a_parameter_may_be_reshaped(net):
    # Surgery on a fully connected layer: fewer outputs.
    weight, bias = net.params["left"]
    kept = weight.data[:2].copy()
    weight.reshape(2, 48)
    bias.reshape(2)
    net.forward(end="left")
    rows = net.blobs["conv"].data.reshape(2, -1)
    np.testing.assert_allclose(net.blobs["left"].data, rows @ kept.T + bias.data, rtol=1e-5)


def test_hooks_around_each_layer(net, image):
    calls = []
    for name in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, name)(lambda index, name=name: calls.append((name, index)))
    seen = []
    net.after_forward(lambda index: seen.append(net.blobs["conv"].data.any()))
    net.forward(data=image)
    assert calls == [
        (f"{when}_forward", index) for index in range(7) for when in ("before", "after")
    ]
    assert seen == [False] + [True] * 6
    calls.clear()
    net.backward(end="left")
    assert calls == [
        (f"{when}_backward", index) for index in (6, 5, 4) for when in ("before", "after")
    ]


def test_a_parameter_blob_may_be_replaced_by_one_of_another_net(small_net, small_numbers, image):
    net, other = small_net(), small_net()
    for _ in range(3):
        net.forward(data=image)
    for index in (0, 1):
        net.params["conv"][index] = other.params["conv"][index]
    other.params["conv"][1].data[...] = 3
    out = net.forward(data=image)["sum"]
    assert net.params["conv"][0] is other.params["conv"][0]
    numbers, _ = small_numbers(net, image)
    np.testing.assert_allclose(out, numbers["sum"], rtol=1e-5)
    net.blobs["sum"].diff[...] = 1
    net.backward()
    assert other.params["conv"][0].diff.any()


def test_nets_warn_of_nothing_in_ordinary_use(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.forward()
        net.backward()
