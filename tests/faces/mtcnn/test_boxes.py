import numpy as np
import pytest

from reference import mtcnn as reference
from sphereface.faces.mtcnn.boxes import cell_boxes, regress, squares, suppress


@pytest.mark.parametrize("measure", ["union", "min"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
def test_suppress_equals_a_loop(rng, measure, threshold):
    corner = rng.integers(1, 40, (120, 2))
    boxes = np.hstack([corner, corner + rng.integers(3, 30, (120, 2))]).astype(float)
    scores = rng.integers(0, 20, 120) / 20  # many ties
    entries = [{"box": boxes[i], "score": scores[i], "index": i} for i in range(120)]
    expected = [entry["index"] for entry in reference.suppress(entries, threshold, measure)]
    kept = suppress(boxes, scores, threshold, measure)
    assert kept.tolist() == expected
    assert 1 < len(kept) < 120


def test_suppress_keeps_what_overlaps_by_exactly_the_threshold():
    boxes = np.array([[1, 1, 10, 10], [1, 6, 10, 15]], float)  # 50 of 150 shared, 50 of 100
    scores = np.array([0.9, 0.8])
    assert suppress(boxes, scores, 50 / 150).tolist() == [0, 1]
    assert suppress(boxes, scores, 0.33).tolist() == [0]
    assert suppress(boxes, scores, 0.5, "min").tolist() == [0, 1]
    assert suppress(boxes, scores, 0.49, "min").tolist() == [0]


def test_suppress_takes_the_last_of_equals():
    boxes = np.array([[1, 1, 10, 10]] * 3, float)
    assert suppress(boxes, np.array([0.7, 0.7, 0.7]), 0.5).tolist() == [2]
    assert suppress(np.empty((0, 4)), np.empty(0), 0.5).tolist() == []


def test_cell_boxes():
    boxes = cell_boxes(np.array([0, 7]), np.array([3, 0]), 0.3)
    assert boxes.tolist() == [[3, 23, 40, 60], [50, 3, 86, 40]]


def test_regress():
    boxes, offsets = np.array([[10.0, 20, 29, 59]]), np.array([[0.1, -0.1, 0.2, 0.05]])
    np.testing.assert_allclose(regress(boxes, offsets, inclusive=True), [[12, 16, 33, 61]])
    np.testing.assert_allclose(
        regress(boxes, offsets, inclusive=False), [[11.9, 16.1, 32.8, 60.95]]
    )


def test_squares_are_cut_toward_zero(rng):
    corner = rng.normal(scale=20, size=(200, 2))
    boxes = np.hstack([corner, corner + rng.uniform(1, 40, (200, 2))])
    expected = [reference.square(box) for box in boxes]
    assert squares(boxes).tolist() == expected
    assert (np.array(expected) < 0).any()
