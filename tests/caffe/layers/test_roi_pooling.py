from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

OPTIONS = "pooled_h: 3 pooled_w: 2 spatial_scale: 0.25"
# Images 0 and 1; inside, at the border, beyond it, one position, exchanged corners.
REGIONS = np.array(
    [
        [0, 4, 8, 30, 40],
        [1, 0, 0, 59, 47],
        [0, 30, 20, 90, 80],
        [1, 17, 17, 17, 17],
        [0, -30, -9, 10, 10],
        [1, 20, 20, 10, 8],
        [0, 70, 70, 90, 90],
    ],
    float,
)


def layer(options: str = OPTIONS) -> str:
    return (
        'layer { name: "l" type: "ROIPooling" bottom: "x" bottom: "r" top: "y"'
        f" roi_pooling_param {{ {options} }} }}"
    )


EXAMPLES = {
    "grid": example("ROIPooling", OPTIONS, opencv=False, x=(1, 4, 13, 11), region=(6, 5)),
    "padded": example(
        "ROIPooling", f"{OPTIONS} pad_ratio: 0.25", opencv=False, x=(1, 4, 13, 11), region=(6, 5)
    ),
}


def away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def pooled(x, regions, height, width, scale):
    """Bin by bin; returns the maxima, and where they come from (-1 for an empty bin)."""
    top = np.zeros((len(regions), x.shape[1], height, width))
    source = np.full(top.shape, -1)
    size = x.shape[2:]
    for r, (image, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (away(corner * scale) for corner in corners)
        for i, j in np.ndindex(height, width):
            bounds = []
            for near, far, place, count, most in (
                (y1, y2, i, height, size[0]),
                (x1, x2, j, width, size[1]),
            ):
                step = np.float32(max(far - near + 1, 1)) / np.float32(count)
                start = int(np.floor(np.float32(place) * step)) + near
                end = int(np.ceil(np.float32(place + 1) * step)) + near
                bounds += [min(max(start, 0), most), min(max(end, 0), most)]
            for c in range(x.shape[1]):
                best = -np.inf
                for h in range(bounds[0], bounds[1]):
                    for w in range(bounds[2], bounds[3]):
                        if x[int(image), c, h, w] > best:
                            best = x[int(image), c, h, w]
                            source[r, c, i, j] = h * size[1] + w
                top[r, c, i, j] = best if np.isfinite(best) else 0
    return top, source


@pytest.mark.parametrize(("height", "width", "scale"), [(3, 2, 0.25), (7, 7, 0.25), (1, 1, 0.2)])
def test_bin_by_bin(height, width, scale, layer_net, rng):
    x = rng.integers(0, 4, size=(2, 3, 12, 15)).astype(float)  # with ties
    options = f"pooled_h: {height} pooled_w: {width} spatial_scale: {scale}"
    dy = rng.normal(size=(len(REGIONS), 3, height, width))
    net = layer_net(layer(options), x=x.shape, r=REGIONS.shape)
    result = net.run({"x": x, "r": REGIONS}, {"y": dy})
    top, source = pooled(x, REGIONS, height, width, scale)
    np.testing.assert_array_equal(result.tops["y"], top)
    expected = np.zeros((2, 3, 12 * 15))
    for r, c, i, j in np.argwhere(source >= 0):
        expected[int(REGIONS[r, 0]), c, source[r, c, i, j]] += dy[r, c, i, j]
    np.testing.assert_allclose(result.bottom_diffs["x"].reshape(2, 3, -1), expected, rtol=1e-12)
    assert "r" not in result.bottom_diffs


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_padded_regions(ratio, layer_net, rng):
    x = rng.normal(size=(2, 3, 12, 15))
    net = layer_net(layer(f"{OPTIONS} pad_ratio: {ratio}"), x=x.shape, r=REGIONS.shape)
    margin = (REGIONS[:, 3:] - REGIONS[:, 1:3] + 1) * ratio
    wide = REGIONS + np.concatenate([np.zeros((len(REGIONS), 1)), -margin, margin], 1)
    expected, _ = pooled(x, wide, 3, 2, 0.25)
    np.testing.assert_array_equal(net.run({"x": x, "r": REGIONS}).tops["y"], expected)


def test_a_last_bin_may_reach_one_position_further(layer_net):
    """57 / 7 in float32, times 7, is more than 57."""
    x = np.arange(60.0).reshape(1, 1, 60, 1)
    net = layer_net(layer("pooled_h: 7 pooled_w: 1"), x=x.shape, r=(1, 5))
    top = net.run({"x": x, "r": np.array([[0, 0, 0, 0, 56.0]])}).tops["y"]
    assert top[0, 0, 6, 0] == 57


def test_no_regions(layer_net):
    net = layer_net(layer(), x=(1, 2, 8, 8), r=(3, 5)).net
    assert net(torch.zeros(1, 2, 8, 8), torch.zeros(0, 5))["y"].shape == (0, 2, 3, 2)


def test_what_is_refused(layer_net):
    with pytest.raises(SphereFaceError, match="pooled_h and pooled_w .*at least 1"):
        layer_net(layer("pooled_h: 3"), x=(1, 2, 8, 8), r=(3, 5))
    with pytest.raises(SphereFaceError, match=r"expected \(N, C, H, W\) and \(R, 5\)"):
        layer_net(layer(), x=(1, 2, 8, 8), r=(3, 4))
