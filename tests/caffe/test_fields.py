"""Every field that a prototxt may give a layer is read by some code, or ignored for a reason."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

import sphereface.python_layer  # noqa: F401 - a net of this test names it
from reference.layer_examples import example, examples
from sphereface.caffe import Net
from sphereface.caffe.graph import build_graph
from sphereface.caffe.load import load_file
from sphereface.caffe.registry import layer_class
from sphereface.data import convert_imageset, open_source, open_sources
from sphereface.errors import SphereFaceError
from sphereface.proto import schema
from sphereface.proto.state_rules import kept_layers
from sphereface.weights.binaryproto import write_binaryproto


class Read:
    """A message that notes which of its fields are looked at."""

    def __init__(self, message: Any, seen: set[str]) -> None:
        self._message, self._seen = message, seen

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._message, name)
        if name not in self._message.DESCRIPTOR.fields_by_name:
            return value
        self._note(name)
        if hasattr(value, "DESCRIPTOR"):
            return Read(value, self._seen)
        if hasattr(value, "add"):  # repeated messages
            return [Read(item, self._seen) for item in value]
        return value

    def HasField(self, name: str) -> bool:  # noqa: N802 - protobuf's name
        self._note(name)
        return self._message.HasField(name)

    def __deepcopy__(self, _: Any) -> Any:
        return deepcopy(self._message)

    def _note(self, name: str) -> None:
        self._seen.add(f"{_name(self._message.DESCRIPTOR)}.{name}")


def _name(descriptor: Any) -> str:
    return descriptor.full_name.removeprefix("caffe.")


def _fields() -> set[str]:
    """All shipped fields of LayerParameter and of the messages below it."""
    found: set[str] = set()
    # A pool of its own, for other tests add fields.
    pool = descriptor_pool.DescriptorPool()
    shipped = (files("sphereface.proto") / "caffe.desc").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(shipped).file:
        pool.Add(file)
    waiting = [pool.FindMessageTypeByName("caffe.LayerParameter")]
    known = {waiting[0].name}
    while waiting:
        descriptor = waiting.pop()
        for field in descriptor.fields:
            found.add(f"{_name(descriptor)}.{field.name}")
            if field.message_type and field.message_type.name not in known:
                known.add(field.message_type.name)
                waiting.append(field.message_type)
    return found


# Fields without a reader, and why a net means the same without them.
_ENGINE = "chooses between Caffe's and cuDNN's implementation of the same"
_WITH_ENGINE = ["Convolution", "LRN", "Pooling", "ReLU", "SPP", "Sigmoid", "Softmax", "TanH"]
_OLD_FORM = "moved to transform_param in files of its time; no effect in `layer`, as in Caffe"
_RAW = "raw bytes of a binary net; proto.schema moves them to their field"
_FORK_FIELDS = [
    field
    for field in schema.message("LayerParameter").DESCRIPTOR.fields
    if field.name.startswith("fork_")
]
_COSINE_MARGINS = ["AdaCosAddmScale", "CombinedMargin", "CosinAddm"]
IGNORED = {
    **{f"{kind}Parameter.engine": _ENGINE for kind in _WITH_ENGINE},
    "ConvolutionParameter.force_nd_im2col": "another implementation of the same",
    **dict.fromkeys(
        (f"{kind}Parameter.{field}"
         for kind in ("Data", "ImageData") for field in ("scale", "mean_file", "mirror")),
        _OLD_FORM,
    ),
    "ImageDataParameter.crop_size": _OLD_FORM,
    "EltwiseParameter.stable_prod_grad": "torch's gradient of a product is the stable one",
    "RecurrentParameter.debug_info": "prints; the solver's debug_info does",
    "PythonParameter.share_in_parallel": "every rank is a process with layers of its own",
    "LayerParameter.window_data_param": "refused, see REFUSED",
    "LayerParameter.dense_image_data_param": "refused, see REFUSED",
    "LayerParameter.annotated_data_param": "refused, see REFUSED",
    "LayerParameter.video_data_param": "refused, see REFUSED",
    "LayerParameter.image_label_data_param": "refused, see REFUSED",
    "Yolov3Parameter.side": "the map tells it",
    "YoloDetectionOutputParameter.side": "the map tells it",
    "YoloDetectionOutputParameter.label_map_file": "names are for `sphereface run --draw`",
    "Yolov3Parameter.noobject_scale": "the fork does not use it",
    "LayerParameter.correlation_param": "refused, see ELSEWHERE",
    "BBoxRegParameter.cls_aware": "offsets that DecodeBBox takes are of no class",
    "LayerParameter.blobs": "weights, which sphereface.weights reads",
    "CTCLossParameter.loss_calculation_t": "the loss is the same at every step",
    "FocalLossParameter.beta": "of type LINEAR, which no fork computes",
    **dict.fromkeys(
        (f"{kind}Parameter.transform_test" for kind in _COSINE_MARGINS),
        "the fork changes cosines in TEST in any case",
    ),
    **dict.fromkeys(
        ("DetectionEvaluateParameter.name_size_file", "DetectionEvaluateParameter.resize_param"),
        "boxes are compared in shares of the image",
    ),
    **dict.fromkeys(
        (f"DetectionOutputParameter.{field}" for field in
         ("save_output_param", "visualize", "visualize_threshold", "save_file")),
        "writes and shows boxes; programs do: `sphereface run --draw`",
    ),
    **{f"LayerParameter.{field.name}": _RAW for field in _FORK_FIELDS},
}  # fmt: skip
REFUSED = {
    "WindowDataParameter": 'no reader for a layer of type "WindowData"',
    "AnnotatedDataParameter": 'no reader for a layer of type "AnnotatedData"',
    "VideoDataParameter": 'no reader for a layer of type "VideoData"',
    "DenseImageDataParameter": 'no reader for a layer of type "DenseImageData"',
    "ImageLabelDataParameter": 'no reader for a layer of type "ImageLabelData"',
}
_OF_ANNOTATED_DATA = "tests/caffe/layers/test_data_sources.py; refused with the layer's data"
ELSEWHERE = {
    "BlobProto": "tests/weights/test_blob.py",
    "CorrelationParameter": "tests/caffe/layers/test_correlation.py",
    "SaveOutputParameter": "see save_output_param",
    "ImageLabelDataParameter.Slice": "tests/caffe/layers/test_data_sources.py",
    **dict.fromkeys(
        ("BatchSampler", "Sampler", "SampleConstraint", "ResizeParameter", "NoiseParameter",
         "SaltPepperParameter", "DistortionParameter", "ExpansionParameter", "EmitConstraint",
         "RandomResizeParameter", "RandomAspectRatioParameter"),
        _OF_ANNOTATED_DATA,
    ),
}  # fmt: skip

IN = 'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: {} }} }} }}'
NETS = {
    "ImageSegData": """
        layer { name: "a" type: "ImageSegData" top: "a" top: "l"
          image_data_param { batch_size: 1 } transform_param { crop_h: 4 crop_w: 5 } }""",
    "CTCLoss": "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}"'
        f" input_param {{ shape {{ dim: {shape} }} }} }}"
        for name, shape in (("x", [4, 2, 3]), ("cont", [4, 2]), ("t", [4, 2]))
    )
    + 'layer { name: "l" type: "CTCLoss" bottom: "x" bottom: "cont" bottom: "t" top: "y" }',
    "CtcLoss": "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}"'
        f" input_param {{ shape {{ dim: {shape} }} }} }}"
        for name, shape in (("x", [4, 2, 3]), ("t", [2, 3]))
    )
    + """layer { name: "l" type: "CtcLoss" bottom: "x" bottom: "t" top: "y"
        ctc_loss_param { blank_label: 2 alphabet_size: 3 time_step: 4 } }""",
    "ParamSpec": IN.format([2, 3])
    + """
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param {
          num_output: 2 weight_filler { type: "constant" } bias_filler { type: "constant" } }
          param { name: "w" lr_mult: 2 decay_mult: 0 share_mode: STRICT } param { } }""",
    "Python": IN.format([2, 3])
    + """
        layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 } } }
        layer { name: "a" type: "Python" bottom: "x" bottom: "t" top: "a" python_param {
          module: "sphereface.python_layer" layer: "MarginInnerProductLayer"
          param_str: '{"num_output": 4}' } }""",
    "HDF5Output": IN.format([2, 3])
    + """
        layer { name: "a" type: "HDF5Output" bottom: "x" bottom: "x"
                hdf5_output_param { file_name: "a.h5" } }""",
    "InterClass": example(
        "InterClass",
        "num_output: 3 alpha_start_iter: 2 alpha_start_value: 1 alpha_stepvalue: 5",
        x=(2, 4),
        label=(2,),
    ).text(),
    "MemoryData": """
        layer { name: "a" type: "MemoryData" top: "a" top: "l" include { phase: TEST stage: "s" }
          memory_data_param { batch_size: 2 channels: 3 height: 4 width: 4 }
          transform_param { crop_size: 2 } }""",
    "InfogainLoss": example(
        "InfogainLoss", 'source: "infogain.binaryproto"', x=(2, 3), label=(2,)
    ).text(),
    "ImageData": """
        layer { name: "a" type: "ImageData" top: "a" top: "l"
          image_data_param { source: "list.txt" root_folder: "./" batch_size: 1 } }""",
    "Data": """
        layer { name: "a" type: "Data" top: "a" top: "l"
          data_param { source: "lmdb" backend: LMDB batch_size: 1 } }""",
    "HDF5Data": """
        layer { name: "a" type: "HDF5Data" top: "data"
          hdf5_data_param { source: "files.txt" batch_size: 1 } }""",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that NETS name."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("0.png", np.zeros((5, 4, 3), np.uint8))
    Path("list.txt").write_text("0.png 0\n")
    convert_imageset("./", "list.txt", "lmdb")
    write_binaryproto("infogain.binaryproto", np.eye(3, dtype=np.float32))
    with h5py.File("a.h5", "w") as file:
        file["data"] = np.zeros((2, 3), np.float32)
    Path("files.txt").write_text("a.h5\n")
    return tmp_path


def _read_by(text: str) -> set[str]:
    """The fields of a net's layers that are looked at until it is built and its data are open."""
    seen: set[str] = set()
    net = Read(load_file(text).net, seen)
    # As one, with the state that its rules are tried against.
    state = schema.message("NetState")(phase=schema.TEST, stage=["s"])
    kept_layers(SimpleNamespace(layer=net.layer, state=state))
    graph = build_graph(net, layer_class)
    with open_sources([(node.param, "") for node in graph.nodes]) or nullcontext() as sources:
        Net(graph, phase="TRAIN", input_shapes=sources.shapes if sources else None)
    return seen


def test_every_field_is_read_refused_or_ignored_for_a_reason(folder):
    read: set[str] = set()
    for text in [*NETS.values(), *(given.text() for given in examples().values())]:
        read |= _read_by(text)
    unread = {
        field for field in _fields() - read if field.partition(".")[0] not in {*REFUSED, *ELSEWHERE}
    }
    assert unread == set(IGNORED)


@pytest.mark.parametrize("message", REFUSED)
def test_refused_messages(message):
    kind = message.removesuffix("Parameter")
    net = load_file(f'layer {{ name: "a" type: "{kind}" top: "a" top: "l" }}').net
    with pytest.raises(SphereFaceError, match=REFUSED[message]):
        open_source(net.layer[0])
