from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

OPTIONS = "spatial_scale: 0.25 output_dim: 2 group_size: 3"
REGIONS = np.array(
    [
        [0, 4, 8, 30, 40],
        [1, 0, 0, 47, 43],
        [0, 30, 20, 90, 80],
        [1, 17.5, 17, 17.5, 17],
        [1, 70, 9, 90, 20],
    ],
    float,
)
EXAMPLES = {
    "grid": example("PSROIPooling", OPTIONS, x=(1, 18, 13, 11), region=(6, 5)),
}


def layer(options: str = OPTIONS) -> str:
    return (
        'layer { name: "l" type: "PSROIPooling" bottom: "x" bottom: "r" top: "y"'
        f" psroi_pooling_param {{ {options} }} }}"
    )


def bins(regions, shape, group, scale):
    """Yield image, bin and its positions, bin by bin."""
    for r, (image, *corners) in enumerate(regions):
        x1, y1, x2, y2 = np.floor(np.asarray(corners) + 0.5)
        for i, j in np.ndindex(group, group):
            bounds = []
            for near, far, place, most in ((y1, y2, i, shape[2]), (x1, x2, j, shape[3])):
                start, end = near * scale, (far + 1) * scale
                step = max(end - start, 0.1) / group
                first, last = np.floor(place * step + start), np.ceil((place + 1) * step + start)
                bounds.append(slice(int(np.clip(first, 0, most)), int(np.clip(last, 0, most))))
            yield r, int(image), i, j, bounds


def test_bin_by_bin(layer_net, rng):
    x = rng.normal(size=(2, 18, 11, 12))
    dy = rng.normal(size=(len(REGIONS), 2, 3, 3))
    top, expected = np.zeros_like(dy), np.zeros_like(x)
    for r, image, i, j, (rows, columns) in bins(REGIONS, x.shape, 3, 0.25):
        for c in range(2):
            part = x[image, (c * 3 + i) * 3 + j, rows, columns]
            if part.size:
                top[r, c, i, j] = part.mean()
                expected[image, (c * 3 + i) * 3 + j, rows, columns] += dy[r, c, i, j] / part.size
    result = layer_net(layer(), x=x.shape, r=REGIONS.shape).run({"x": x, "r": REGIONS}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], top, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-10, atol=1e-12)
    assert not top[4].any()  # beyond the image
    assert "r" not in result.bottom_diffs


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("output_dim: 2 group_size: 3", (1, 18, 5, 5), "spatial_scale 0; expected all of them"),
        (OPTIONS, (1, 17, 5, 5), r"expected \(N, 18, H, W\) and \(R, 5\)"),
    ],
)
def test_what_is_refused(options, shape, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=shape, r=(2, 5))
