from __future__ import annotations

import numpy as np
import pytest

from reference.convolution import softmax
from sphereface import pycaffe as caffe

NET = """
input: "data" input_dim: 4 input_dim: 3 input_dim: 4 input_dim: 4
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def files(write_net, tmp_path):
    model = write_net(NET)
    caffe.Net(model, caffe.TEST).save(str(tmp_path / "w.caffemodel"))
    return model, str(tmp_path / "w.caffemodel")


@pytest.fixture
def classifier(files):
    return caffe.Classifier(
        *files,
        image_dims=(6, 8),
        mean=np.array([100.0, 110, 120]),
        raw_scale=255,
        input_scale=0.1,
        channel_swap=(2, 1, 0),
    )


def scores(net, crop):
    bgr = crop[:, :, ::-1].transpose(2, 0, 1).astype(float) * 255
    data = (bgr - np.array([100, 110, 120])[:, None, None]) * 0.1
    weight, bias = (blob.data.astype(float) for blob in net.params["ip"])
    return softmax((weight @ data.ravel() + bias)[np.newaxis])[0]


def test_ten_crops_are_averaged(classifier, rng, norm_error):
    images = list(rng.random((3, 6, 8, 3)).astype(np.float32))
    predictions = classifier.predict(images)
    assert predictions.shape == (3, 5)
    for image, prediction in zip(images, predictions, strict=True):
        crops = [image[y : y + 4, x : x + 4] for y, x in [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]]
        crops += [crop[:, ::-1] for crop in crops]
        expected = np.mean([scores(classifier, crop) for crop in crops], axis=0)
        assert norm_error(prediction, expected) < 1e-5


def test_the_centre_alone(classifier, rng, norm_error):
    image = rng.random((6, 8, 3)).astype(np.float32)
    prediction = classifier.predict([image], oversample=False)
    assert norm_error(prediction[0], scores(classifier, image[1:5, 2:6])) < 1e-5


def test_images_are_scaled_first(files, rng, norm_error):
    net = caffe.Classifier(*files)
    assert list(net.image_dims) == [4, 4]
    image = rng.random((9, 7, 3)).astype(np.float32)
    small = caffe.io.resize_image(image, (4, 4)).transpose(2, 0, 1).astype(float)
    weight, bias = (blob.data.astype(float) for blob in net.params["ip"])
    expected = softmax((weight @ small.ravel() + bias)[np.newaxis])
    assert norm_error(net.predict([image], oversample=False), expected) < 1e-5
