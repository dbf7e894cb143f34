from __future__ import annotations

import numpy as np
import pytest

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

SIDE, CLASSES, SCALE = 4, 3, 8  # 32 pixels
SIZES = [(6.0, 8.0), (12.0, 9.0), (20.0, 25.0)]
MASK = [1, 2]
OPTIONS = (
    "num: 2 num_class: 3 anchors_scale: 8 thresh: 0.4 coord_scale: 1.5 class_scale: 0.75 "
    "object_scale: 5 mask: [1, 2] biases: [6, 8, 12, 9, 20, 25]"
)
EXAMPLES = {
    "map": example("Yolov3", OPTIONS, x=(2, 16, 4, 4), p=(2, 300, 5)),
}


def layer(options: str = OPTIONS) -> str:
    return (
        'layer { name: "l" type: "Yolov3" bottom: "x" bottom: "truth" top: "y"'
        f" yolov3_param {{ {options} }} }}"
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def overlap(a, b):
    """Of two boxes by centre and size."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    if min(sides) < 0:
        return 0.0
    return sides[0] * sides[1] / (a[2] * a[3] + b[2] * b[3] - sides[0] * sides[1])


def differences(x, truth, logic):
    """The differences, cell by cell and box by box, and the gradient of a loss weight of 1."""
    images, pixels = len(x), SIDE * SCALE
    given = x.reshape(images, 2, 5 + CLASSES, SIDE, SIDE)
    value = sigmoid(given)
    value[:, :, 2:4] = given[:, :, 2:4]
    delta = np.zeros_like(value)
    for b, n, j, i in np.ndindex(images, 2, SIDE, SIDE):
        v, size = value[b, n, :, j, i], SIZES[MASK[n]]
        box = [
            (i + v[0]) / SIDE,
            (j + v[1]) / SIDE,
            np.exp(v[2]) * size[0] / pixels,
            np.exp(v[3]) * size[1] / pixels,
        ]
        best = 0.0
        for row in truth[b]:
            if row[1] == 0:
                break
            best = max(best, overlap(box, row[1:]))
        delta[b, n, 4, j, i] = 0 if best > 0.4 else v[4]
    for b in range(images):
        for label, tx, ty, w, h in truth[b]:
            if w == 0:
                break
            fits = [overlap((0, 0, w, h), (0, 0, s[0] / pixels, s[1] / pixels)) for s in SIZES]
            best = int(np.argmax(fits))
            if best not in MASK:
                continue
            n, i, j = MASK.index(best), int(tx * SIDE), int(ty * SIDE)
            v, d = value[b, n, :, j, i], delta[b, n, :, j, i]
            target = (
                tx * SIDE - i,
                ty * SIDE - j,
                np.log(w * pixels / SIZES[best][0]),
                np.log(h * pixels / SIZES[best][1]),
            )
            d[:4] = 1.5 * (2 - w * h) * (v[:4] - target)
            d[4] = (v[4] - 1) * (5 if logic else 1)
            if d[5]:
                d[5 + int(label)] = 1 - v[5 + int(label)]
            else:
                d[5:] = 0.75 * (v[5:] - (np.arange(CLASSES) == label))
    passed = delta.copy()
    if logic:
        for channel in (0, 1, *range(4, 5 + CLASSES)):
            passed[:, :, channel] *= value[:, :, channel] * (1 - value[:, :, channel])
    return (delta**2).sum() / images, passed.reshape(x.shape) / images


@pytest.fixture
def bottoms(rng):
    truth = np.zeros((2, 300, 5))
    truth[0, 0] = 1, 0.3, 0.6, 0.5, 0.7  # the third anchor
    truth[0, 1] = 2, 0.9, 0.1, 0.4, 0.3  # the second
    truth[0, 2] = 0, 0.31, 0.61, 0.6, 0.8  # the cell of the first, again
    truth[1, 0] = 0, 0.5, 0.5, 0.2, 0.25  # an anchor that another map has
    return {"x": rng.normal(size=(2, 16, SIDE, SIDE)), "truth": truth}


@pytest.mark.parametrize("logic", [False, True])
def test_loss_and_what_is_passed_back(logic, bottoms, layer_net):
    options = OPTIONS + " use_logic_gradient: true" * logic
    shapes = {name: value.shape for name, value in bottoms.items()}
    result = layer_net(layer(options), **shapes).run(bottoms)
    loss, diff = differences(**bottoms, logic=logic)
    assert result.tops["y"] == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(result.bottom_diffs["x"], diff, rtol=1e-6, atol=1e-9)


def test_images_without_true_boxes(bottoms, layer_net):
    bottoms["truth"][:] = 0
    shapes = {name: value.shape for name, value in bottoms.items()}
    result = layer_net(layer(), **shapes).run(bottoms)
    present = sigmoid(bottoms["x"].reshape(2, 2, 8, SIDE, SIDE)[:, :, 4])
    assert result.tops["y"] == pytest.approx((present**2).sum() / 2, rel=1e-6)


def test_what_is_refused(layer_net):
    wide = {"x": (2, 16, 4, 4), "truth": (2, 300, 5)}
    with pytest.raises(SphereFaceError, match=r"map of shape .*expected \(N, 16, S, S\)"):
        layer_net(layer(), **{**wide, "x": (2, 16, 4, 5)})
    with pytest.raises(SphereFaceError, match="expected 300 rows of 5 values an image"):
        layer_net(layer(), **{**wide, "truth": (1, 1, 7, 8)})
    with pytest.raises(SphereFaceError, match="expected num anchors in mask"):
        layer_net(layer("num: 3 num_class: 3 mask: [0, 1]"), **wide)
