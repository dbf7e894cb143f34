"""Boxes against float64 numpy that goes box by box."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from reference.detection import overlap, suppress
from sphereface.caffe.boxes import (
    box_overlap,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    unsuppressed,
)


def some_boxes(rng, count, scale=1.0):
    corner = rng.random((count, 2))
    return np.concatenate([corner, corner + 0.1 + rng.random((count, 2)) / 2], 1) * scale


@pytest.mark.parametrize("rim", [0.0, 1.0])
def test_overlap(rim, rng):
    boxes = some_boxes(rng, 12, 10)
    expected = [[overlap(a, b, rim) for b in boxes] for a in boxes]
    tensor = torch.from_numpy(boxes)
    np.testing.assert_allclose(box_overlap(tensor[:, None], tensor, rim), expected, rtol=1e-12)


def test_boxes_whose_corners_are_exchanged_overlap_nothing():
    box = torch.tensor([0.5, 0.5, 0.2, 0.9])
    assert box_overlap(box, box) == 0


@pytest.mark.parametrize(
    ("rim", "threshold", "eta"),
    [(0.0, 0.3, 1.0), (1.0, 0.4, 1.0), (0.0, 0.9, 0.8), (0.0, 0.6, 0.95), (0.0, 0.0, 1.0)],
)
def test_suppression(rim, threshold, eta, rng):
    boxes = np.stack([some_boxes(rng, 60, 10 if rim else 1) for _ in range(4)])
    valid = rng.random((4, 60)) < 0.9
    valid[3] = False
    found = unsuppressed(
        torch.from_numpy(boxes), torch.from_numpy(valid), threshold, eta=eta, rim=rim
    ).numpy()
    for group in range(4):
        places = valid[group].nonzero()[0]
        expected = places[suppress(boxes[group][places], threshold, eta, rim)]
        np.testing.assert_array_equal(found[group].nonzero()[0], expected)
    assert 0 < found.sum() < valid.sum()


def test_only_so_many_are_kept(rng):
    boxes, valid = torch.from_numpy(some_boxes(rng, 60))[None], torch.ones(1, 60, dtype=torch.bool)
    every = unsuppressed(boxes, valid, 0.5)[0].nonzero()[:, 0]
    some = unsuppressed(boxes, valid, 0.5, most=5)[0].nonzero()[:, 0]
    assert torch.equal(some, every[:5])


CODES = ["CORNER", "CENTER_SIZE", "CORNER_SIZE"]
CASES = list(itertools.product(CODES, [True, False]))


@pytest.mark.parametrize(("code", "with_variance"), CASES)
def test_decoding_box_by_box(code, with_variance, rng):
    prior, offset = some_boxes(rng, 9), rng.normal(size=(9, 4))
    variance = rng.random((9, 4)) if with_variance else None
    found = decode_boxes(
        torch.from_numpy(offset),
        torch.from_numpy(prior),
        None if variance is None else torch.from_numpy(variance),
        code,
    )
    for row in range(9):
        x1, y1, x2, y2 = prior[row]
        a, b, c, d = offset[row] * (1 if variance is None else variance[row])
        width, height = x2 - x1, y2 - y1
        if code == "CORNER":
            expected = [x1 + a, y1 + b, x2 + c, y2 + d]
        elif code == "CORNER_SIZE":
            expected = [x1 + a * width, y1 + b * height, x2 + c * width, y2 + d * height]
        else:
            x, y = x1 + width / 2 + a * width, y1 + height / 2 + b * height
            w, h = width * np.exp(c), height * np.exp(d)
            expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


@pytest.mark.parametrize(("code", "with_variance"), CASES)
def test_encoding_is_the_inverse(code, with_variance, rng):
    prior, box = (torch.from_numpy(some_boxes(rng, 9)) for _ in range(2))
    variance = torch.from_numpy(rng.random((9, 4)) + 0.1) if with_variance else None
    offset = encode_boxes(box, prior, variance, code)
    torch.testing.assert_close(decode_boxes(offset, prior, variance, code), box)


def test_pixels_count_their_last_row():
    prior, offset = torch.tensor([[10.0, 20, 19, 39]]), torch.tensor([[0.5, 0.25, 0, 0]])
    found = decode_boxes(offset, prior, None, "CENTER_SIZE", 1.0)
    # 10 wide and 20 high around 15, 30: 5 to the right and 5 down.
    torch.testing.assert_close(found, torch.tensor([[15.0, 25, 25, 45]]))


def test_clip():
    box = torch.tensor([[-1.0, -2, 50, 70], [3, 4, 5, 6]])
    torch.testing.assert_close(
        clip_boxes(box, 60, 40), torch.tensor([[0.0, 0, 40, 60], [3, 4, 5, 6]])
    )
