"""Nets as the Caffe world wrote them: each builds, has its published size, and learns.

The files in legacy/ are written for these tests in the styles of BVLC's models and examples, of
model zoo nets and of the face recognition forks: old formats, phases and stages, shared parameters.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from reference.legacy_nets import BOTH, NETS
from sphereface.caffe import Net, load
from sphereface.caffe.graph import NetGraph
from sphereface.caffe.load import load_graph
from sphereface.errors import ProblemsError

FOLDER = Path(__file__).parent / "legacy"
TESTED = [name for name in NETS if NETS[name].phases == BOTH and not name.endswith("deploy")]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another on a busy machine take several times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def voc_layers(monkeypatch):
    """The module of FCN's data layer: an image and its labels, out of thin air."""

    class VOCSegDataLayer:
        def setup(self, bottom, top):
            settings = eval(self.param_str)  # as the original does
            self.generator = np.random.default_rng(settings["seed"])

        def reshape(self, bottom, top):
            top[0].reshape(1, 3, 107, 141)
            top[1].reshape(1, 1, 107, 141)

        def forward(self, bottom, top):
            top[0].data[...] = self.generator.normal(size=top[0].data.shape)
            top[1].data[...] = self.generator.integers(0, 21, top[1].data.shape)
            top[1].data[..., :2] = 255

        def backward(self, top, propagate_down, bottom):
            pass

    module = ModuleType("voc_layers")
    module.VOCSegDataLayer = VOCSegDataLayer
    monkeypatch.setitem(sys.modules, "voc_layers", module)


def graph(name: str, phase: str) -> NetGraph:
    stages = NETS[name].stages if phase == "TEST" else ()
    return load_graph(FOLDER / f"{name}.prototxt", phase, 0, stages)


def small_net(name: str, phase: str, fill: bool = True) -> Net:
    """At the small sizes, with the file's fillers or with weights of the test."""
    shapes = NETS[name].small
    net = Net(graph(name, phase), phase=phase, input_shapes=shapes, fill=fill)
    if not fill:
        initialise(net)
    return net


def values(name: str) -> dict[str, torch.Tensor]:
    """Random images; labels and marks in their range."""
    tensors = {}
    for key, shape in NETS[name].small.items():
        if key in ("label", "input_sentence", "target_sentence"):
            tensors[key] = torch.randint(0, 2, shape).float()
        elif key in ("sim", "cont_sentence", "clip_markers"):
            tensors[key] = (torch.arange(prod(shape)) % 3 > 0).float().reshape(shape)
        else:
            tensors[key] = torch.randn(shape) if name != "mnist_autoencoder" else torch.rand(shape)
    return tensors


def initialise(net: Net) -> None:
    """Give a net whose file has no fillers weights that keep the scale of its blobs."""
    with torch.no_grad():
        for layer in net.layers:
            if layer.type in ("Deconvolution", "PReLU"):  # they have theirs
                layer.fill()
                continue
            for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
                if name in ("bias", "mean"):
                    blob.zero_()
                elif blob.dim() == 1 or name == "variance":
                    blob.fill_(1)
                else:
                    blob.normal_(0, (2 / blob[0].numel()) ** 0.5)


def test_every_file_has_a_row():
    assert sorted(NETS) == sorted(path.stem for path in FOLDER.glob("*.prototxt"))


@pytest.mark.parametrize("name", NETS)
def test_sizes_are_the_published_ones(name):
    case = NETS[name]
    for phase in case.phases:
        net = Net(graph(name, phase), phase=phase, input_shapes=case.inputs, fill=False)
        assert sum(blob.tensor.numel() for blob in net.learnable_blobs()) == case.parameters
        assert {blob: net.blob_shapes[blob][1:] for blob in case.shapes} == case.shapes
    assert len(case.shapes) > 0


