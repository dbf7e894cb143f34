"""ONNX in onnxruntime and in OpenCV's dnn: real nets against recordings, layers against the net."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from reference.deployable_nets import ALEXNET, GOOGLENET, LENET, SIAMESE
from reference.layer_examples import examples, inputs
from sphereface.caffe import load, register_layer
from sphereface.caffe.layer import Layer
from sphereface.convert.onnx import ONNX_LAYERS, OPSET, onnx_layer, onnx_model, write_onnx
from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_path

GOLDEN = Path(__file__).parents[1] / "golden"
MTCNN, ORL = GOLDEN / "mtcnn", GOLDEN / "orl_sphereface4"
RECORDED = [
    "concat", "conv_basic", "deconv", "eltwise_sum_coeff", "ip", "lrn_across", "pool_ave_pad",
    "pool_max_ceil", "power", "prelu", "reduction_mean", "relu", "reshape", "scale_bias",
    "softmax_axis", "tanh",
]  # fmt: skip
TOLERANCE = 1e-5  # relative, of the norm
# LSTM and RNN have a test of their own below, because OpenCV has no loops.
EXAMPLES = {
    name: given
    for name, given in examples().items()
    if given.type in ONNX_LAYERS and given.type not in ("LSTM", "RNN")
}


def in_onnxruntime(path, inputs, outputs):
    session = onnxruntime.InferenceSession(path)
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def in_opencv(path, inputs, outputs):
    net = cv2.dnn.readNetFromONNX(str(path))
    for name, value in inputs.items():
        net.setInput(value, name)
    return dict(zip(outputs, net.forward(outputs), strict=True))


def assert_same(path, inputs, expected, runtimes=(in_onnxruntime, in_opencv)):
    for run in runtimes:
        found = run(path, inputs, list(expected))
        for name, value in expected.items():
            assert found[name].shape == value.shape, (run.__name__, name)
            finite = np.isfinite(value)
            assert (np.isfinite(found[name]) == finite).all()
            difference = np.linalg.norm((found[name] - value)[finite].astype(np.float64))
            size = np.linalg.norm(value[finite].astype(np.float64))
            assert size > 0, name
            assert difference <= TOLERANCE * size, (run.__name__, name, difference / size)


def assert_runs_as(net, path, tensors, *, opencv=True):
    with torch.no_grad():
        expected = {name: top.numpy() for name, top in net(*tensors).items()}
    inputs = {name: x.numpy() for name, x in zip(net.inputs, tensors, strict=True)}
    runtimes = (in_onnxruntime, in_opencv) if opencv else (in_onnxruntime,)
    assert_same(path, inputs, expected, runtimes)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_the_released_mtcnn_gives_the_recorded_numbers(index, mtcnn, tmp_path):
    """det1 was recorded on images of 60 x 81, its prototxt says 12 x 12."""
    net = load(MTCNN / f"det{index}.prototxt", mtcnn / f"det{index}.caffemodel")
    write_onnx(net, tmp_path / "net.onnx", images=index == 1)
    golden = np.load(MTCNN / "nets.npz")
    expected = {name: golden[f"det{index}/out/{name}"] for name in net.outputs}
    assert_same(tmp_path / "net.onnx", {"data": golden[f"det{index}/in/data"]}, expected)


def test_a_trained_sphereface(tmp_path, build):
    net = build(ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel")
    write_onnx(net, tmp_path / "net.onnx")
    for more in (0, 4):
        assert_runs_as(net, tmp_path / "net.onnx", inputs(net, more))


@pytest.mark.parametrize("units", [4, 20])
def test_sphereface(units, tmp_path, build):
    net = build(prototxt_path(f"sphereface_{units}_deploy"))
    write_onnx(net, tmp_path / "net.onnx")
    for more in (0, 1):
        assert_runs_as(net, tmp_path / "net.onnx", inputs(net, more))


@pytest.mark.parametrize("text", [LENET, ALEXNET, GOOGLENET, SIAMESE], ids=lambda text: text[7:14])
def test_known_styles(text, tmp_path, build):
    net = build(text)
    write_onnx(net, tmp_path / "net.onnx")
    assert_runs_as(net, tmp_path / "net.onnx", inputs(net, 1))


@pytest.mark.parametrize("name", RECORDED)
def test_layers_give_the_numbers_that_caffe_recorded(name, tmp_path):
    golden = dict(np.load(GOLDEN / "layers" / f"{name}.npz"))
    net = load(str(golden["prototxt"]))
    weights = {}
    for key in sorted(golden):
        if key.startswith("param/"):
            weights.setdefault(key.split("/")[1], []).append(golden[key])
    net.copy_from(weights)
    write_onnx(net, tmp_path / "net.onnx")
    inputs = {key[3:]: golden[key] for key in golden if key.startswith("in/")}
    assert_same(tmp_path / "net.onnx", inputs, {"y": golden["out/y"]})


@pytest.mark.parametrize("convolved", [False, True], ids=["plain", "convolved"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_layers(name, convolved, tmp_path, build):
    given = EXAMPLES[name]
    net = build(given.text(convolved=convolved))
    write_onnx(net, tmp_path / "net.onnx")
    for more in (0, 2) if given.batch else (0,):
        tensors = inputs(net, more)
        assert_runs_as(net, tmp_path / "net.onnx", tensors, opencv=given.opencv)


@pytest.mark.parametrize("name", [name for name, given in EXAMPLES.items() if given.images])
def test_image_sizes_stay_free(name, tmp_path, build):
    net = build(EXAMPLES[name].text())
    write_onnx(net, tmp_path / "net.onnx", images=True)
    for larger in (0, 1, 2, 3, 11):
        tensors = inputs(net, 1, larger)
        assert_runs_as(net, tmp_path / "net.onnx", tensors, opencv=EXAMPLES[name].opencv)


def test_every_form_has_an_example():
    """Of the layer types that are registered here; a test of its own for a loop."""
    assert {given.type for given in EXAMPLES.values()} == ONNX_LAYERS.keys() - {"LSTM", "RNN"}


def test_equal_parts_of_the_batch(tmp_path, build):
    """Its size stays free, as far as the parts are equal."""
    net = build(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }'
        'layer { name: "l" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { axis: 0 } }'
    )
    write_onnx(net, tmp_path / "net.onnx")
    for more in (0, 2, 6):
        assert_runs_as(net, tmp_path / "net.onnx", inputs(net, more))


SEQUENCES = {
    "x": ((5, 2, 3, 2), "x cont"),
    "one value": ((5, 2), "x cont"),
    "static": ((5, 2, 4), "x cont static"),
}


@pytest.mark.parametrize("case", SEQUENCES)
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_recurrent_layers(kind, exposed, case, tmp_path, build):
    """OpenCV has no Scan, so only onnxruntime runs them; any number of timesteps."""
    shape, bottoms = SEQUENCES[case]
    shapes = {"x": shape, "cont": (5, 2), "static": (2, 3), "h": (1, 2, 4), "c": (1, 2, 4)}
    states = ["h", "c"][: 1 + (kind == "LSTM")] if exposed else []
    named = bottoms.split() + states
    net = build(
        "".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param'
            f" {{ shape {{ {' '.join(f'dim: {size}' for size in shapes[name])} }} }} }}"
            for name in named
        )
        + f'layer {{ name: "l" type: "{kind}" top: "y" '
        + " ".join(f'bottom: "{name}"' for name in named)
        + "".join(f' top: "{name}_last"' for name in states)
        + f" recurrent_param {{ num_output: 4 expose_hidden: {str(exposed).lower()}"
        ' weight_filler { type: "uniform" min: -1 max: 1 } bias_filler { type: "gaussian" } } }'
    )
    write_onnx(net, tmp_path / "net.onnx")
    free = case != "static" and not exposed
    for more in (0, 3) if free else (0,):
        inputs = {
            name: torch.randn((size[0] + more * (size[0] == 5), *size[1:]))
            for name, size in shapes.items()
            if name in named
        }
        inputs["cont"] = (inputs["cont"] > 0).float()
        inputs["cont"][1] = 1
        if not exposed:
            net.layer("l").reset()
        with torch.no_grad():
            expected = {name: top.numpy() for name, top in net(inputs).items()}
        given = {name: value.numpy() for name, value in inputs.items()}
        assert_same(tmp_path / "net.onnx", given, expected, [in_onnxruntime])


def test_one_timestep_of_an_lstm(tmp_path, build):
    shapes = {"c": "dim: 1 dim: 2 dim: 3", "g": "dim: 1 dim: 2 dim: 12", "cont": "dim: 1 dim: 2"}
    net = build(
        "".join(f'input: "{name}" input_shape {{ {dims} }} ' for name, dims in shapes.items())
        + 'layer { name: "l" type: "LSTMUnit" bottom: "c" bottom: "g" bottom: "cont"'
        ' top: "c_next" top: "h_next" }'
    )
    write_onnx(net, tmp_path / "net.onnx")
    assert_runs_as(net, tmp_path / "net.onnx", inputs(net))


def test_a_scalar_output(tmp_path, build):
    """OpenCV 5.0 crashes on tensors without axes, so only onnxruntime runs it."""
    net = build(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "l" type: "Reduction" bottom: "x" top: "y" }'
    )
    write_onnx(net, tmp_path / "net.onnx")
    x = inputs(net)[0].numpy()
    expected = {"y": x.sum(dtype=np.float64).astype(np.float32)}
    assert_same(tmp_path / "net.onnx", {"x": x}, expected, [in_onnxruntime])


def test_names_axes_and_opset(build):
    net = build(prototxt_path("det1"))
    model = onnx_model(net, images=True)
    assert model.opset_import[0].version == OPSET
    assert model.graph.name == "PNet"
    (data,) = model.graph.input
    dims = [axis.dim_param or axis.dim_value for axis in data.type.tensor_type.shape.dim]
    assert (data.name, dims) == ("data", ["N", 3, "H", "W"])
    assert [output.name for output in model.graph.output] == ["conv4-2", "prob1"]
    tops = [node.output[0] for node in model.graph.node]
    # In place, the last version has the blob's name; node names begin with the layer's.
    assert tops[:2] == ["conv1@conv1", "conv1"]
    assert model.graph.node[1].name == "PReLU1/PRelu"
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(stored["conv4-1.weight"], net.layer("conv4-1").weight.detach())


def test_a_net_that_fixes_its_batch_keeps_it(build, tmp_path):
    net = build(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }'
        'layer { name: "l" type: "Reshape" bottom: "x" top: "y"'
        " reshape_param { shape { dim: 2 dim: 3 dim: 2 } } }"
    )
    write_onnx(net, tmp_path / "net.onnx")
    shape = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape
    assert [axis.dim_value for axis in shape.dim] == [2, 6]
    assert_runs_as(net, tmp_path / "net.onnx", inputs(net))


def test_fixed_image_size_is_told_by_the_layer(build, tmp_path):
    net = build(prototxt_path("sphereface_4_deploy"))
    with pytest.raises(SphereFaceError, match=r'layer "fc5" \(InnerProduct\).*21504'):
        write_onnx(net, tmp_path / "net.onnx", images=True)
    assert not list(tmp_path.iterdir())


def test_more_than_protobuf_reads_is_told(build, monkeypatch):
    monkeypatch.setattr("sphereface.convert.onnx.model._MAX_BYTES", 50_000_000)
    with pytest.raises(SphereFaceError, match=r"50,249,984 bytes of parameters"):
        onnx_model(build(prototxt_path("sphereface_4_deploy")))


def test_a_layer_without_onnx_form_is_named(build):
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 }\ninput: "t" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "cost" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "y" }'
    )
    with pytest.raises(SphereFaceError, match=r':3: layer "cost" \(EuclideanLoss\): .* no ONNX'):
        onnx_model(build(text))


def test_a_type_of_ones_own(build, tmp_path):
    @register_layer("OnnxTestGain")
    class Gain(Layer):
        def forward(self, x):
            return 3 * x

    @onnx_layer("OnnxTestGain")
    def gain(graph, layer, x):
        return graph.node("Mul", x, graph.constant(3))

    net = build(
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "l" type: "OnnxTestGain" bottom: "x" top: "y" }'
    )
    write_onnx(net, tmp_path / "net.onnx")
    assert_runs_as(net, tmp_path / "net.onnx", inputs(net))
    del ONNX_LAYERS["OnnxTestGain"]
