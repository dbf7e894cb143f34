"""The scripts that people have: written as they were for pycaffe, their numbers checked apart."""

# ruff: noqa: C408 - old style on purpose

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

from reference.convolution import convolve, convolve_gradients, max_pool, relu, softmax
from sphereface import pycaffe as caffe
from sphereface.pycaffe import layers as L
from sphereface.pycaffe import params as P

GOLDEN = Path(__file__).parents[1] / "golden"
MTCNN = GOLDEN / "mtcnn"
RECORDED = np.load(MTCNN / "nets.npz")

LENET = """
name: "LeNet"
input: "data" input_dim: 2 input_dim: 1 input_dim: 12 input_dim: 12
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "%s" type: "%s" bottom: "pool1" top: "%s" %s }
layer { name: "relu1" type: "ReLU" bottom: "%s" top: "%s" }
layer { name: "prob" type: "Softmax" bottom: "%s" top: "prob" }
"""
FC = "inner_product_param { num_output: 6 weight_filler { type: 'xavier' } }"
CONV = "convolution_param { num_output: 6 kernel_size: 4 }"


def lenet(name, kind, options):
    return LENET % (name, kind, name, options, name, name, name)


def test_classification(write_net, tmp_path, rng, norm_error):
    """The notebook: load, transform, forward, look at the best classes and the inside."""
    model_def, model_weights = write_net(lenet("fc", "InnerProduct", FC)), str(tmp_path / "w")
    caffe.Net(model_def, caffe.TEST).save(model_weights)
    cv2.imwrite(str(tmp_path / "cat.png"), rng.integers(0, 256, (12, 12)).astype(np.uint8))

    caffe.set_mode_cpu()
    net = caffe.Net(model_def, model_weights, caffe.TEST)
    mu = np.array([100.0])
    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", mu)
    transformer.set_raw_scale("data", 255)
    net.blobs["data"].reshape(5, 1, 12, 12)
    image = caffe.io.load_image(str(tmp_path / "cat.png"), color=False)
    net.blobs["data"].data[...] = transformer.preprocess("data", image)
    output = net.forward()
    output_prob = output["prob"][0]
    top_inds = output_prob.argsort()[::-1][:5]
    feat = net.blobs["conv1"].data[0, :36]

    pixels = cv2.imread(str(tmp_path / "cat.png"), cv2.IMREAD_GRAYSCALE)
    x = np.broadcast_to(pixels - 100.0, (5, 1, 12, 12))
    p = {k: [b.data.astype(float) for b in v] for k, v in net.params.items()}
    conv1 = convolve(x, *p["conv1"])
    fc = relu(max_pool(conv1, 2, 2).reshape(5, -1) @ p["fc"][0].T + p["fc"][1])
    assert norm_error(feat, conv1[0]) < 1e-5
    assert norm_error(output["prob"], softmax(fc)) < 1e-5
    assert top_inds[0] == softmax(fc)[0].argmax()
    assert [(k, v.data.shape) for k, v in net.blobs.items()][:3] == [
        ("data", (5, 1, 12, 12)), ("conv1", (5, 4, 8, 8)), ("pool1", (5, 4, 4, 4)),
    ]  # fmt: skip


