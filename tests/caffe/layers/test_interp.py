from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from reference.numeric_gradient import numeric_gradient
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "zoom": example("Interp", "zoom_factor: 3", images=True, x=(1, 3, 5, 4)),
    "shrink": example("Interp", "shrink_factor: 2", images=True, x=(1, 3, 9, 8)),
    "like": example("Interp", x=(1, 3, 5, 4), like=(1, 2, 7, 9)),
    "sizes": example("Interp", "height: 7 width: 9", images=True, x=(1, 3, 5, 4)),
    "crop": example(
        "Interp", "zoom_factor: 2 pad_beg: -1 pad_end: -2", images=True, x=(1, 3, 9, 8)
    ),
}


def layer(options: str) -> str:
    return f'layer {{ name: "l" type: "Interp" bottom: "x" top: "y" interp_param {{ {options} }} }}'


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Linear along each axis, corners on corners."""

    def along(x: np.ndarray, size: int) -> np.ndarray:
        places = np.linspace(0, x.shape[-1] - 1, size) if size > 1 else np.zeros(1)
        left = np.minimum(places.astype(int), x.shape[-1] - 1)
        right = np.minimum(left + 1, x.shape[-1] - 1)
        share = places - left
        return x[..., left] * (1 - share) + x[..., right] * share

    return along(along(x, width).swapaxes(2, 3), height).swapaxes(2, 3)


@pytest.mark.parametrize(
    ("options", "crop", "sizes"),
    [
        ("zoom_factor: 3", (0, 0), (13, 10)),
        ("shrink_factor: 2", (0, 0), (3, 2)),
        ("shrink_factor: 2 zoom_factor: 3", (0, 0), (7, 4)),
        ("height: 7 width: 3", (0, 0), (7, 3)),
        ("height: 1 width: 1", (0, 0), (1, 1)),
        # One factor goes before sizes, and sizes before both factors.
        ("height: 7 width: 3 zoom_factor: 2", (0, 0), (9, 7)),
        ("height: 7 width: 3 zoom_factor: 2 shrink_factor: 2", (0, 0), (7, 3)),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -1", (1, 1), (5, 3)),
    ],
)
def test_bilinear(options, crop, sizes, layer_net, rng):
    x = rng.normal(size=(2, 2, 5, 4))
    dy = rng.normal(size=(2, 2, *sizes))

    def top(x: np.ndarray) -> np.ndarray:
        return resized(x[:, :, crop[0] : 5 - crop[1], crop[0] : 4 - crop[1]], *sizes)

    result = layer_net(layer(options), x=x.shape).run({"x": x}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], top(x), rtol=1e-10, atol=1e-12)
    expected = numeric_gradient(lambda x: (dy * top(x)).sum(), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "no size; expected height and width, or a factor"),
        ("zoom_factor: 0", "zoom_factor 0; expected at least 1"),
        ("zoom_factor: 2 pad_beg: 1", "pad_beg 1.*at most 0"),
        ("height: 0 width: 4", "at least 1"),
        ("zoom_factor: 2 pad_beg: -4", "height and width above 4"),
    ],
)
def test_what_is_refused(options, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), x=(1, 1, 5, 4))


def test_size_of_a_second_bottom(layer_net, rng):
    x, like = rng.normal(size=(2, 2, 5, 4)), rng.normal(size=(1, 3, 9, 6))
    dy = rng.normal(size=(2, 2, 9, 6))
    text = 'layer { name: "l" type: "Interp" bottom: "x" bottom: "like" top: "y" }'
    result = layer_net(text, x=x.shape, like=like.shape).run({"x": x, "like": like}, {"y": dy})
    np.testing.assert_allclose(result.tops["y"], resized(x, 9, 6), rtol=1e-10, atol=1e-12)
    expected = numeric_gradient(lambda x: (dy * resized(x, 9, 6)).sum(), {"x": x})["x"]
    np.testing.assert_allclose(result.bottom_diffs["x"], expected, rtol=1e-6, atol=1e-8)
    assert "like" not in result.bottom_diffs
    with pytest.raises(SphereFaceError, match="second bottom of shape"):
        layer_net(text, x=x.shape, like=(1, 9))
