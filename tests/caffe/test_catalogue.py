"""The catalogue as a whole: complete, documented, tested, and seen alike by torch's compilers."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import sphereface.caffe.layers as catalogue
from sphereface import pycaffe
from sphereface.caffe import list_layers
from sphereface.caffe.registry import layer_class
from sphereface.proto.upgrade_v1 import V1_TYPES


def words(text: str) -> list[str]:
    return text.split()


# What the layer factory of SphereFace's Caffe knows.
ORIGINAL = words(
    """
    AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Concat ContrastiveLoss Convolution Crop
    Data Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data
    HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN
    MarginInnerProduct MemoryData MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN
    ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
    SoftmaxWithLoss Split TanH Threshold Tile WindowData
    """
)
# BVLC's later ones, and those of face recognition forks.
OTHERS = words(
    """
    BN CenterLoss ChannelScale Clip ConvolutionDepthwise DepthwiseConvolution Flip
    GeneralContrastiveLoss GeneralTripletLoss InnerDistance InterClass LabelSpecificAdd
    LabelSpecificRescale LargeMarginInnerProduct Normalize Swish
    """
)
# These are Python at work, not tensor operations.
UNTRACEABLE = {"HDF5Output", "Python"}

TYPES = [
    name for name in list_layers() if layer_class(name).__module__.startswith(catalogue.__name__)
]
INPUTS = {name for name in TYPES if layer_class(name).is_input}
TEST_TEXT = "".join(
    path.read_text() for path in sorted((Path(__file__).parent / "layers").glob("test_*.py"))
)

IMAGE = (2, 4, 6, 5)
ROWS = (3, 4)
LABELS = (3,)
SEQUENCE = {"x": (3, 2, 4), "cont": (3, 2)}
FILLED = 'weight_filler { type: "xavier" }'

# Options and bottoms of a small layer of each type; y tops in the number that the type needs.
SMALL: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "AbsVal": ("", {"x": IMAGE}),
    "Accuracy": ("", {"x": ROWS, "label": LABELS}),
    "ArgMax": ("argmax_param { top_k: 2 axis: 1 }", {"x": IMAGE}),
    "BN": ("", {"x": IMAGE}),
    "BNLL": ("", {"x": IMAGE}),
    "BatchNorm": ("", {"x": IMAGE}),
    "BatchReindex": ("", {"x": ROWS, "label": (5,)}),
    "Bias": ('bias_param { filler { type: "gaussian" } }', {"x": IMAGE}),
    "CenterLoss": (
        'center_loss_param { num_output: 3 center_filler { type: "xavier" } }',
        {"x": ROWS, "label": LABELS},
    ),
    "ChannelScale": ("", {"x": ROWS, "z": (3, 1)}),
    "Clip": ("clip_param { min: -0.5 max: 0.5 }", {"x": IMAGE}),
    "Concat": ("", {"x": IMAGE, "z": IMAGE}),
    "ContrastiveLoss": ("", {"x": ROWS, "z": ROWS, "label": LABELS}),
    "Convolution": (f"convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }}", {"x": IMAGE}),
    "ConvolutionDepthwise": (
        f"convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }}",
        {"x": IMAGE},
    ),
    "Crop": ("crop_param { offset: 1 }", {"x": IMAGE, "z": (2, 4, 3, 3)}),
    "Deconvolution": (
        "convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2"
        ' weight_filler { type: "bilinear" } }',
        {"x": IMAGE},
    ),
    "DepthwiseConvolution": (
        f"convolution_param {{ num_output: 4 kernel_size: 3 {FILLED} }}",
        {"x": IMAGE},
    ),
    "Dropout": ("", {"x": IMAGE}),
    "DummyData": (
        "dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 0.5 } }",
        {},
    ),
    "ELU": ("", {"x": IMAGE}),
    "Eltwise": ("eltwise_param { operation: MAX }", {"x": IMAGE, "z": IMAGE}),
    "Embed": (f"embed_param {{ input_dim: 3 num_output: 5 {FILLED} }}", {"label": (3, 2)}),
    "EuclideanLoss": ("", {"x": ROWS, "z": ROWS}),
    "Exp": ("exp_param { base: 2 shift: 1 }", {"x": IMAGE}),
    "Filter": ("", {"x": ROWS, "label": LABELS}),
    "Flatten": ("", {"x": IMAGE}),
    "Flip": ("", {"x": IMAGE}),
    "GeneralContrastiveLoss": ("", {"x": ROWS, "label": LABELS}),
    "GeneralTripletLoss": ("", {"x": ROWS, "label": LABELS}),
    "HingeLoss": ("", {"x": ROWS, "label": LABELS}),
    "Im2col": ("convolution_param { kernel_size: 2 stride: 2 }", {"x": IMAGE}),
    "InfogainLoss": ("", {"x": ROWS, "label": LABELS, "h": (4, 4)}),
    "InnerDistance": (f"inner_distance_param {{ num_output: 3 {FILLED} }}", {"x": ROWS}),
    "InnerProduct": (f"inner_product_param {{ num_output: 3 {FILLED} }}", {"x": IMAGE}),
    "InterClass": (
        f"inter_class_param {{ num_output: 3 {FILLED} }}",
        {"x": ROWS, "label": LABELS},
    ),
    "LRN": ("lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }", {"x": IMAGE}),
    "LSTM": (f"recurrent_param {{ num_output: 3 {FILLED} }}", SEQUENCE),
    "LSTMUnit": ("", {"c": (1, 2, 3), "x": (1, 2, 12), "cont": (1, 2)}),
    "LabelSpecificAdd": ("label_specific_add_param { bias: -0.35 }", {"x": ROWS, "label": LABELS}),
    "LabelSpecificRescale": (
        "label_specific_rescale_param { positive_weight: 2 }",
        {"x": ROWS, "label": LABELS},
    ),
    "LargeMarginInnerProduct": (
        f"largemargin_inner_product_param {{ num_output: 3 type: QUADRUPLE {FILLED} }}",
        {"x": ROWS, "label": LABELS},
    ),
    "Log": ("log_param { scale: 0.1 shift: 2 }", {"x": IMAGE}),
    "MVN": ("", {"x": IMAGE}),
    "MarginInnerProduct": (
        f"margin_inner_product_param {{ num_output: 3 type: QUADRUPLE {FILLED} }}",
        {"x": ROWS, "label": LABELS},
    ),
    "MultinomialLogisticLoss": ("", {"p": ROWS, "label": LABELS}),
    "Normalize": ("", {"x": IMAGE}),
    "PReLU": ("", {"x": IMAGE}),
    "Parameter": ("parameter_param { shape { dim: 2 dim: 3 } }", {}),
    "Pooling": ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", {"x": IMAGE}),
    "Power": ("power_param { power: 2 scale: 3 shift: 1 }", {"x": IMAGE}),
    "RNN": (f"recurrent_param {{ num_output: 3 {FILLED} }}", SEQUENCE),
    "ReLU": ("relu_param { negative_slope: 0.1 }", {"x": IMAGE}),
    "Reduction": ("reduction_param { operation: ASUM axis: 1 }", {"x": IMAGE}),
    "Reshape": ("reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", {"x": IMAGE}),
    "SPP": ("spp_param { pyramid_height: 2 }", {"x": IMAGE}),
    "Scale": ('scale_param { filler { type: "gaussian" } bias_term: true }', {"x": IMAGE}),
    "Sigmoid": ("", {"x": IMAGE}),
    "SigmoidCrossEntropyLoss": ("", {"x": ROWS, "p": ROWS}),
    "Silence": ("", {"x": ROWS}),
    "Slice": ("", {"x": IMAGE}),
    "Softmax": ("", {"x": IMAGE}),
    "SoftmaxWithLoss": ("loss_param { ignore_label: 1 }", {"x": ROWS, "label": LABELS}),
    "Split": ("", {"x": IMAGE}),
    "Swish": ("", {"x": IMAGE}),
    "TanH": ("", {"x": IMAGE}),
    "Threshold": ("threshold_param { threshold: 0.2 }", {"x": IMAGE}),
    "Tile": ("tile_param { tiles: 3 }", {"x": IMAGE}),
}


def test_every_type_of_the_original_is_there():
    assert set(ORIGINAL) <= set(TYPES)
    assert set(V1_TYPES.values()) - {""} <= set(TYPES)
    assert sorted(TYPES) == sorted(ORIGINAL + OTHERS)


def test_every_file_of_the_folder_is_a_layers():
    folder = Path(catalogue.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    registering = {layer_class(name).__module__.rpartition(".")[2] for name in TYPES}
    assert files - registering == {"recurrent"}  # the base of LSTM and RNN


def test_pycaffe_lists_them():
    assert set(TYPES) <= set(pycaffe.layer_type_list())


@pytest.mark.parametrize("name", TYPES)
def test_type_is_documented_and_tested(name):
    cls = layer_class(name)
    assert len(inspect.cleandoc(cls.__dict__.get("__doc__") or "")) > 10
    header = inspect.getmodule(cls).__doc__
    assert "Source: " in header
    assert f'"{name}"' in TEST_TEXT, "no test in tests/caffe/layers names it"


def test_every_type_that_runs_has_a_small_layer():
    assert set(SMALL) == set(TYPES) - INPUTS - UNTRACEABLE


def values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name == "label":
        return torch.randint(0, 3, shape).double()
    if name == "cont":
        return (torch.arange(np.prod(shape)) >= shape[-1]).double().reshape(shape)
    return torch.rand(shape).double() if name == "p" else torch.randn(shape).double()


@pytest.mark.parametrize("name", SMALL)
def test_compilers_see_what_runs(name, layer_net, dynamo):
    options, bottoms = SMALL[name]
    cls = layer_class(name)
    tops = cls.tops.least if name not in ("Slice", "Split") else 2
    text = f'layer {{ name: "l" type: "{name}" {options}' + "".join(
        [f' bottom: "{bottom}"' for bottom in bottoms] + [f' top: "y{i}"' for i in range(tops)]
    )
    net = layer_net(text + " }", "TEST", **bottoms).net.eval()
    inputs = tuple(values(bottom, shape) for bottom, shape in bottoms.items())
    with torch.no_grad():
        exported = torch.export.export(net, inputs).module()
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        expected = net(*inputs)
        found = [exported(*inputs), compiled(*inputs)]
    assert len(expected) == tops
    for outputs in found:
        assert list(outputs) == list(expected)
        for top, value in expected.items():
            torch.testing.assert_close(outputs[top], value)
