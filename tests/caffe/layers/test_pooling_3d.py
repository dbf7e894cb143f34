from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "max": example(
        "Pooling3D",
        "kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2",
        opencv=False,
        x=(1, 2, 5, 8, 7),
    ),
    "average": example(
        "Pooling3D",
        "pool: AVE kernel_size: 2 kernel_depth: 1 stride: 2",
        opencv=False,
        x=(1, 2, 4, 6, 8),
    ),
}


def layer(options: str) -> str:
    return (
        'layer { name: "l" type: "Pooling3D" bottom: "x" top: "y"'
        f" pooling_param {{ {options} }} }}"
    )


def pooled(x, kernel, stride, pad, average):
    """Caffe's loops: sizes rounded up, windows clipped."""
    sizes = [
        int(np.ceil((n + 2 * p - k) / s)) + 1
        for n, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True)
    ]
    sizes = [
        count - ((count - 1) * s >= n + p)
        for count, n, s, p in zip(sizes, x.shape[2:], stride, pad, strict=True)
    ]
    y = np.zeros((*x.shape[:2], *sizes))
    for place in product(*map(range, sizes)):
        near = [i * s - p for i, s, p in zip(place, stride, pad, strict=True)]
        far = [min(a + k, n + p) for a, k, n, p in zip(near, kernel, x.shape[2:], pad, strict=True)]
        size = np.prod([b - a for a, b in zip(near, far, strict=True)])
        cut = tuple(slice(max(a, 0), b) for a, b in zip(near, far, strict=True))
        window = x[(slice(None), slice(None), *cut)]
        y[(slice(None), slice(None), *place)] = (
            window.sum((2, 3, 4)) / size if average else window.max((2, 3, 4))
        )
    return y


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("options", "kernel", "stride", "pad"),
    [
        ("kernel_size: 2 kernel_depth: 1 stride: 2", (1, 2, 2), (1, 2, 2), (0, 0, 0)),
        (
            "kernel_size: 2 kernel_depth: 3 stride: 2 temporal_stride: 2",
            (3, 2, 2),
            (2, 2, 2),
            (0, 0, 0),
        ),
        (
            "kernel_size: 3 kernel_depth: 3 stride: 2 temporal_stride: 2 pad: 1 temporal_pad: 1",
            (3, 3, 3),
            (2, 2, 2),
            (1, 1, 1),
        ),
    ],
)
def test_sizes_and_values(options, kernel, stride, pad, average, layer_net, rng):
    x = rng.normal(size=(2, 3, 6, 7, 5))
    method = "pool: AVE" if average else ""
    net = layer_net(layer(f"{options} {method}"), x=x.shape)
    found = net.run({"x": x}).tops["y"]
    np.testing.assert_allclose(found, pooled(x, kernel, stride, pad, average), rtol=1e-12)


def test_the_last_pooling_of_c3d(layer_net):
    text = layer("pool: MAX kernel_size: 2 kernel_depth: 2 stride: 2 temporal_stride: 2")
    assert layer_net(text, x=(1, 8, 2, 7, 7)).net.blob_shapes["y"] == (1, 8, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "shape", "problem"),
    [
        ("kernel_size: 2", (1, 2, 3, 4), "expected 5 axes"),
        ("kernel_size: 2 kernel_depth: 9", (1, 2, 3, 4, 4), "sizes that hold the kernel"),
        ("kernel_size: 1 stride: 2", (1, 2, 3, 4, 4), "at least as large as their strides"),
        ("kernel_size: 2 stride: 0", (1, 2, 3, 4, 4), "expected at least 1"),
        ("kernel_size: 2 pad: 2", (1, 2, 3, 4, 4), "at most half"),
        ("kernel_size: 2 pool: STOCHASTIC", (1, 2, 3, 4, 4), "expected MAX or AVE"),
    ],
)
def test_what_is_refused(options, shape, problem, layer_net):
    with pytest.raises(SphereFaceError, match=problem):
        layer_net(layer(options), x=shape)


def test_depth_is_refused_by_the_layer_without(layer_net):
    text = layer("kernel_size: 2 kernel_depth: 2").replace("Pooling3D", "Pooling")
    with pytest.raises(SphereFaceError, match="kernel_depth; expected no such option"):
        layer_net(text, x=(1, 2, 4, 4))
