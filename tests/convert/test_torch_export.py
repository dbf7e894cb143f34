"""TorchExport programs: the numbers of the net, at other batch and image sizes, without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference.deployable_nets import GOOGLENET, SIAMESE
from reference.layer_examples import examples, inputs
from sphereface.caffe import load, register_layer
from sphereface.caffe.layer import Layer
from sphereface.convert.torch_export import write_torch_export
from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_path

MTCNN = Path(__file__).parents[1] / "golden" / "mtcnn"


def assert_runs_as(net, path, tensors):
    found, expected = torch.export.load(path).module()(*tensors), net(*tensors)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        difference = (found[name] - value).norm()
        assert difference <= 1e-5 * value.norm(), name
        assert value.norm() > 0


def test_det1_on_images_of_any_size(mtcnn, tmp_path):
    net = load(MTCNN / "det1.prototxt", mtcnn / "det1.caffemodel")
    write_torch_export(net, tmp_path / "net.pt2", images=True)
    program = torch.export.load(tmp_path / "net.pt2").module()
    golden = np.load(MTCNN / "nets.npz")
    outputs = program(torch.from_numpy(golden["det1/in/data"]))
    for name, value in outputs.items():
        expected = golden[f"det1/out/{name}"]
        difference = np.linalg.norm(value.detach().numpy() - expected)
        assert difference <= 1e-5 * np.linalg.norm(expected)
    # One window: every spatial axis of the tops is 1.
    assert_runs_as(net, tmp_path / "net.pt2", [torch.randn(1, 3, 12, 12)])


@pytest.mark.parametrize(
    ("text", "batches"),
    # torch's export of a flattened slice refuses a batch of 1.
    [(GOOGLENET, (1, 2, 5)), (examples()["reshape.infer"].text(), (1, 2, 5)), (SIAMESE, (2, 5))],
    ids=["GoogLeNet", "reshape", "siamese"],
)
def test_any_batch(text, batches, build, tmp_path):
    net = build(text)
    write_torch_export(net, tmp_path / "net.pt2")
    built = net.blob_shapes[net.inputs[0]][0]
    for more in [batch - built for batch in batches]:
        assert_runs_as(net, tmp_path / "net.pt2", inputs(net, more))


def test_sphereface(build, tmp_path):
    net = build(prototxt_path("sphereface_4_deploy"))
    write_torch_export(net, tmp_path / "net.pt2")
    assert_runs_as(net, tmp_path / "net.pt2", inputs(net, 2))


def test_what_torch_cannot_export_is_told(build, tmp_path):
    @register_layer("ExportTestBranch")
    class Branch(Layer):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    net = build(
        'name: "branching" input: "x" input_shape { dim: 4 dim: 3 }\n'
        'layer { name: "l" type: "ExportTestBranch" bottom: "x" top: "y" }'
    )
    with pytest.raises(SphereFaceError, match=r'net\.pt2: torch\.export cannot take .*"branching"'):
        write_torch_export(net, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
