"""The catalogue as a whole: complete, documented, tested, and seen alike by torch's compilers."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import sphereface.caffe.layers as catalogue
from reference.layer_examples import examples, fill, inputs
from reference.types_run import TYPES_RUN
from sphereface import pycaffe
from sphereface.caffe import list_layers, load
from sphereface.caffe.registry import LEFT_OUT, layer_class
from sphereface.errors import SphereFaceError
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
# Python at work, not tensor operations; of CTC's loss torch has no kernel for compilers.
UNTRACEABLE = {"HDF5Output", "Python", "CTCLoss", "CtcLoss", "WarpCTCLoss"}
REFUSED = {"Correlation"}
# Loops over values: torch.compile breaks the graph, torch.export refuses.
LOOPS = words(
    """
    BoxGroupOutput BoxOutput DetectionEvaluate DetectionOutput MultiBoxFocalLoss MultiBoxLoss
    Proposal ROIPooling YoloDetectionOutput Yolov3 Yolov3DetectionOutput
    """
)

TYPES = [
    name for name in list_layers() if layer_class(name).__module__.startswith(catalogue.__name__)
]
INPUTS = {name for name in TYPES if layer_class(name).is_input}
EXAMPLES = examples()
"""The compilers see the first of each type."""
FIRST = {given.type: name for name, given in reversed(EXAMPLES.items())}


def test_every_type_of_the_original_is_there():
    assert set(ORIGINAL) <= set(TYPES)
    assert set(V1_TYPES.values()) - {""} <= set(TYPES) | set(LEFT_OUT)


def test_every_file_of_the_folder_is_a_layers():
    folder = Path(catalogue.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    registering = {layer_class(name).__module__.rpartition(".")[2] for name in TYPES}
    assert files - registering == {"recurrent"}  # the base of LSTM and RNN


def test_pycaffe_lists_them():
    assert set(TYPES) <= set(pycaffe.layer_type_list())


@pytest.mark.parametrize("name", TYPES)
def test_type_is_documented(name):
    cls = layer_class(name)
    assert len(inspect.cleandoc(cls.__dict__.get("__doc__") or "")) > 10
    header = inspect.getmodule(cls).__doc__
    assert "Source: " in header


def test_each_type_is_run_by_the_tests_of_its_file(request):
    """Those of this session, told by tests/caffe/layers/conftest.py."""
    ran = request.config.stash.get(TYPES_RUN, {})
    files = {name: f"test_{layer_class(name).__module__.rpartition('.')[2]}" for name in TYPES}
    if request.config.getoption("keyword") or not set(files.values()) <= set(ran):
        pytest.skip("needs all of tests/caffe/layers in the same run")
    refused = {"Correlation"}  # by name, with what to do
    assert {name for name, file in files.items() if name not in ran[file]} == refused


def test_every_type_that_runs_has_an_example_in_its_file():
    files = {name: layer_class(name).__module__.rpartition(".")[2] for name in TYPES}
    wanted = {(files[name], name) for name in set(TYPES) - INPUTS - UNTRACEABLE - REFUSED}
    assert {(name.partition(".")[0], given.type) for name, given in EXAMPLES.items()} == wanted


@pytest.mark.parametrize("name", [name for name in FIRST if name not in LOOPS])
def test_compilers_see_what_runs(name, dynamo):
    net = load(EXAMPLES[FIRST[name]].text()).double()
    fill(net)
    given = tuple(value.double() for value in inputs(net))
    with torch.no_grad():
        exported = torch.export.export(net, given).module()
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        expected = net(*given)
        found = [exported(*given), compiled(*given)]
    assert expected
    assert set(net.layers[-1].layer_param.top) <= set(expected)
    for outputs in found:
        assert list(outputs) == list(expected)
        for top, value in expected.items():
            torch.testing.assert_close(outputs[top], value)


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_loops_over_values_run_compiled_and_are_not_exported(name, dynamo):
    net = load(EXAMPLES[FIRST[name]].text())
    fill(net)
    given = tuple(inputs(net))
    with torch.no_grad():
        expected = net(*given)
        found = torch.compile(net, backend="eager")(*given)
    assert list(found) == list(expected)
    for top, value in expected.items():
        torch.testing.assert_close(found[top], value)
    with pytest.raises(
        SphereFaceError, match='"l" .*which torch.export cannot take; write the net as .onnx'
    ):
        torch.export.export(net, given)
