from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

OPTIONS = "num_output: 4 kernel_size: 3"
EXAMPLES = {
    "plain": example("Local", OPTIONS, x=(1, 3, 7, 6)),
    "padded": example("Local", f"{OPTIONS} pad: 1 stride: 2 bias_term: false", x=(1, 3, 7, 6)),
}


def layer(options: str = OPTIONS) -> str:
    return f'layer {{ name: "l" type: "Local" bottom: "x" top: "y" local_param {{ {options} }} }}'


def local(x, weight, bias, kernel, pad, stride):
    """Position by position."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
    y = np.zeros((len(x), len(weight), height, width))
    for n, m, i, j in np.ndindex(*y.shape):
        patch = x[n, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        place = i * width + j
        y[n, m, i, j] = patch.ravel() @ weight[m, 0, :, place]
        if bias is not None:
            y[n, m, i, j] += bias[0, 0, m, place]
    return y


@pytest.mark.parametrize(
    ("pad", "stride", "bias_term", "size"),
    [(0, 1, True, (5, 4)), (1, 2, False, (5, 4)), (2, 1, True, (5, 4)), (1, 1, True, (2, 1))],
)
def test_each_position_has_its_kernel(pad, stride, bias_term, size, layer_net, rng):
    x = rng.normal(size=(2, 2, *size))
    text = layer(
        f"num_output: 3 kernel_size: 3 pad: {pad} stride: {stride} bias_term: {int(bias_term)}"
    )
    net = layer_net(text, x=x.shape)
    weight = rng.normal(size=tuple(net.layer.weight.shape))
    bias = rng.normal(size=tuple(net.layer.bias.shape)) if bias_term else None
    net.set(weight=weight, **({"bias": bias} if bias_term else {}))
    y = local(x, weight, bias, 3, pad, stride)
    dy = rng.normal(size=y.shape)
    result = net.run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], y, rtol=1e-10, atol=1e-12)

    def total(x, weight):
        return float((local(x, weight, bias, 3, pad, stride) * dy).sum())

    slopes = numeric_gradient(total, {"x": x, "weight": weight})
    np.testing.assert_allclose(result.bottom_diffs["x"], slopes["x"], atol=1e-6)
    np.testing.assert_allclose(result.param_diffs["weight"], slopes["weight"], atol=1e-6)
    if bias_term:
        expected = dy.sum(0).reshape(1, 1, 3, -1)
        np.testing.assert_allclose(result.param_diffs["bias"], expected, rtol=1e-10)


def test_blobs(layer_net):
    net = layer_net(layer(OPTIONS + " bias_filler { value: 2 }"), x=(2, 3, 7, 6))
    assert net.layer.blob_names == ["weight", "bias"]
    assert [tuple(blob.shape) for blob in net.layer.blobs] == [(4, 1, 27, 20), (1, 1, 4, 20)]
    assert net.layer.bias.unique().tolist() == [2]


@pytest.mark.parametrize(
    ("options", "x", "message"),
    [
        ("num_output: 4", (1, 3, 7, 6), "kernel_size 0"),
        (OPTIONS, (1, 3, 2, 6), "at least 3"),
        (OPTIONS, (1, 3), "at least 3"),
        ("num_output: 4 kernel_size: 4 pad: 1", (1, 3, 7, 1), "at least 2"),
    ],
)
def test_what_is_refused(options, x, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=x)


def test_images_of_another_size(layer_net):
    net = layer_net(layer(), x=(1, 3, 7, 6)).net
    with pytest.raises(SphereFaceError, match="for which the weights are"):
        net(torch.zeros(1, 3, 8, 6))
