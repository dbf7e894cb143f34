from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

EXAMPLES = {
    "grid": example("DetectionLoss", "side: 2 num_class: 3 num_object: 2", x=(2, 52), p=(2, 28)),
}
OPTIONS = "side: 3 num_class: 4 num_object: 2 object_scale: 2 class_scale: 1.5"
SCALES = {"object": 2, "noobject": 0.5, "class": 1.5, "coord": 5}
N, S, C, B = 2, 3, 4, 2


def layer(options: str = "", bottoms: str = "xl") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return (
        f'layer {{ name: "l" type: "DetectionLoss" {names} top: "y" loss_weight: 3'
        f" detection_loss_param {{ {OPTIONS} {options} }} }}"
    )


def overlap(box, truth):
    w, h = (
        min(box[i] + box[i + 2] / 2, truth[i] + truth[i + 2] / 2)
        - max(box[i] - box[i + 2] / 2, truth[i] - truth[i + 2] / 2)
        for i in (0, 1)
    )
    if w < 0 or h < 0:
        return 0
    return w * h / (box[2] * box[3] + truth[2] * truth[3] - w * h)


def loss(x, label, roots, in_cells):
    """The original's loops: value and gradient."""
    cells = S * S
    dx = np.zeros_like(x)
    sums = dict.fromkeys(("class", "object", "noobject", "coord"), 0.0)
    count = 0
    for n in range(N):
        p, t, d = x[n], label[n], dx[n]
        for j in range(cells):
            for k in range(B):
                at = (C + k) * cells + j
                sums["noobject"] += SCALES["noobject"] * p[at] ** 2
                d[at] = SCALES["noobject"] * p[at]
            if not t[cells + j]:
                continue
            count += 1
            for c in range(C):
                off = p[c * cells + j] - (c == t[2 * cells + j])
                sums["class"] += SCALES["class"] * off**2
                d[c * cells + j] = SCALES["class"] * off
            truth = t[3 * cells + 4 * j : 3 * cells + 4 * j + 4].copy()
            best, most, nearest = 0, 0.0, 20.0
            for k in range(B):
                box = p[(C + B + 4 * k + np.arange(4)) * cells + j].copy()
                if in_cells:
                    box[:2] = (box[:2] + np.array([j % S, j // S])) / S
                if roots:
                    box[2:] **= 2
                iou, far = overlap(box, truth), np.sqrt(((box - truth) ** 2).sum())
                if most > 0 or iou > 0:
                    if iou > most:
                        best, most = k, iou
                elif far < nearest:
                    best, nearest = k, far
            at = (C + best) * cells + j
            sums["noobject"] -= SCALES["noobject"] * p[at] ** 2
            sums["object"] += SCALES["object"] * (p[at] - 1) ** 2
            d[at] = SCALES["object"] * (p[at] - most)
            if in_cells:
                truth[:2] = truth[:2] * S - [j % S, j // S]
            if roots:
                truth[2:] **= 0.5
            at = (C + B + 4 * best + np.arange(4)) * cells + j
            d[at] = SCALES["coord"] * (p[at] - truth)
            sums["coord"] += SCALES["coord"] * ((p[at] - truth) ** 2).sum()
    value = (sums["class"] + sums["object"] + sums["coord"]) / max(count, 1)
    return value + sums["noobject"] / (cells * B * N - count), dx / N


def labels(rng):
    given = np.zeros((N, 7, S * S))
    given[:, 1] = rng.random((N, S * S)) < 0.6
    given[:, 2] = rng.integers(0, C, (N, S * S))
    given[:, 3:] = rng.uniform(0.1, 0.9, (N, 4, S * S))
    return given.reshape(N, -1)


@pytest.mark.parametrize("roots", [True, False])
@pytest.mark.parametrize("in_cells", [True, False])
def test_cell_by_cell(roots, in_cells, layer_net, rng):
    x = rng.uniform(-0.2, 1, (N, S * S * (C + 5 * B)))
    x[0, (C + B) * S * S :] -= 3  # some boxes overlap nothing
    label = labels(rng)
    text = layer(f"sqrt: {int(roots)} constriant: {int(in_cells)}")
    result = layer_net(text, x=x.shape, l=label.shape).run({"x": x, "l": label})
    value, dx = loss(x, label, roots, in_cells)
    assert float(result.tops["y"]) == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, rtol=1e-8, atol=1e-11)


def test_a_batch_without_objects(layer_net, rng):
    x, label = rng.normal(size=(N, S * S * (C + 5 * B))), np.zeros((N, 7 * S * S))
    result = layer_net(layer(), x=x.shape, l=label.shape).run({"x": x, "l": label})
    value, dx = loss(x, label, True, False)
    assert float(result.tops["y"]) == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, rtol=1e-8, atol=1e-12)


def test_cells_without_an_object_say_nothing(layer_net, rng):
    x, label = rng.uniform(-0.2, 1, (N, S * S * (C + 5 * B))), labels(rng)
    given = label.reshape(N, 7, S * S)
    empty = given[:, 1] == 0
    assert empty.any()
    given[:, 2][empty] = -1
    given[:, 3:].reshape(N, S * S, 4)[empty] = -1
    assert (label < 0).any()
    result = layer_net(layer("sqrt: 1"), x=x.shape, l=label.shape).run({"x": x, "l": label})
    value, dx = loss(x, label, True, False)
    assert float(result.tops["y"]) == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(result.bottom_diffs["x"], 3 * dx, rtol=1e-8, atol=1e-11)


def test_what_is_refused(layer_net, rng):
    with pytest.raises(SphereFaceError, match=r"expected \(N, 126\) and \(N, 63\)"):
        layer_net(layer(), x=(N, 125), l=(N, 63))
    with pytest.raises(SphereFaceError, match="num_object 0"):
        layer_net(layer().replace("num_object: 2", "num_object: 0"), x=(N, 126), l=(N, 63))
    label = labels(rng)
    label[0, S * S : 3 * S * S] = C  # an object of a class that there is not
    net = layer_net(layer(), x=(N, 126), l=(N, 63)).net
    with pytest.raises(SphereFaceError, match="expected 0 to 3"):
        net(torch.zeros(N, 126), torch.from_numpy(label).float())
