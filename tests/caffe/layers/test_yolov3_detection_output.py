from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.layer_examples import example
from sphereface.errors import SphereFaceError

CLASSES = 3
SIZES = [(6.0, 8.0), (12.0, 9.0), (20.0, 25.0), (9.0, 30.0)]
MASKS, SCALES = [[2, 3], [0, 1]], [16, 8]
OPTIONS = (
    "num_classes: 3 num_box: 2 mask_group_num: 2 mask: [2, 3, 0, 1] anchors_scale: [16, 8] "
    "biases: [6, 8, 12, 9, 20, 25, 9, 30]"
)
EXAMPLES = {
    "two_maps": example("Yolov3DetectionOutput", OPTIONS, x=(1, 16, 2, 2), z=(1, 16, 4, 4)),
    "older": example(
        "YoloDetectionOutput", "num_classes: 3 num_box: 2 biases: [1, 2, 2, 1.5]", x=(1, 16, 4, 4)
    ),
}


def layer(options: str = OPTIONS) -> str:
    return (
        'layer { name: "l" type: "Yolov3DetectionOutput" bottom: "a" bottom: "b" top: "y"'
        f" yolov3_detection_output_param {{ {options} }} }}"
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width < 0 or height < 0:
        return 0.0
    common = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def detections(maps, confidence, nms):
    """Of the first image, cell by cell."""
    found = []
    for values, mask, scale in zip(maps, MASKS, SCALES, strict=True):
        side = values.shape[-1]
        parts = values.reshape(2, 5 + CLASSES, side, side)
        for j, i, n in np.ndindex(side, side, 2):
            v, size = parts[n, :, j, i], SIZES[mask[n]]
            x, y = (i + sigmoid(v[0])) / side, (j + sigmoid(v[1])) / side
            w, h = np.exp(v[2:4]) * size / (side * scale)
            for label in range(CLASSES):
                score = sigmoid(v[4]) * sigmoid(v[5 + label])
                if score > confidence:
                    corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                    found.append((label + 1, score, *corners))
    return kept_of(found, nms)


def kept_of(found, nms):
    found.sort(key=lambda row: -row[1])
    kept = []
    for row in found:
        if all(overlap(row[2:], other[2:]) < nms for other in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize(("confidence", "nms"), [(0.01, 0.45), (0.3, 0.7), (0.2, 0.1)])
def test_cell_by_cell(confidence, nms, layer_net, rng):
    maps = [rng.normal(size=(2, 16, 2, 2)), rng.normal(size=(2, 16, 4, 4))]
    options = f"{OPTIONS} confidence_threshold: {confidence} nms_threshold: {nms}"
    net = layer_net(layer(options), phase="TEST", a=maps[0].shape, b=maps[1].shape).net.double()
    (top,) = net(*map(torch.from_numpy, maps)).values()
    expected = [
        (image, *row)
        for image in range(2)
        for row in detections([values[image] for values in maps], confidence, nms)
    ]
    assert top.shape == (1, 1, len(expected), 7)
    np.testing.assert_allclose(top[0, 0].numpy(), expected, rtol=1e-10)


def test_the_second_version_has_one_class_a_box(layer_net, rng):
    maps = [rng.normal(size=(1, 16, 3, 3)), rng.normal(size=(1, 16, 4, 4))]
    sizes = np.array([[1, 2], [2, 1.5]])
    text = (
        'layer { name: "l" type: "YoloDetectionOutput" bottom: "a" bottom: "b" top: "y"'
        " yolo_detection_output_param { num_classes: 3 num_box: 2 confidence_threshold: 0.25"
        " nms_threshold: 0.5 biases: [1, 2, 2, 1.5] } }"
    )
    net = layer_net(text, phase="TEST", a=maps[0].shape, b=maps[1].shape).net.double()
    (top,) = net(*map(torch.from_numpy, maps)).values()
    found = []
    for values in maps:
        side = values.shape[-1]
        parts = values.reshape(2, 8, side, side)
        for j, i, n in np.ndindex(side, side, 2):
            v = parts[n, :, j, i]
            classes = np.exp(v[5:]) / np.exp(v[5:]).sum()
            score = sigmoid(v[4]) * classes.max()
            x, y = (i + sigmoid(v[0])) / side, (j + sigmoid(v[1])) / side
            w, h = np.exp(v[2:4]) * sizes[n] / side
            if score >= 0.25:
                corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                found.append((classes.argmax() + 1, score, *corners))
    expected = [(0, *row) for row in kept_of(found, 0.5)]
    assert 1 < len(expected) < len(found)
    np.testing.assert_allclose(top[0, 0].numpy(), expected, rtol=1e-10)
    with pytest.raises(SphereFaceError, match="2 biases, coords 4; expected width and height of 2"):
        layer_net(text.replace("[1, 2, 2, 1.5]", "[1, 2]"), a=maps[0].shape, b=maps[1].shape)


def test_no_box_is_a_row_an_image(layer_net):
    options = f"{OPTIONS} confidence_threshold: 1"
    net = layer_net(layer(options), phase="TEST", a=(2, 16, 2, 2), b=(2, 16, 4, 4)).net
    (top,) = net(torch.zeros(2, 16, 2, 2), torch.zeros(2, 16, 4, 4)).values()
    assert top.tolist() == [[[[0.0] + [-1.0] * 6, [1.0] + [-1.0] * 6]]]


def test_what_is_refused(layer_net):
    shapes = {"a": (1, 16, 2, 2), "b": (1, 16, 4, 4)}
    with pytest.raises(SphereFaceError, match="mask_group_num 3, 4 mask, 2 anchors_scale"):
        layer_net(layer(OPTIONS.replace("num: 2", "num: 3")), **shapes)
    with pytest.raises(SphereFaceError, match="6 biases for mask 3"):
        layer_net(layer(OPTIONS.replace(", 9, 30]", "]")), **shapes)
    with pytest.raises(SphereFaceError, match=r"expected \(N, 16, S, S\)"):
        layer_net(layer(), **{**shapes, "a": (1, 16, 2, 3)})
