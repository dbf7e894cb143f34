from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.detection import suppress
from reference.layer_examples import example
from sphereface.errors import SphereFaceError

FIELDS = "field_w: 12 field_h: 20 downsample_rate: 4 field_w: 24 field_h: 16 downsample_rate: 8"
GROUPS = (
    "box_group_param { field_w: 12 field_w: 20 field_h: 20 field_h: 12 stride: 4 }"
    " box_group_param { field_w: 24 field_h: 16 stride: 8 }"
)
EXAMPLES = {
    "maps": example(
        "BoxOutput", f"{FIELDS} fg_thr: 0.1 min_size: 2 max_nms_num: 60 max_post_nms_num: 9",
        tops=2, batch=False, opencv=False, x=(1, 7, 6, 8), z=(1, 7, 3, 4),
    ),
    "pairs": example(
        "BoxGroupOutput", f"{GROUPS} fg_thr: 0.3 min_size: 2", batch=False, opencv=False,
        p=(2, 2, 6, 8), x=(2, 4, 6, 8), p2=(1, 2, 3, 4), z=(1, 4, 3, 4),
    ),
}  # fmt: skip
UNITS = (
    "bbox_reg_param { bbox_mean: 0 bbox_mean: 0.1 bbox_mean: 0 bbox_mean: -0.1"
    " bbox_std: 0.5 bbox_std: 0.5 bbox_std: 1 bbox_std: 1 }"
)
MEANS, DEVIATIONS = np.array([0, 0.1, 0, -0.1]), np.array([0.5, 0.5, 1, 1])


def layer(kind: str, options: str, bottoms: str = "abcd", tops: int = 2) -> str:
    field = {"BoxOutput": "box_output_param", "BoxGroupOutput": "box_group_output_param"}[kind]
    names = [f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in ("y", "score")[:tops]]
    return f'layer {{ name: "l" type: "{kind}" {" ".join(names)} {UNITS} {field} {{ {options} }} }}'


def centred(offset, field, place, stride, whr=2.0, xyr=2.0):
    """x, y of the near corner, width and height."""
    dx, dy, dw, dh = offset * DEVIATIONS + MEANS
    dx, dy = np.clip([dx, dy], -1 / xyr, 1 / xyr)
    dw, dh = np.clip([dw, dh], np.log(1 / whr), np.log(whr))
    w, h = field[0] * np.exp(dw), field[1] * np.exp(dh)
    x = dx * field[0] + (place[1] + 0.5) * stride - w / 2
    return x, dy * field[1] + (place[0] + 0.5) * stride - h / 2, w, h


def best(rows, rim, overlap, most, most_after):
    """Rows of score and corners: ranked, suppressed."""
    rows = sorted(rows, key=lambda row: -row[0])[: most or None]
    kept = suppress([row[1:] for row in rows], overlap, rim=rim)[: most_after or None]
    return [rows[k] for k in kept]


def expected_tops(images):
    rows = [[i, *row[1:], row[0]] for i, found in enumerate(images) for row in found]
    return np.array(rows)


