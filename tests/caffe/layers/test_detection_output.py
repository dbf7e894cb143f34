from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference.detection import detections
from reference.layer_examples import Example, example
from sphereface.errors import SphereFaceError

# 32 priors of a 4 x 4 map.
MADE = (
    'layer { name: "map" type: "Reshape" bottom: "p" top: "map" reshape_param { shape { dim: 0'
    ' dim: 6 dim: 4 dim: 4 } } } layer { name: "priors" type: "PriorBox" bottom: "map"'
    ' bottom: "map" top: "made" prior_box_param { min_size: 1 max_size: 2 } }'
)


def shown(options: str, *, locations: int = 1, opencv: bool = True) -> Example:
    shapes = {"x": (2, 128 * locations), "p": (2, 96)}
    return example("DetectionOutput", options, before=MADE, opencv=opencv, **shapes)


def two_steps(options: str) -> Example:
    """RefineDet's, whose first step has scores cut off from the second's, and its offsets."""
    cut = (
        'layer { name: "cut" type: "Slice" bottom: "p" top: "first" top: "rest"'
        " slice_param { slice_point: 64 } } "
    )
    given = shown(options, opencv=False)  # OpenCV does not know it
    more = 'bottom: "made" bottom: "first" bottom: "x" top: "y"'
    return replace(given, layers=cut + given.layers.replace('bottom: "made" top: "y"', more))


EXAMPLES = {
    "center_size": shown(
        "num_classes: 3 code_type: CENTER_SIZE keep_top_k: 12 confidence_threshold: 0.1"
        " nms_param { nms_threshold: 0.4 top_k: 20 }"
    ),
    "corner": shown("num_classes: 3 confidence_threshold: 0.3 clip: true"),
    "corner_size": shown(
        "num_classes: 3 code_type: CORNER_SIZE share_location: false background_label_id: 1",
        locations=3,
        opencv=False,  # wants a threshold
    ),
    "two_steps": two_steps(
        "num_classes: 3 code_type: CENTER_SIZE keep_top_k: 12 confidence_threshold: 0.1"
        " objectness_score: 0.4 nms_param { nms_threshold: 0.4 top_k: 20 }"
    ),
    "none": shown("num_classes: 3 confidence_threshold: 1", opencv=False),  # divides by 0
}


def layer(options: str, bottoms: int = 3) -> str:
    names = ("loc", "conf", "prior", *(("image",) if bottoms < 5 else ("first", "moved")))
    names = "".join(f' bottom: "{name}"' for name in names[:bottoms])
    return (
        f'layer {{ name: "l" type: "DetectionOutput"{names} top: "y"'
        f" detection_output_param {{ {options} }} }}"
    )


def sample(rng, *, images=2, priors=40, classes=4, locations=1, scale=1.0):
    corner = rng.random((priors, 2)) * 0.8
    box = np.concatenate([corner, corner + 0.1 + rng.random((priors, 2)) / 3], 1) * scale
    variance = np.tile([0.1, 0.1, 0.2, 0.2], priors)
    return {
        "loc": rng.normal(size=(images, priors * locations * 4)),
        "conf": rng.random((images, priors * classes)),
        "prior": np.stack([box.ravel(), variance])[None],
    }


def run(layer_net, options, bottoms):
    shapes = {name: value.shape for name, value in bottoms.items()}
    net = layer_net(layer(options, len(bottoms)), phase="TEST", **shapes).net
    with torch.no_grad():
        (top,) = net(*map(torch.from_numpy, bottoms.values())).values()
    assert top.shape[:2] == (1, 1)
    return top[0, 0].numpy()