@pytest.mark.parametrize("name", NETS)
def test_nets_learn(name):
    case = NETS[name]
    net = small_net(
        name, "TEST" if name.endswith("deploy") else "TRAIN", fill=case.loss is not None
    )
    # A softmax of large scores has no gradient.
    scores = [layer.layer_param.bottom[0] for layer in net.layers if layer.type == "Softmax"]
    outputs = net(values(name), blobs=scores)
    if net.loss_weights:
        loss = net.loss(outputs)
    else:
        (top,) = scores or net.outputs
        loss = (outputs[top] * torch.randn_like(outputs[top])).sum()
    if case.loss:
        expected, tolerance = case.loss
        assert abs(loss.item() - expected) < tolerance
    if "prob" in outputs:
        torch.testing.assert_close(outputs["prob"].sum(1), torch.ones_like(outputs["prob"][:, 0]))
    loss.backward()
    learning = {}
    for blob in net.learnable_blobs():
        if blob.tensor.requires_grad:
            learning[blob.key] = float(blob.tensor.grad.abs().max())
        else:
            assert blob.lr_mult == 0 or blob.layer.type == "BatchNorm", blob.key
    assert np.isfinite(list(learning.values())).all()
    still = {key for key in learning if any(fnmatch(key, pattern) for pattern in case.still)}
    assert {key for key, size in learning.items() if size == 0} <= still
    assert all(learning[key] <= 1e-5 * max(learning.values()) for key in still)
    assert len(learning) > len(still) >= len(case.still)


@pytest.mark.parametrize("name", TESTED)
def test_training_nets_are_tested(name):
    net = small_net(name, "TEST", fill=False)
    with torch.no_grad():
        outputs = net(values(name))
    assert all(value.isfinite().all() for value in outputs.values())
    for blob, value in outputs.items():
        if "accuracy" in blob or "top-" in blob:
            assert 0 <= float(value) <= 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("caffenet_v0_train", "caffenet_train_val"),
        ("caffenet_v1_train_val", "caffenet_train_val"),
        ("caffenet_v1_deploy", "rcnn_deploy"),
        ("lenet_v1_train_test", "lenet_train_test"),
    ],
)
def test_old_formats_say_what_the_current_one_says(old, new):
    nets = [{node.name: node.param for node in graph(name, "TRAIN").nodes} for name in (old, new)]
    same = [name for name in nets[0] if name.startswith(("conv", "relu", "pool", "drop", "ip"))]
    same += [name for name in nets[0] if name.startswith(("norm", "fc")) and name != "fc8"]
    assert len(same) >= 7
    for name in same:
        assert nets[0][name] == nets[1][name]


@pytest.mark.parametrize("trained", ["lenet_train_test", "lenet_v1_train_test"])
def test_weights_of_a_training_net_load_by_name(trained, tmp_path):
    net = small_net(trained, "TEST").eval()
    net.save(tmp_path / "lenet.caffemodel")
    deploy = load(FOLDER / "lenet_deploy.prototxt", tmp_path / "lenet.caffemodel")
    assert set(deploy.load_report.loaded) == {"conv1", "conv2", "ip1", "ip2"}
    inputs = values(trained)
    expected = net(inputs, blobs=["ip2"])["ip2"].softmax(1)
    torch.testing.assert_close(deploy(inputs["data"])["prob"], expected)


def test_shared_halves_are_one_set_of_weights():
    net = small_net("siamese_train_test", "TRAIN")
    keys = [blob.key for blob in net.learnable_blobs()]
    assert keys == [f"{n}.{b}" for n in ("conv1", "conv2", "ip1", "ip2", "feat") for b in
                    ("weight", "bias")]  # fmt: skip
    outputs = net(values("siamese_train_test"), blobs=["feat", "feat_p"])
    assert not outputs["feat"].allclose(outputs["feat_p"])
    twins = torch.randn(2, 1, 28, 28).expand(2, 2, 28, 28)
    outputs = net({"pair_data": twins, "sim": torch.ones(2)}, blobs=["feat", "feat_p"])
    assert outputs["feat"].equal(outputs["feat_p"])
    assert outputs["loss"].item() == 0


def test_a_net_without_data_in_the_phase():
    with pytest.raises(ProblemsError, match=r"normface_train.prototxt: 2 problems") as caught:
        load(FOLDER / "normface_train.prototxt")
    for blob, error in zip(("data", "label"), caught.value.problems, strict=True):
        assert f'unknown bottom blob "{blob}"' in error.problem
        assert 'train.prototxt:2: layer "data" (ImageData) makes it, which phase TEST' in error.fix
