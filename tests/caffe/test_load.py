from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sphereface.caffe import Net, load
from sphereface.caffe.load import load_graph
from sphereface.errors import SphereFaceError
from sphereface.proto import text

GOLDEN = Path(__file__).parents[1] / "golden"
PROTOTXT = Path(__file__).parents[2] / "models" / "prototxt"
TOLERANCE = 1e-5

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "label" type: "Input" top: "label" include { phase: TRAIN }
  input_param { shape { dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
  include { phase: TRAIN } }
layer { name: "extra" type: "Split" bottom: "fc" top: "a" top: "b" include { min_level: 2 } }
layer { name: "staged" type: "Split" bottom: "fc" top: "c" include { stage: "s" stage: "t" } }
"""


def test_a_path_a_text_and_a_message_are_the_same_net(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    for source in (path, str(path), NET, text.parse(NET).message):
        net = load(source)
        assert [layer.name for layer in net.layers] == ["data", "fc"]
        assert net.outputs == ("fc",)


def test_phase_level_and_stages_choose_the_layers():
    assert [node.name for node in load_graph(NET, "TRAIN").nodes] == ["data", "label", "fc", "loss"]
    assert [node.name for node in load_graph(NET, level=2).nodes] == ["data", "fc", "extra"]
    assert [node.name for node in load_graph(NET, stages=["t", "s"]).nodes][-1] == "staged"
    assert load(NET, phase="TRAIN").training
    assert not load(NET).training
    with pytest.raises(SphereFaceError, match='phase \'train\'; expected "TRAIN" or "TEST"'):
        load(NET, phase="train")


def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET.replace('bottom: "data"', 'bottom: "dat"'))
    with pytest.raises(SphereFaceError, match=r'net\.prototxt:5: layer "fc" .*did you mean "data"'):
        load(path)


def test_old_formats_load():
    net = load("""
        input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
        layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
                 convolution_param { num_output: 2 kernel_size: 3 } }""")
    assert net.layer("conv").lr_mult == [1.0, 2.0]
    assert net.blob_shapes["conv"] == (1, 2, 6, 6)


def test_input_shapes_override_the_file():
    net = load(NET, input_shapes={"data": (7, 5)})
    assert net.layer("fc").weight.shape == (4, 5)
    assert net.blob_shapes == {"data": (7, 5), "fc": (7, 4)}
    with pytest.raises(SphereFaceError, match=r'input_shapes: net .* no input "dta"; .*"data"'):
        load(NET, input_shapes={"dta": (7, 5)})


def convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """3 x 3, stride 2, pad 1."""
    xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    y = np.zeros((len(x), len(w), rows, columns))
    for i, j in np.ndindex(rows, columns):
        patch = xp[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        y[:, :, i, j] = patch.reshape(len(x), -1) @ w.reshape(len(w), -1).T
    return y + b[:, None, None]


def test_a_caffemodel_trained_by_caffe(rng):
    """SphereFace-4: the recorded weights, run against float64 numpy."""
    folder = GOLDEN / "orl_sphereface4"
    net = load(folder / "deploy.prototxt", folder / "orl_iter_300.caffemodel")
    assert list(net.load_report.skipped) == ["fc6"]
    assert not net.load_report.left
    x = rng.uniform(-1, 1, size=(1, 3, 112, 96))
    expected = x
    for stage in range(1, 5):
        w, b = (blob.detach().double().numpy() for blob in net.layer(f"conv{stage}_1").blobs)
        slope = net.layer(f"relu{stage}_1").weight.detach().double().numpy()[:, None, None]
        expected = convolve(expected, w, b)
        expected = np.where(expected > 0, expected, slope * expected)
    w, b = (blob.detach().double().numpy() for blob in net.layer("fc5").blobs)
    expected = expected.reshape(1, -1) @ w.T + b
    with torch.no_grad():
        found = net(torch.from_numpy(x.astype(np.float32)))["fc5"].numpy()
    assert np.linalg.norm(found - expected) < TOLERANCE * np.linalg.norm(expected)
    assert np.linalg.norm(expected) > 1


@pytest.mark.parametrize("index", [1, 2, 3])
def test_the_released_mtcnn(index, mtcnn):
    """P-, R- and O-Net: the authors' prototxts and weights, outputs recorded from Caffe."""
    folder = GOLDEN / "mtcnn"
    net = load(folder / f"det{index}.prototxt", mtcnn / f"det{index}.caffemodel")
    assert not net.load_report.left
    golden = np.load(folder / "nets.npz")
    prefix = f"det{index}/out/"
    recorded = [name for name in golden if name.startswith(prefix)]
    with torch.no_grad():
        outputs = net(torch.from_numpy(golden[f"det{index}/in/data"]))
    assert list(outputs) == sorted(name.removeprefix(prefix) for name in recorded)
    for name in recorded:
        found, expected = outputs[name.removeprefix(prefix)].numpy(), golden[name]
        assert found.shape == expected.shape
        assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected), name
    for name in golden:
        if name.startswith(f"det{index}/sum/"):
            _, _, layer, blob = name.split("/")
            stored = net.layer(layer).blobs[int(blob)].detach()
            np.testing.assert_allclose(float(stored.double().sum()), golden[name][0], rtol=1e-4)
            assert tuple(stored.shape) == tuple(golden[name][1:])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("4", 12_562_496),
        ("10", 15_219_264),
        ("20", 22_670_656),
        ("36", 32_778_816),
        ("64", 47_905_088),
        ("64_paper", 48_200_512),
    ],
)
def test_the_published_nets(name, parameters):
    graph = load_graph(PROTOTXT / f"sphereface_{name}_deploy.prototxt")
    net = Net(graph, fill=False)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert net.outputs == ("fc5",)
    assert net.blob_shapes["fc5"] == (1, 512)
    assert net.blob_shapes["conv4_1"] == (1, 512, 7, 6)


