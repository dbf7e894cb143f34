from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.detection import suppress
from reference.layer_examples import example
from sphereface.caffe.layers.proposal import make_anchors
from sphereface.errors import SphereFaceError

OPTIONS = "feat_stride: 8 base_size: 8 ratio: 1 scale: 1 scale: 2 min_size: 0 nms_thresh: 0.5"
EXAMPLES = {
    "one": example(
        "Proposal", f"{OPTIONS} pre_nms_topn: 50 post_nms_topn: 9", batch=False,
        p=(1, 4, 6, 6), x=(1, 8, 6, 6), info=(1, 3),
    ),
}  # fmt: skip


def layer(options: str, tops: int = 1) -> str:
    names = " ".join(f'top: "{name}"' for name in ("y", "score")[:tops])
    return (
        f'layer {{ name: "l" type: "Proposal" bottom: "p" bottom: "x" bottom: "info" {names}'
        f" proposal_param {{ {options} }} }}"
    )


def test_the_nine_anchors_of_the_original():
    """The table in py-faster-rcnn's generate_anchors.py, which counts from 1."""
    expected = [
        [-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200],
        [-55, -55, 72, 72], [-119, -119, 136, 136], [-247, -247, 264, 264],
        [-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360],
    ]  # fmt: skip
    found = make_anchors(16, (0.5, 1, 2), (8, 16, 32))
    np.testing.assert_array_equal(np.add(found, 1), expected)


def regions(score, offset, info, anchors, stride, min_size, pre, post, threshold):
    """Box by box in float64."""
    found = []
    for y, x, a in np.ndindex(*score.shape[2:], len(anchors)):
        x1, y1, x2, y2 = np.add(anchors[a], [x * stride, y * stride] * 2)
        dx, dy, dw, dh = offset[0, 4 * a : 4 * a + 4, y, x]
        width, height = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
        width, height = width * np.exp(dw), height * np.exp(dh)
        box = np.array([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])
        box = np.clip(box, 0, [info[1] - 1, info[0] - 1] * 2)
        if min(box[2] - box[0] + 1, box[3] - box[1] + 1) >= min_size * info[2]:
            found.append((score[0, len(anchors) + a, y, x], *box))
    found = sorted(found, key=lambda row: -row[0])[:pre]
    kept = suppress([row[1:] for row in found], threshold, rim=1.0)[:post]
    return np.array([[0, *found[k][1:]] for k in kept]), np.array([[found[k][0]] for k in kept])


@pytest.mark.parametrize(
    ("options", "pre", "post", "min_size"),
    [
        ("pre_nms_topn: 40 post_nms_topn: 12 min_size: 0", 40, 12, 0),
        ("post_nms_topn: 300 min_size: 7", 6000, 300, 7),
    ],
)
def test_box_by_box(options, pre, post, min_size, layer_net, rng):
    info = np.array([[44.0, 60, 1.5]])
    p, x = rng.random((1, 8, 5, 7)), rng.normal(size=(1, 16, 5, 7)) * 0.3
    shared = "feat_stride: 8 base_size: 8 ratio: 0.5 ratio: 2 scale: 1 scale: 2 nms_thresh: 0.4"
    net = layer_net(layer(f"{shared} {options}", 2), p=p.shape, x=x.shape, info=(1, 3)).net
    found = net(*map(torch.from_numpy, (p, x, info)))
    anchors = make_anchors(8, (0.5, 2), (1, 2))
    box, score = regions(p, x, info[0], anchors, 8, min_size, pre, post, 0.4)
    assert 3 < len(box) <= post
    np.testing.assert_allclose(found["y"], box, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found["score"], score, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "p", "message"),
    [
        ("", (1, 16, 4, 4), r"expected \(1, 18, H, W\), \(1, 36, H, W\) and \(1, 3\)"),
        ("", (2, 18, 4, 4), "for one image and 9 anchors"),
        ("feat_stride: 0", (1, 18, 4, 4), "feat_stride 0.*positive numbers"),
    ],
)
def test_what_is_refused(options, p, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), p=p, x=(p[0], 2 * p[1], 4, 4), info=(1, 3))
