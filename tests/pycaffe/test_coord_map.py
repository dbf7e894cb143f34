"""Positions against a ramp that is carried through the layers themselves."""

from __future__ import annotations

import numpy as np
import pytest

from sphereface import pycaffe as caffe
from sphereface.errors import SphereFaceError
from sphereface.pycaffe import layers as L
from sphereface.pycaffe.coord_map import coord_map_from_to, crop

RAMP = 60


def averaged(n, options, name="y"):
    """A convolution of one channel; `positions` makes it an average, which keeps a ramp a ramp."""
    return L.Convolution(n, num_output=1, name=name, **options)


def positions(spec, write_net):
    """What each top of `spec` holds if the input holds its own coordinates."""
    net = caffe.Net(write_net(str(spec.to_proto())), caffe.TEST)
    for blobs in net.params.values():
        blobs[0].data[...] = 1 / blobs[0].data[0, 0].size
        blobs[1].data[...] = 0
    rows, columns = np.meshgrid(np.arange(RAMP), np.arange(RAMP), indexing="ij")
    for channel, values in enumerate((rows, columns)):
        net.blobs["data"].data[channel] = values
    net.forward()
    return {name: blob.data[:, 0].copy() for name, blob in net.blobs.items()}


CHAINS = {
    "conv": [{"kernel_size": 3}],
    "strides": [{"kernel_size": 3, "stride": 2}, {"kernel_size": 2, "stride": 3}],
    "padded": [{"kernel_size": 5, "stride": 2, "pad": 2}],
    "dilated": [{"kernel_size": 3, "dilation": 4, "stride": 2}],
    "rectangle": [{"kernel_size": [3, 5], "stride": [1, 2], "pad": [0, 1]}],
    "old names": [
        {"kernel_h": 3, "kernel_w": 5, "stride_h": 1, "stride_w": 2, "pad_h": 0, "pad_w": 1}
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_maps_of_convolutions(chain, write_net):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, RAMP, RAMP]})
    top = n.data
    for number, options in enumerate(CHAINS[chain]):
        top = n[f"y{number}"] = averaged(top, options, f"y{number}")
    axis, scale, shift = coord_map_from_to(top, n.data)
    assert axis == 1
    rows, columns = positions(n, write_net)[f"y{len(CHAINS[chain]) - 1}"]
    scale, shift = np.broadcast_to(scale, 2), np.broadcast_to(shift, 2)
    # Away from the padding the average is the centre of the window.
    for i, j in ((4, 5), (6, 3)):
        assert rows[i, j] == pytest.approx(scale[0] * i + shift[0], rel=1e-5)
        assert columns[i, j] == pytest.approx(scale[1] * j + shift[1], rel=1e-5)
    # And back.
    _, back, left = coord_map_from_to(n.data, top)
    np.testing.assert_allclose(back * scale, np.ones(2))
    np.testing.assert_allclose(back * shift + left, np.zeros(2), atol=1e-12)


def fcn(pool=2, stride=2, conv_pad=0, up_pad=0):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, RAMP, RAMP]})
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3, pad=conv_pad)
    n.relu = L.ReLU(n.conv)
    n.pool = L.Pooling(n.relu, pool=caffe.params.Pooling.AVE, kernel_size=pool, stride=pool)
    n.up = L.Deconvolution(
        n.pool,
        convolution_param={
            "num_output": 1, "kernel_size": 2 * stride, "stride": stride, "pad": up_pad,
            "weight_filler": {"type": "bilinear"},
        },
    )  # fmt: skip
    return n


@pytest.mark.parametrize(
    ("options", "shift"),
    [
        ({}, 0),
        ({"pool": 4, "stride": 4}, -1),
        ({"conv_pad": 7}, -7),
        ({"up_pad": 1}, 1),
        ({"conv_pad": 5, "up_pad": 5}, 0),
        ({"pool": 3, "stride": 3}, -0.5 + 0),
    ],
)
def test_up_again(options, shift):
    n = fcn(**options)
    axis, scale, found = coord_map_from_to(n.up, n.data)
    # By hand: conv x + p - 1, pool (x + p - 1 - (k-1)/2) / k, up s x + (2 s - 1)/2 - q.
    k, p, q = options.get("pool", 2), options.get("conv_pad", 0), options.get("up_pad", 0)
    assert (axis, scale) == (1, 1)
    assert found == -(p - 1 - (k - 1) / 2 + (2 * k - 1) / 2 - q) == shift


def test_crop_aligns_an_upsampled_ramp(write_net):
    n = fcn(pool=4, stride=4, conv_pad=6)
    n.score = crop(n.up, n.data)
    param = n.to_proto().layer[-1].crop_param
    assert (param.axis, list(param.offset)) == (2, [7])
    net = caffe.Net(write_net(str(n.to_proto())), caffe.TEST)
    net.params["conv"][0].data[...] = 1 / 9
    net.blobs["data"].data[...] = np.arange(RAMP)
    net.forward()
    score = net.blobs["score"].data
    assert score.shape == net.blobs["data"].shape
    np.testing.assert_allclose(
        score[:, :, 20:40, 20:40], net.blobs["data"].data[:, :, 20:40, 20:40], rtol=1e-4
    )


def test_a_crop_is_on_the_way():
    n = fcn()
    n.cut = L.Crop(n.up, n.data, axis=2, offset=[3, 4])
    axis, scale, shift = coord_map_from_to(n.cut, n.data)
    assert (axis, scale.tolist(), shift.tolist()) == (1, [1], [3, 4])
    # The second bottom, which gives the size, is no way to it.
    n.other = L.Input(shape={"dim": [2, 1, 9, 9]})
    n.sized = L.Crop(n.up, n.other, axis=2)
    with pytest.raises(RuntimeError):
        coord_map_from_to(n.sized, n.other)


def test_three_axes_and_several_bottoms():
    n = caffe.NetSpec()
    n.a = L.Input(shape={"dim": [1, 1, 9, 9, 9]})
    n.b = L.Input(shape={"dim": [1, 1, 9, 9, 9]})
    n.x, n.y = L.Convolution(n.a, n.b, ntop=2, num_output=1, kernel_size=3, pad=[0, 1, 2])
    for top, source in ((n.x, n.a), (n.y, n.b)):
        assert coord_map_from_to(top, source)[2].tolist() == [1, 0, -1]
    assert coord_map_from_to(n.x, n.x)[0] is None


def test_what_has_no_map():
    n = fcn()
    n.rows = L.InnerProduct(n.up, num_output=3)
    n.whole = L.Pooling(n.up, global_pooling=True)
    for top in (n.rows, n.whole):
        with pytest.raises(RuntimeError, match="no blob leads to both") as caught:
            coord_map_from_to(top, n.data)
        assert isinstance(caught.value, SphereFaceError)
    n.wide = L.Convolution(n.up, num_output=1, kernel_size=3, axis=2)
    with pytest.raises(SphereFaceError, match="axis 1 and after axis 2|axis 2 and after axis 1"):
        coord_map_from_to(n.wide, n.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": 3, "stride": 2}, r"scale \[1.5\]; expected 1"),
        ({"up_pad": 10}, r"offset \[-10.0\]; expected 0 or more"),
        ({"pool": 3, "stride": 3}, r"offset \[0.5\]; expected whole numbers"),
    ],
)
def test_what_no_crop_aligns(options, message):
    n = fcn(**options)
    with pytest.raises(AssertionError, match=message) as caught:
        crop(n.up, n.data)
    assert isinstance(caught.value, SphereFaceError)
