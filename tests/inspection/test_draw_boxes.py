import numpy as np

from sphereface.inference import Box
from sphereface.inspection.draw_boxes import draw_boxes, label_text


def test_a_box_is_drawn_where_it_is():
    image = np.full((80, 100, 3), 128, np.uint8)
    boxes = [Box(1, 0.875, np.array([20.0, 40, 61, 71]))]
    drawn = draw_boxes(image, boxes, {1: "face"})
    assert (image == 128).all()  # the picture itself stays
    changed = (drawn != 128).any(2)
    for row in (40, 70):
        assert changed[row, 20:60].all()
    for column in (20, 60):
        assert changed[40:70, column].all()
    assert not changed[42:69, 22:59].any()
    assert not changed[73:].any()
    assert changed[:38].any()  # the label above it


def test_labels():
    box = Box(7, 0.5, np.zeros(4))
    assert label_text(box, {7: "cat"}) == "cat 0.5000"
    assert label_text(box, {}) == "7 0.5000"