@pytest.mark.parametrize(
    ("options", "threshold", "min_size", "most", "most_after"),
    [
        ("fg_thr: 0.5 min_size: 9 max_nms_num: 30", 0.5, 9, 30, 0),
        ("fg_thr: -5 iou_thr: 0.5 max_post_nms_num: 7", -5, 15, 0, 7),
    ],
)
def test_maps_of_scores_and_offsets(options, threshold, min_size, most, most_after, layer_net, rng):
    maps = {"a": rng.normal(size=(2, 7, 6, 8)), "b": rng.normal(size=(2, 7, 3, 4))}
    net = layer_net(
        layer("BoxOutput", f"{FIELDS} {options}", "ab"), **{k: v.shape for k, v in maps.items()}
    ).net
    images = []
    for n in range(2):
        rows = []
        for x, field, stride in ((maps["a"][n], (12, 20), 4), (maps["b"][n], (24, 16), 8)):
            for place in np.ndindex(*x.shape[1:]):
                value = x[:, place[0], place[1]]
                score = value[1:3].max() - value[0]
                left, top, w, h = centred(value[3:], field, place, stride)
                left, top = max(left, 0), max(top, 0)
                w, h = min(w, x.shape[2] * stride - left), min(h, x.shape[1] * stride - top)
                if score >= threshold and w >= min_size and h >= min_size:
                    rows.append([score, left, top, left + w, top + h])
        images.append(best(rows, 0.0, 0.5, most, most_after))
    found = net(*(torch.from_numpy(v) for v in maps.values()))
    expected = expected_tops(images)
    assert len(expected) > 6
    np.testing.assert_allclose(found["score"][..., 0, 0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["y"], found["score"][:, :5])


def test_pairs_of_probabilities_and_offsets(layer_net, rng):
    p, q = rng.random((4, 3, 6, 8)), rng.random((2, 3, 3, 4))
    x, z = rng.normal(size=(4, 4, 6, 8)), rng.normal(size=(2, 4, 3, 4))
    given = {"a": p, "b": x, "c": q, "d": z}
    options = f"{GROUPS} fg_thr: 0.4 iou_thr: 0.4 min_size: 8 field_whr: 4 field_xyr: 1"
    net = layer_net(
        layer("BoxGroupOutput", options), **{name: v.shape for name, v in given.items()}
    ).net
    images = []
    for n in range(2):
        rows = []
        for own, offset, group, stride in (
            (p[2 * n : 2 * n + 2], x[2 * n : 2 * n + 2], [(12, 20), (20, 12)], 4),
            (q[n : n + 1], z[n : n + 1], [(24, 16)], 8),
        ):
            for k, i, j in np.ndindex(len(group), *own.shape[2:]):
                score = 1 - own[k, 0, i, j]
                left, top, w, h = centred(offset[k, :, i, j], group[k], (i, j), stride, 4, 1)
                right = min(left + w - 1, own.shape[3] * stride)
                bottom = min(top + h - 1, own.shape[2] * stride)
                left, top = max(left, 0), max(top, 0)
                if score >= 0.4 and right - left + 1 >= 8 and bottom - top + 1 >= 8:
                    rows.append([score, left, top, right, bottom])
        images.append(best(rows, 1.0, 0.4, 0, 0))
    found = net(*map(torch.from_numpy, given.values()))
    expected = expected_tops(images)
    assert len(expected) > 6
    np.testing.assert_allclose(found["score"][..., 0, 0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["y"], found["score"][:, :5])


def test_of_equal_scores_the_last(layer_net):
    net = layer_net(
        layer("BoxOutput", "field_w: 20 field_h: 20 downsample_rate: 20", "a"), a=(1, 6, 1, 2)
    ).net
    found = net(torch.zeros(1, 6, 1, 2))["score"]
    assert found[:, 1].flatten().tolist() == [20, 0]


def test_nothing_found(layer_net):
    text = layer("BoxOutput", "field_w: 20 field_h: 20 downsample_rate: 20 fg_thr: 1", "a")
    found = layer_net(text, a=(2, 6, 2, 2)).net(torch.zeros(2, 6, 2, 2))
    assert found["y"].flatten().tolist() == [0, 1, 1, 10, 10]
    assert found["score"].flatten().tolist() == [0] * 6


@pytest.mark.parametrize(
    ("kind", "options", "shapes", "message"),
    [
        ("BoxOutput", FIELDS, {"a": (1, 7, 6, 8)}, "expected 1 each"),
        ("BoxOutput", FIELDS, {"a": (1, 7, 6, 8), "b": (1, 6, 3, 4)}, r"classes \+ 4"),
        ("BoxOutput", f'{FIELDS} nms_type: "IOMU"', {"a": (1, 7, 6, 8), "b": (1, 7, 3, 4)}, "IOMU"),
        ("BoxOutput", f"{FIELDS} field_xyr: 0", {"a": (1, 7, 6, 8), "b": (1, 7, 3, 4)}, "above 0"),
        ("BoxGroupOutput", GROUPS, {"a": (2, 2, 6, 8), "b": (2, 4, 6, 8)}, "for 2 bottoms"),
        (
            "BoxGroupOutput", GROUPS,
            {"a": (2, 2, 6, 8), "b": (2, 4, 6, 8), "c": (2, 2, 3, 4), "d": (2, 4, 3, 4)},
            "one number in all pairs",
        ),
        (
            "BoxGroupOutput", GROUPS,
            {"a": (3, 2, 6, 8), "b": (3, 4, 6, 8), "c": (1, 2, 3, 4), "d": (1, 4, 3, 4)},
            r"\(N 2, classes, H, W\)",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(kind, options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(kind, options, "".join(shapes)), **shapes)
