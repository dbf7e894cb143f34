"""Ported source, run in a fresh process without sphereface, against the net and recordings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.deployable_nets import ALEXNET, GOOGLENET, LENET, SIAMESE
from reference.layer_examples import examples, inputs
from sphereface.caffe import load, register_layer
from sphereface.caffe.layer import Layer
from sphereface.caffe.registry import layer_class
from sphereface.checkpoints import write_state_dict
from sphereface.convert import pytorch_source
from sphereface.convert.port import SOURCE_LAYERS, number, source_layer
from sphereface.convert.state_dict import net_state
from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_path

GOLDEN = Path(__file__).parents[1] / "golden"
MTCNN, ORL = GOLDEN / "mtcnn", GOLDEN / "orl_sphereface4"
NETS = {
    "sphereface_20": (prototxt_path("sphereface_20_deploy"),),
    "orl": (ORL / "deploy.prototxt", ORL / "orl_iter_300.caffemodel"),
    "LeNet": (LENET,),
    "AlexNet": (ALEXNET,),
    "GoogLeNet": (GOOGLENET,),
    "siamese": (SIAMESE,),
    **{
        name: (given.text(),)
        for name, given in examples().items()
        if layer_class(given.type).function or given.type in SOURCE_LAYERS
    },
}
TOLERANCE = 1e-5  # relative, of the norm

RUN = """
import importlib.util, pathlib, sys, torch
sys.modules["sphereface"] = None
torch.set_num_threads(1)
for folder in pathlib.Path(sys.argv[1]).iterdir():
    spec = importlib.util.spec_from_file_location("ported", folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.Ported().eval()
    net.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    with torch.no_grad():
        top = net(*torch.load(folder / "inputs.pt", weights_only=True))
    torch.save(top, folder / "outputs.pt")
"""


def write_ported(net, folder, inputs):
    folder.mkdir()
    (folder / "net.py").write_text(pytorch_source(net, "Ported", f"{folder.name}.prototxt"))
    write_state_dict(net_state(net), folder / "weights.pt")
    torch.save(inputs, folder / "inputs.pt")


def run_ported(root):
    subprocess.run([sys.executable, "-I", "-c", RUN, str(root)], check=True, timeout=120)


@pytest.fixture(scope="module")
def nets():
    return {}


@pytest.fixture
def ported(nets, build, tmp_path_factory):
    """Outputs of every net of `NETS`, and the folder of the ported one, which has run."""
    if nets:
        return nets
    root = tmp_path_factory.mktemp("ported")
    for name, files in NETS.items():
        net = build(*files)
        given = inputs(net, int(name not in examples() or examples()[name].batch))
        write_ported(net, root / name, given)
        with torch.no_grad():
            nets[name] = (net(*given), root / name)
    run_ported(root)
    return nets


@pytest.mark.parametrize("name", NETS)
def test_same_numbers_without_the_package(name, ported):
    assert_ran_as(*ported[name])


def test_the_released_mtcnn_gives_the_recorded_numbers(mtcnn, build, tmp_path):
    golden = np.load(MTCNN / "nets.npz")
    expected = {}
    for name in ("det1", "det2", "det3"):
        net = build(MTCNN / f"{name}.prototxt", mtcnn / f"{name}.caffemodel")
        write_ported(net, tmp_path / name, [torch.from_numpy(golden[f"{name}/in/data"])])
        expected[name] = {top: torch.from_numpy(golden[f"{name}/out/{top}"]) for top in net.outputs}
    run_ported(tmp_path)
    for name, tops in expected.items():
        assert_ran_as(tops, tmp_path / name)


def assert_ran_as(expected, folder):
    found = torch.load(folder / "outputs.pt", weights_only=True)
    if len(expected) == 1:
        found = {next(iter(expected)): found}
    assert list(found) == list(expected)
    for top, value in expected.items():
        assert found[top].shape == value.shape
        finite = value.isfinite()
        assert torch.equal(found[top].isfinite(), finite)
        difference = (found[top] - value)[finite].double().norm()
        assert value[finite].double().norm() > 0
        assert difference <= TOLERANCE * value[finite].double().norm(), top


def test_the_source_of_a_sphereface_reads_well():
    """The whole of it, because its looks are the point."""
    text = pytorch_source(load(prototxt_path("sphereface_4_deploy")), made_from="net.prototxt")
    assert (
        text
        == '''"""SpherefaceNet-4: a Caffe net as PyTorch code, with the same numbers.

Made by `sphereface port` from net.prototxt. Needs torch only.
Weights are those that `sphereface convert` writes:

    net = SpherefaceNet4().eval()
    net.load_state_dict(torch.load("weights.pt", weights_only=True))
"""

from torch import Tensor, nn


class SpherefaceNet4(nn.Module):
    """Built for data (1, 3, 112, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1_1 = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.relu1_1 = nn.PReLU(64)
        self.conv2_1 = nn.Conv2d(64, 128, 3, stride=2, padding=1)
        self.relu2_1 = nn.PReLU(128)
        self.conv3_1 = nn.Conv2d(128, 256, 3, stride=2, padding=1)
        self.relu3_1 = nn.PReLU(256)
        self.conv4_1 = nn.Conv2d(256, 512, 3, stride=2, padding=1)
        self.relu4_1 = nn.PReLU(512)
        self.fc5 = nn.Linear(21504, 512)

    def forward(self, data: Tensor) -> Tensor:
        """Return fc5."""
        conv1_1 = self.conv1_1(data)
        conv1_1 = self.relu1_1(conv1_1)
        conv2_1 = self.conv2_1(conv1_1)
        conv2_1 = self.relu2_1(conv2_1)
        conv3_1 = self.conv3_1(conv2_1)
        conv3_1 = self.relu3_1(conv3_1)
        conv4_1 = self.conv4_1(conv3_1)
        conv4_1 = self.relu4_1(conv4_1)
        fc5 = self.fc5(conv4_1.flatten(1))
        return fc5
'''
    )


def test_names_that_python_does_not_allow_and_long_lines():
    text = pytorch_source(load(GOOGLENET))
    assert 'conv1_7x7_s2 = self.get_submodule("conv1/7x7_s2")(data)' in text
    assert "pool1_norm1 = lrn(pool1_3x3_s2, size=5, alpha=0.0001, beta=0.75, k=1.0, " in text
    assert "pool5_drop" not in text
    assert "pool5_7x7_s1 = F.dropout(pool5_7x7_s1, 0.5, self.training)" in text
    assert all(len(line) <= 100 for line in text.splitlines())


BATCH_NORM_SCALE = (
    'input: "x" input_shape { dim: 1 dim: 4 dim: 5 dim: 6 }'
    'layer { name: "l" type: "BatchNorm" bottom: "x" top: "y" }'
    'layer { name: "s" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }'
)


def test_only_the_definitions_that_are_used(build):
    text = pytorch_source(build(BATCH_NORM_SCALE))
    defined = re.findall(r"^(?:class|def) (\w+)", text, re.MULTILINE)
    assert defined == ["Blobs", "batch_statistics", "batch_norm", "spread", "scale", "Net"]


def test_shared_parameters_are_one(ported):
    text = (ported["siamese"][1] / "net.py").read_text()
    assert "self.feat_p.weight = self.feat.weight" in text
    assert "self.feat_p.bias = self.feat.bias" in text


def test_blob_names_cannot_shadow_or_clash():
    text = pytorch_source(
        load(
            'input: "F" input_shape { dim: 2 dim: 3 }\n'
            'layer { name: "a" type: "ReLU" bottom: "F" top: "in" }'
            'layer { name: "b" type: "ReLU" bottom: "in" top: "a/b" }'
            'layer { name: "c" type: "ReLU" bottom: "a/b" top: "a-b" }'
            'layer { name: "d" type: "ReLU" bottom: "a-b" top: "1" }'
        )
    )
    assert "def forward(self, F_: Tensor) -> Tensor:" in text
    for line in ("in_ = F.relu(F_)", "a_b = F.relu(in_)", "a_b_ = F.relu(a_b)"):
        assert line in text
    assert "blob_1 = F.relu(a_b_)\n        return blob_1" in text


def test_nothing_in_a_prototxt_becomes_code():
    text = pytorch_source(
        load(
            'name: "\\"\\"\\"\\nraise SystemExit(1)\\n\\"\\"\\""\n'
            'input: "x" input_shape { dim: 2 dim: 3 }\n'
            'layer { name: "\\");raise(\\"" type: "PReLU" bottom: "x" top: "y\\"\\"\\"" }'
        ),
        "Ported",
        'a"""b.prototxt',
    )
    names = {}
    exec(compile(text, "ported", "exec"), names)
    assert names["Ported"]()(torch.ones(2, 3)).shape == (2, 3)


def test_training_batch_norm_accumulates_as_caffe(build):
    net = build(BATCH_NORM_SCALE, phase="TEST")
    names = {}
    exec(compile(pytorch_source(net, "Ported"), "ported", "exec"), names)
    port = names["Ported"]().train()
    port.load_state_dict(net.state_dict())
    net.train()
    for _ in range(3):
        x = torch.randn(4, 4, 5, 6)
        torch.testing.assert_close(port(x), net(x)["y"])
    for key, blob in net.state_dict().items():
        torch.testing.assert_close(port.state_dict()[key], blob)


def test_errors(build):
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 }\ninput: "t" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "cost" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "y" }'
    )
    with pytest.raises(SphereFaceError, match=r':3: layer "cost" \(EuclideanLoss\): .* no PyTorch'):
        pytorch_source(build(text))
    with pytest.raises(SphereFaceError, match="phase TRAIN; expected phase TEST"):
        pytorch_source(build(LENET, phase="TRAIN"))
    with pytest.raises(SphereFaceError, match='"a b" is no name for a class'):
        pytorch_source(build(LENET), "a b")
    with pytest.raises(SphereFaceError, match="PERMISSIVE"):
        pytorch_source(load(_reshaped_sharing()))


def _reshaped_sharing() -> str:
    """Two layers that share a weight as (2, 3) and (3, 2)."""
    shared = 'param { name: "w" share_mode: PERMISSIVE } inner_product_param { bias_term: false'
    return (
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        f'layer {{ name: "a" type: "InnerProduct" bottom: "x" top: "a" {shared} num_output: 2 }} }}'
        f'layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {shared} num_output: 3 }} }}'
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float(np.float32(1e-4)), "0.0001"),
        (2.0, "2.0"),
        (np.pi, "3.141592653589793"),
        (np.inf, 'float("inf")'),
    ],
)
def test_numbers_are_written_as_in_the_prototxt(value, text):
    assert number(value) == text


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Return x + SHIFT."""
    return x + SHIFT


def gain(x: torch.Tensor, *, factor: float) -> torch.Tensor:
    """Return `factor` times x + SHIFT, as a function of more than one expression."""
    y = shifted(x)
    return factor * y


SHIFT = 0.25


def test_the_function_of_a_type_of_ones_own_with_all_that_it_uses():
    @register_layer("PortTestFunction")
    class Function(Layer):
        function = staticmethod(gain)

        def setup(self, bottom_shapes):
            self.factor = 3.0

    net = load(
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "l" type: "PortTestFunction" bottom: "x" top: "gain" }'
    )
    text, names = pytorch_source(net, "Ported"), {}
    exec(compile(text, "ported", "exec"), names)
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    assert names["Ported"]()(x).tolist() == (3 * x + 0.75).tolist() == net(x)["gain"].tolist()
    # The blob gives way to the function of that name.
    assert "gain_ = gain(x, factor=3.0)" in text


def test_what_cannot_be_printed_is_told(build):
    table = torch.zeros(3)

    @register_layer("PortTestClosure")
    class Closure(Layer):
        function = staticmethod(lambda x, *, table: x + table)

        def setup(self, bottom_shapes):
            self.table = table

    net = build(
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "l" type: "PortTestClosure" bottom: "x" top: "y" }'
    )
    with pytest.raises(SphereFaceError, match=r':2: layer "l" .*cannot be printed: .*no text'):
        pytorch_source(net)


def test_a_type_of_ones_own(build):
    @register_layer("PortTestGain")
    class Gain(Layer):
        def forward(self, x):
            return 3 * x

    @source_layer("PortTestGain")
    def gain(writer, layer, x):
        return f"3 * {x}"

    net = build(
        'input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "l" type: "PortTestGain" bottom: "x" top: "y" }'
    )
    assert "        y = 3 * x\n" in pytorch_source(net)
    del SOURCE_LAYERS["PortTestGain"]