CASES = {
    "corner": ({}, ""),
    "center_size": ({"code_type": "CENTER_SIZE"}, "code_type: CENTER_SIZE"),
    "corner_size": ({"code_type": "CORNER_SIZE"}, "code_type: CORNER_SIZE"),
    "confidence": ({"confidence_threshold": 0.7}, "confidence_threshold: 0.7"),
    "top_k": ({"top_k": 7}, "nms_param { top_k: 7 }"),
    "keep_top_k": ({"keep_top_k": 9}, "keep_top_k: 9"),
    "keep_none": ({"keep_top_k": 0}, "keep_top_k: 0"),
    "nms": ({"nms_threshold": 0.6}, "nms_param { nms_threshold: 0.6 }"),
    "outside_nms_param": ({"nms_threshold": 0.6, "top_k": 9}, "nms_threshold: 0.6 top_k: 9"),
    "eta": ({"nms_threshold": 0.9, "eta": 0.8}, "nms_param { nms_threshold: 0.9 eta: 0.8 }"),
    "background_2": ({"background": 2}, "background_label_id: 2"),
    "no_background": ({"background": -1}, "background_label_id: -1"),
    "own_location": ({"share_location": False}, "share_location: false"),
    "in_target": ({"variance_in_target": True}, "variance_encoded_in_target: true"),
    "clip": ({"clip": True}, "clip: true"),
    "all": (
        {
            "code_type": "CENTER_SIZE",
            "confidence_threshold": 0.2,
            "top_k": 20,
            "keep_top_k": 15,
            "nms_threshold": 0.45,
            "share_location": False,
        },
        "code_type: CENTER_SIZE confidence_threshold: 0.2 keep_top_k: 15 share_location: false"
        " nms_param { nms_threshold: 0.45 top_k: 20 }",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_box_by_box(name, layer_net, rng):
    given, options = CASES[name]
    classes = 4
    bottoms = sample(rng, locations=1 if given.get("share_location", True) else classes)
    if "variance_in_target" in given:
        bottoms["prior"] = bottoms["prior"][:, :1]
    found = run(layer_net, f"num_classes: {classes} {options}", bottoms)
    expected = detections(*bottoms.values(), classes=classes, **given)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_two_steps(layer_net, rng):
    """RefineDet's second step starts from the boxes of the first, one image at a time."""
    bottoms = sample(rng)
    first = {"first": rng.random((2, 80)), "moved": rng.normal(size=(2, 160))}
    options = "num_classes: 4 code_type: CENTER_SIZE confidence_threshold: 0.2"
    text = f"{options} objectness_score: 0.3"
    found = run(layer_net, text, bottoms | first)
    box, variance = bottoms["prior"][0].reshape(2, 40, 4)
    expected = []
    for image in (0, 1):
        offset = first["moved"][image].reshape(40, 4) * variance
        size = box[:, 2:] - box[:, :2]
        center = (box[:, :2] + box[:, 2:]) / 2 + offset[:, :2] * size
        half = np.exp(offset[:, 2:]) * size / 2
        moved = np.concatenate([center - half, center + half], 1)
        score = bottoms["conf"][image].reshape(40, 4).copy()
        score[first["first"][image].reshape(40, 2)[:, 1] < 0.3] = [1, 0, 0, 0]
        rows = detections(
            bottoms["loc"][image : image + 1],
            score.reshape(1, -1),
            np.stack([moved.ravel(), variance.ravel()])[None],
            classes=4,
            code_type="CENTER_SIZE",
            confidence_threshold=0.2,
        )
        rows[:, 0] = image
        expected.append(rows)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [False, True])
def test_boxes_in_pixels(clip, layer_net, rng):
    bottoms = sample(rng, scale=50) | {"image": np.zeros((2, 3, 40, 30))}
    options = "num_classes: 4 code_type: CENTER_SIZE normalized_bbox: false"
    found = run(layer_net, f"{options} clip: {str(clip).lower()}", bottoms)
    limits = (39, 29) if clip else None
    expected = detections(
        *list(bottoms.values())[:3],
        classes=4,
        code_type="CENTER_SIZE",
        rim=1,
        clip=clip,
        limits=limits,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_no_box_is_a_row_of_minus_one_an_image(layer_net, rng):
    found = run(layer_net, "num_classes: 4 confidence_threshold: 1.5", sample(rng))
    np.testing.assert_array_equal(found, [[0] + [-1] * 6, [1] + [-1] * 6])


def test_equal_scores_come_in_the_order_of_their_priors(layer_net, rng):
    bottoms = sample(rng, images=1, priors=6, classes=2)
    bottoms["conf"][:] = 0.5
    found = run(layer_net, "num_classes: 2 nms_param { nms_threshold: 1 }", bottoms)
    expected = bottoms["prior"][0, 0].reshape(-1, 4) + 0.1 * np.array([1, 1, 2, 2]) * bottoms[
        "loc"
    ].reshape(-1, 4)
    np.testing.assert_allclose(found[:, 3:], expected, atol=1e-6)


SHAPES = {"loc": (2, 160), "conf": (2, 160), "prior": (1, 2, 160)}


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", {}, "num_classes is not given"),
        ("num_classes: 3", {}, "scores of shape .* expected 120 values"),
        ("num_classes: 4 share_location: false", {}, "offsets of shape .* expected 640 values"),
        ("num_classes: 4", {"conf": (3, 160)}, "scores of shape"),
        ("num_classes: 4", {"prior": (1, 1, 160)}, r"expected \(1, 2, ...\), boxes and variances"),
        ("num_classes: 4 variance_encoded_in_target: true", {}, r"expected \(1, 1, ...\)"),
        ("num_classes: 4 nms_param { eta: 0 }", {}, "eta 0; expected"),
        ("num_classes: 4 nms_param { nms_threshold: -1 }", {}, "nms_threshold -1"),
        ("num_classes: 4 clip: true normalized_bbox: false", {}, "the image as the fourth bottom"),
        ("num_classes: 1 share_location: false", {}, "background is the only class"),
    ],
)
def test_what_does_not_fit(options, shapes, message, layer_net):
    with pytest.raises(SphereFaceError, match=message):
        layer_net(layer(options), **(SHAPES | shapes))