def test_net_surgery_to_a_fully_convolutional_net(write_net, tmp_path, rng, norm_error):
    """The notebook: inner product weights transplanted into a convolution, a larger image."""
    weights = str(tmp_path / "w.caffemodel")
    net = caffe.Net(write_net(lenet("fc", "InnerProduct", FC)), caffe.TEST)
    net.save(weights)
    net_full_conv = caffe.Net(
        write_net(lenet("fc-conv", "Convolution", CONV), "full.prototxt"), weights, caffe.TEST
    )
    params, params_full_conv = ["fc"], ["fc-conv"]
    fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}
    conv_params = {
        pr: (net_full_conv.params[pr][0].data, net_full_conv.params[pr][1].data)
        for pr in params_full_conv
    }
    for pr, pr_conv in zip(params, params_full_conv, strict=True):
        conv_params[pr_conv][0].flat = fc_params[pr][0].flat
        conv_params[pr_conv][1][...] = fc_params[pr][1]
    net_full_conv.save(str(tmp_path / "full.caffemodel"))

    x = rng.normal(size=(1, 1, 16, 18)).astype("f")
    net_full_conv.blobs["data"].reshape(*x.shape)
    out = net_full_conv.forward_all(data=x)["prob"]
    assert out.shape == (1, 6, 3, 4)
    for row in range(3):
        for column in range(4):
            window = x[:, :, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
            net.blobs["data"].reshape(1, 1, 12, 12)
            expected = net.forward(data=window)["prob"]
            assert norm_error(out[:, :, row, column], expected) < 1e-5
    again = caffe.Net(
        str(tmp_path / "full.prototxt"), str(tmp_path / "full.caffemodel"), caffe.TEST
    )
    np.testing.assert_array_equal(again.params["fc-conv"][0].data, conv_params["fc-conv"][0])


def test_filters_edited_by_hand(write_net, rng, norm_error):
    """Net surgery, first part: biases shifted and filters replaced by a Sobel operator."""
    net = caffe.Net(write_net(lenet("fc", "InnerProduct", FC)), caffe.TEST)
    filters = net.params["conv1"][0].data
    assert filters.transpose(0, 2, 3, 1).shape == (4, 5, 5, 1)  # as vis_square wanted them
    x = rng.normal(size=(2, 1, 12, 12)).astype("f")
    conv0 = net.forward(data=x, blobs=["conv1"])["conv1"].copy()
    net.params["conv1"][1].data[...] += 1.0
    net.forward()
    np.testing.assert_allclose(net.blobs["conv1"].data, conv0 + 1, atol=1e-5)
    sobel = np.zeros((5, 5))
    sobel[1:4, 1:4] = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    net.params["conv1"][0].data[0, 0] = sobel
    net.params["conv1"][1].data[0] = 0
    net.forward()
    expected = convolve(x, sobel[None, None], [0.0])[:, 0]
    assert norm_error(net.blobs["conv1"].data[:, 0], expected) < 1e-5


def test_siamese_features(write_net, rng, norm_error):
    """Two branches of shared weights, features by layer name, distance by contrastive loss."""
    half = """
        layer { name: "ip%s" type: "InnerProduct" bottom: "data%s" top: "ip%s"
          param { name: "w" } param { name: "b" }
          inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 1 } } }
        layer { name: "feat%s" type: "TanH" bottom: "ip%s" top: "feat%s" }
    """
    net = caffe.Net(
        write_net(
            """input: "data" input_shape { dim: 4 dim: 5 }
               input: "data_p" input_shape { dim: 4 dim: 5 }
               input: "sim" input_shape { dim: 4 }"""
            + half % (("",) * 6)
            + half % (("_p",) * 6)
            + """layer { name: "loss" type: "ContrastiveLoss" bottom: "feat" bottom: "feat_p"
                 bottom: "sim" top: "loss" contrastive_loss_param { margin: 1 } }"""
        ),
        caffe.TRAIN,
    )
    assert net.inputs == ["data", "data_p", "sim"]
    a, b = rng.normal(size=(2, 4, 5)).astype("f")
    sim = np.array([1, 0, 1, 0], "f")
    net.blobs["data"].data[...], net.blobs["data_p"].data[...] = a, b
    net.blobs["sim"].data[...] = sim
    loss = float(net.forward()["loss"])  # the array is the blob: it would change below
    weight, bias = (blob.data.astype(float) for blob in net.params["ip"])
    features = {}
    for name, x in (("feat", a), ("feat_p", b)):
        features[name] = np.tanh(x @ weight.T + bias)
        assert norm_error(net.blobs[name].data, features[name]) < 1e-6
    distance = np.linalg.norm(features["feat"] - features["feat_p"], axis=1)
    terms = sim * distance**2 + (1 - sim) * np.maximum(1 - distance, 0) ** 2
    assert loss == pytest.approx(terms.sum() / 8, rel=1e-5)
    net.backward()
    assert (net.params["ip"][0].diff == net.params["ip_p"][0].diff).all()
    # The step of a hand-written solver.
    before = net.params["ip"][0].data.copy()
    for layer in net.params:
        for blob in net.params[layer][:1]:
            blob.data[...] -= 0.01 * blob.diff
    np.testing.assert_allclose(
        net.params["ip"][0].data, before - 2 * 0.01 * net.params["ip"][0].diff, rtol=1e-5
    )
    assert net.forward()["loss"] < loss


def test_deep_dream(write_net, rng, norm_error):
    """Gradient ascent on a middle layer: forward(end=), its diff set, backward(start=)."""
    model = Path(write_net(lenet("fc", "InnerProduct", FC)))
    message = caffe.io.caffe_pb2.NetParameter()
    text_format.Merge(model.read_text(), message)
    message.force_backward = True
    (model.parent / "tmp.prototxt").write_text(str(message))
    net = caffe.Classifier(
        str(model.parent / "tmp.prototxt"), None, mean=np.float32([104.0]), channel_swap=(0,)
    )

    def make_step(net, step_size=1.5, end="pool1"):
        src = net.blobs["data"]
        dst = net.blobs[end]
        net.forward(end=end)
        dst.diff[:] = dst.data
        net.backward(start=end)
        g = src.diff[0]
        src.data[:] += step_size / np.abs(g).mean() * g
        return g.copy()

    src = net.blobs["data"]
    src.reshape(1, 1, 12, 12)
    src.data[0] = x = rng.normal(size=(1, 12, 12)).astype("f")
    p = [blob.data.astype(float) for blob in net.params["conv1"]]
    for _ in range(2):
        x = src.data.copy()
        g = make_step(net)
        conv1 = convolve(x, *p)
        pooled = max_pool(conv1, 2, 2)
        spread = pooled.repeat(2, 2).repeat(2, 3)
        dconv = np.where(conv1 == spread, spread, 0)
        expected = convolve_gradients(x, p[0], dconv)[0]
        assert norm_error(g, expected[0]) < 1e-5
        np.testing.assert_allclose(src.data[0], x[0] + 1.5 / np.abs(g).mean() * g, rtol=1e-5)
    assert not net.params["fc"][0].diff.any()  # above the start nothing ran


def test_mtcnn_detection(mtcnn, norm_error):
    """The loop of MTCNN's demo: reshape to each image, forward, read prob1 and the boxes."""
    caffe.set_mode_cpu()
    for name, boxes in (("det1", "conv4-2"), ("det2", "conv5-2"), ("det3", "conv6-2")):
        net = caffe.Net(
            str(MTCNN / f"{name}.prototxt"), str(mtcnn / f"{name}.caffemodel"), caffe.TEST
        )
        images = RECORDED[f"{name}/in/data"]
        for image, index in ((image, i) for i, image in enumerate(images)):
            net.blobs["data"].reshape(1, *image.shape)
            net.blobs["data"].data[...] = image
            out = net.forward()
            for blob in out:
                assert norm_error(out[blob][0], RECORDED[f"{name}/out/{blob}"][index]) < 1e-5
        net.blobs["data"].reshape(*images.shape)
        net.blobs["data"].data[...] = images
        out = net.forward()
        assert norm_error(out["prob1"], RECORDED[f"{name}/out/prob1"]) < 1e-5
        assert norm_error(out[boxes], RECORDED[f"{name}/out/{boxes}"]) < 1e-5
        for key in (k for k in RECORDED if k.startswith(f"{name}/sum/")):
            layer, index = key.split("/")[2:]
            data = net.params[layer][int(index)].data
            assert RECORDED[key][0] == pytest.approx(data.astype(float).sum(), rel=1e-6)


def test_features_of_a_trained_sphereface(norm_error):
    """The extraction loop of SphereFace users, on a net that the original Caffe trained."""
    folder = GOLDEN / "orl_sphereface4"
    net = caffe.Net(str(folder / "deploy.prototxt"), str(folder / "orl_iter_300.caffemodel"), 1)
    rng = np.random.default_rng(1)
    faces = rng.integers(0, 256, (2, 112, 96, 3)).astype(np.float32)
    features = []
    for face in faces:
        cropImg = (face - 127.5) * 0.0078125
        net.blobs["data"].reshape(1, 3, 112, 96)
        net.blobs["data"].data[...] = cropImg.transpose(2, 0, 1)
        net.forward()
        features.append(net.blobs["fc5"].data[0].copy())
    # Layer by layer in float64.
    x = (faces.transpose(0, 3, 1, 2).astype(float) - 127.5) / 128
    p = {k: [b.data.astype(float) for b in v] for k, v in net.params.items()}
    for stage in range(1, 5):
        x = convolve(x, *p[f"conv{stage}_1"], stride=2, pad=1)
        slope = p[f"relu{stage}_1"][0][:, None, None]
        x = np.where(x > 0, x, slope * x)
    expected = x.reshape(2, -1) @ p["fc5"][0].T + p["fc5"][1]
    assert norm_error(np.array(features), expected) < 1e-5


def test_lenet_generator(tmp_path, rng):
    """The tutorial's net_spec: a training net written out, built and run."""

    def lenet(batch_size):
        n = caffe.NetSpec()
        n.data, n.label = L.MemoryData(
            batch_size=batch_size, channels=1, height=28, width=28, ntop=2
        )
        n.conv1 = L.Convolution(
            n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier")
        )
        n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
        n.conv2 = L.Convolution(
            n.pool1, kernel_size=5, num_output=50, weight_filler=dict(type="xavier")
        )
        n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
        n.fc1 = L.InnerProduct(n.pool2, num_output=500, weight_filler=dict(type="xavier"))
        n.relu1 = L.ReLU(n.fc1, in_place=True)
        n.score = L.InnerProduct(n.relu1, num_output=10, weight_filler=dict(type="xavier"))
        n.loss = L.SoftmaxWithLoss(n.score, n.label)
        return n.to_proto()

    path = tmp_path / "lenet_auto_train.prototxt"
    path.write_text(str(lenet(4)))
    net = caffe.Net(str(path), caffe.TRAIN)
    assert [(k, v[0].data.shape) for k, v in net.params.items()] == [
        ("conv1", (20, 1, 5, 5)),
        ("conv2", (50, 20, 5, 5)),
        ("fc1", (500, 800)),
        ("score", (10, 500)),
    ]
    labels = np.array([0, 3, 9, 1], "f")
    net.set_input_arrays(rng.normal(size=(4, 1, 28, 28)).astype("f"), labels)
    loss = net.forward()["loss"]
    prob = softmax(net.blobs["score"].data.astype(float))
    assert loss == pytest.approx(-np.log(prob[range(4), labels.astype(int)]).mean(), rel=1e-5)
    net.backward()
    one_hot = np.eye(10)[labels.astype(int)]
    np.testing.assert_allclose(net.blobs["score"].diff, (prob - one_hot) / 4, atol=1e-6)


def test_layer_by_layer_dump(small_net):
    """What converters do: walk layers with names, types, bottoms, tops and blobs."""
    net = small_net()
    table = []
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        if layer.type == "Split":
            continue
        shapes = [tuple(blob.data.shape) for blob in layer.blobs]
        table.append((name, layer.type, net.bottom_names[name], net.top_names[name], shapes))
    assert table[1] == ("conv", "Convolution", ["data"], ["conv"], [(4, 3, 3, 3), (4,)])
    assert len(table) == 6
    total = sum(np.prod(b.data.shape) for blobs in net.params.values() for b in blobs)
    assert total == sum(blob.count for layer in net.layers for blob in layer.blobs)