def test_a_training_net_starts_at_the_loss_of_chance():
    path = PROTOTXT / "sphereface_4_train.prototxt"
    net = load(path, phase="TRAIN", input_shapes={"data": (2, 3, 112, 96)})
    assert net.inputs == ("data", "label")
    assert net.blob_shapes["label"] == (2,)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 112, 96, generator=generator)
    outputs = net(images, torch.tensor([3.0, 10571.0]))
    assert list(outputs) == ["lambda", "softmax_loss"]
    loss = net.loss(outputs)
    assert 0.5 * np.log(10572) < loss.item() < 2 * np.log(10572)
    loss.backward()
    # Slopes without a ParamSpec learn too.
    trained = {key for key, parameter in net.named_parameters() if parameter.grad is not None}
    assert {"conv1_1.weight", "conv1_1.bias", "relu1_1.weight", "fc6.weight"} <= trained


def test_weights_of_other_names_are_told(tmp_path):
    text = (
        'input: "x" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1 layer {{ name: "{}" '
        'type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ num_output: 2 }} }}'
    )
    load(text.format("fc1")).save(tmp_path / "w.caffemodel")
    with pytest.warns(UserWarning, match="no layer of net .* has weights there.* fc1"):
        load(text.format("fc"), tmp_path / "w.caffemodel")


def test_a_released_caffemodel_alone(released_model):
    """Against OpenCV's dnn on 100 pictures of LFW."""
    net = load(released_model.model)
    assert (net.inputs, net.outputs) == (("data",), ("fc1",))
    assert not net.load_report.left
    assert not net.load_report.skipped
    pictures = [cv2.imread(str(released_model.folder / path)) for path in released_model.paths]
    pixels = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2)
    with torch.no_grad():
        found = net(torch.from_numpy((pixels.astype(np.float32) - 128) / 128))["fc1"].numpy()
    expected = released_model.features
    assert found.shape == expected.shape == (100, 128)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
