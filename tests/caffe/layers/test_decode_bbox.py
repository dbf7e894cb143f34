from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

UNITS = (
    "bbox_reg_param { bbox_mean: 0 bbox_mean: 0.1 bbox_mean: 0 bbox_mean: -0.1"
    " bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.3 bbox_std: 0.4 }"
)
MEANS, DEVIATIONS = (0, 0.1, 0, -0.1), (0.1, 0.2, 0.3, 0.4)
EXAMPLES = {
    "plain": example("DecodeBBox", batch=False, x=(6, 8), region=(6, 5)),
}
REGIONS = np.array([[0, 4, 8, 30, 40], [1, 0, 0, 59, 47], [0, 17, 17, 17, 17]], float)


def layer(bottoms: str = "xr", options: str = UNITS) -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "l" type: "DecodeBBox" {names} top: "y" {options} }}'


def moved(offset, region, means=MEANS, deviations=DEVIATIONS):
    """The definition, box by box."""
    rows = []
    for o, (image, x1, y1, x2, y2) in zip(offset, region, strict=True):
        dx, dy, dw, dh = o[4:] * np.float32(deviations) + np.float32(means)
        width, height = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = (x1 + x2) / 2 + dx * width, (y1 + y2) / 2 + dy * height
        w, h = width * np.exp(dw), height * np.exp(dh)
        rows.append([image, cx - (w - 1) / 2, cy - (h - 1) / 2, cx + (w - 1) / 2, cy + (h - 1) / 2])
    return np.array(rows)


@pytest.mark.parametrize("options", ["", UNITS])
def test_box_by_box(options, layer_net, rng):
    x = rng.normal(size=(3, 8, 1, 1))
    units = (MEANS, DEVIATIONS) if options else ((0,) * 4, (1,) * 4)
    net = layer_net(layer(options=options), phase="TEST", x=x.shape, r=REGIONS.shape)
    y = net.run({"x": x, "r": REGIONS}).tops["y"]
    assert y.shape == (3, 5, 1, 1)
    np.testing.assert_allclose(y[..., 0, 0], moved(x.reshape(3, 8), REGIONS, *units), rtol=1e-6)


def test_training_leaves_out_what_is_found_already(layer_net, rng):
    x = rng.normal(size=(3, 8))
    x[2, 6:] = -9  # smaller than a pixel: the corners are exchanged
    truth = np.zeros((3, 7))
    truth[:, -1] = 0.5, 0.95, 0.2
    shapes = {"x": x.shape, "r": REGIONS.shape}
    net = layer_net(layer(), **shapes).net
    y = net(torch.from_numpy(x), torch.from_numpy(REGIONS))["y"]
    expected = moved(x, REGIONS)
    np.testing.assert_allclose(y[..., 0, 0], expected[:2], rtol=1e-6)
    text = layer("xrg", f"{UNITS} decode_bbox_param {{ gt_iou_thr: 0.9 }}")
    net = layer_net(text, **shapes, g=truth.shape).net
    y = net(*map(torch.from_numpy, (x, REGIONS, truth)))["y"]
    np.testing.assert_allclose(y[..., 0, 0], expected[:1], rtol=1e-6)
    # Overlaps alone.
    net = layer_net(text, **shapes, g=(3,)).net
    y = net(*map(torch.from_numpy, (x, REGIONS, truth[:, -1].copy())))["y"]
    np.testing.assert_allclose(y[..., 0, 0], expected[:1], rtol=1e-6)


@pytest.mark.parametrize(
    ("bottoms", "options", "shapes", "message"),
    [
        ("xr", "", {"x": (3, 4), "r": (3, 5)}, r"expected offsets \(R, 8\)"),
        ("xr", "", {"x": (3, 8), "r": (2, 5)}, r"expected offsets \(R, 8\)"),
        ("xrg", "", {"x": (3, 8), "r": (3, 5), "g": (3, 6)}, "3 bottoms with TEST"),
        ("xr", "bbox_reg_param { bbox_mean: 0 bbox_std: 1 }", {"x": (3, 8), "r": (3, 5)}, "four"),
    ],
)
def test_what_is_refused(bottoms, options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(bottoms, options), phase="TEST", **shapes)
