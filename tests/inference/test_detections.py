from __future__ import annotations

import numpy as np
import pytest
import torch

from reference.detection_nets import NETS, fill_again
from sphereface.caffe import load
from sphereface.errors import SphereFaceError
from sphereface.images import Preprocessing, resize_image
from sphereface.inference import BoxFinder, Predictor, detection_blob, read_labels

MEAN = np.float32([104, 117, 123])


@pytest.fixture
def net():
    net = load(NETS["res10_face"]())
    fill_again(net)
    return net


def picture(rng, height=60, width=60):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_boxes_are_those_of_the_net_in_pixels(net, rng):
    images = [picture(rng), picture(rng)]
    data = np.stack([image.transpose(2, 0, 1).astype(np.float32) for image in images])
    with torch.no_grad():
        rows = net(torch.from_numpy((data - MEAN[:, None, None]) / 64))["detection_out"][0, 0]
    finder = BoxFinder(Predictor(net), Preprocessing(mean=MEAN, scale=1 / 64))
    for number, boxes in enumerate(finder(images)):
        expected = rows[rows[:, 0] == number]
        assert len(boxes) == len(expected) > 3
        scores = [box.score for box in boxes]
        assert scores == sorted(scores, reverse=True)
        assert {box.label for box in boxes} == {1}
        found = np.array([[box.score, *box.corners] for box in boxes])
        expected = expected[expected[:, 2].argsort(descending=True, stable=True)].numpy()
        np.testing.assert_allclose(found[:, 0], expected[:, 2], rtol=1e-4)
        np.testing.assert_allclose(found[:, 1:], expected[:, 3:] * 60, rtol=1e-3, atol=1e-3)


def test_a_picture_of_another_size_is_resized_and_its_boxes_are_its_own(net, rng):
    form = Preprocessing(size=(60, 60), scale=1 / 64)
    finder = BoxFinder(Predictor(net), form)
    image = picture(rng)
    large = image.repeat(2, 0).repeat(3, 1)

    (expected,) = finder([resize_image(large, 60, 60)])
    (found,) = finder([large])
    assert len(found) == len(expected) > 3
    for box, small in zip(found, expected, strict=True):
        np.testing.assert_allclose(box.corners, small.corners * [3, 2, 3, 2], rtol=1e-6)


def test_pictures_of_mixed_sizes_and_few_scores(net, rng):
    finder = BoxFinder(Predictor(net), Preprocessing(scale=1 / 64), least=0.6)
    images = [picture(rng), picture(rng, 72, 64), picture(rng)]
    found = finder(images)
    assert [len(boxes) for boxes in found] == [len(finder([image])[0]) for image in images]
    assert all(box.score >= 0.6 for boxes in found for box in boxes)
    assert finder([]) == []


def test_boxes_of_pixels_are_scaled_back(rng):
    """Faster R-CNN's end: priors and boxes in pixels of the net's input."""
    text = """
        input: "data" input_shape { dim: [1, 3, 8, 10] }
        layer { name: "loc" type: "DummyData" top: "loc" top: "conf" top: "prior" dummy_data_param {
          shape { dim: [1, 4] } shape { dim: [1, 2] } shape { dim: [1, 1, 4] }
          data_filler { value: 0 } data_filler { value: 0.75 } data_filler { value: 4 } } }
        layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior"
          bottom: "data" top: "out" detection_output_param { num_classes: 2 code_type: CENTER_SIZE
          variance_encoded_in_target: true normalized_bbox: false clip: true } }"""
    net = load(text)
    assert detection_blob(net) == "out"
    finder = BoxFinder(Predictor(net), Preprocessing(size=(8, 10)))
    ((box,),) = finder([picture(rng, 16, 40)])
    # One pixel at (4, 4): corners 4, 4, 5, 5 of a prior that counts its last pixel.
    assert (box.label, box.score) == (1, 0.75)
    np.testing.assert_allclose(box.corners, [16, 8, 20, 10])


def test_what_is_refused(net):
    other = load('input: "data" input_shape { dim: [1, 3, 4, 4] }')
    with pytest.raises(SphereFaceError, match="expected an output of a DetectionOutput layer"):
        BoxFinder(Predictor(other), Preprocessing())
    for option in ("mirror", "transpose"):
        with pytest.raises(SphereFaceError, match="mirrored or transposed"):
            BoxFinder(Predictor(net), Preprocessing(**{option: True}))


def test_labels(tmp_path):
    (tmp_path / "labelmap.prototxt").write_text(
        'item { name: "none_of_the_above" label: 0 display_name: "background" }\n'
        'item { name: "face" label: 1 }\n'
    )
    assert read_labels(tmp_path / "labelmap.prototxt") == {0: "background", 1: "face"}
    (tmp_path / "names.txt").write_text("background\n\ncat \n")
    assert read_labels(tmp_path / "names.txt") == {0: "background", 2: "cat"}
    (tmp_path / "net.prototxt").write_text('name: "a net"')
    with pytest.raises(SphereFaceError):
        read_labels(tmp_path / "net.prototxt")
