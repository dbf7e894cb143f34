"""sphere20a, written again here, against SphereFace-20 from the prototxt, both ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sphereface.caffe import load
from sphereface.checkpoints import from_clcarwin, is_clcarwin, to_clcarwin
from sphereface.convert.formats import load_net, save_net
from sphereface.convert.state_dict import net_state
from sphereface.errors import SphereFaceError
from sphereface.resources import prototxt_path

CLASSES = 10574


class AngleLinear(nn.Module):
    """Cosines times the norm of x; the weight is (K, N)."""

    def __init__(self, features, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, classes) / features**0.5)

    def forward(self, x):
        return x @ (self.weight / self.weight.norm(dim=0))


class Sphere20a(nn.Module):
    def __init__(self, classes=CLASSES):
        super().__init__()
        below = 3
        for stage, (units, width) in enumerate([(1, 64), (2, 128), (4, 256), (1, 512)], 1):
            for conv in range(1, 2 * units + 2):
                stride = 2 if conv == 1 else 1
                setattr(self, f"conv{stage}_{conv}", nn.Conv2d(below, width, 3, stride, 1))
                setattr(self, f"relu{stage}_{conv}", nn.PReLU(width))
                below = width
        self.fc5 = nn.Linear(512 * 7 * 6, 512)
        self.fc6 = AngleLinear(512, classes)

    def features(self, x):
        for stage, units in enumerate([1, 2, 4, 1], 1):
            x = self.unit(x, stage, 1)
            for conv in range(2, 2 * units + 2, 2):
                x = x + self.unit(self.unit(x, stage, conv), stage, conv + 1)
        return self.fc5(x.view(x.size(0), -1))

    def unit(self, x, stage, conv):
        return getattr(self, f"relu{stage}_{conv}")(getattr(self, f"conv{stage}_{conv}")(x))

    def forward(self, x):
        return self.fc6(self.features(x))


@pytest.fixture(scope="module")
def port():
    """Every parameter random: a swap of two of one shape would show."""
    torch.manual_seed(20)
    model = Sphere20a()
    for name, parameter in model.named_parameters():
        if name.startswith("relu"):
            nn.init.uniform_(parameter, 0.1, 0.4)
        elif "conv" in name and name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, 0.25)
            parameter.data *= 0.7
        elif name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 112, 96, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def train_net():
    text = prototxt_path("sphereface_20_train").read_text().replace("10572", str(CLASSES))
    shapes = {"data": (2, 3, 112, 96), "label": (2,)}
    return load(text, phase="TRAIN", input_shapes=shapes)


def assert_close(found, expected):
    assert expected.norm() > 1
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_checkpoint_to_caffemodel_and_its_features(port, images, tmp_path):
    # As its training script saves it from DataParallel.
    state = {f"module.{key}": value for key, value in port.state_dict().items()}
    torch.save(state, tmp_path / "sphere20a.pth")
    net = load(prototxt_path("sphereface_20_deploy"))
    left = load_net(net, tmp_path / "sphere20a.pth")
    assert left == ["fc6: the classifier of 10574 classes; no such layer in the net"]
    save_net(net, tmp_path / "sphere20a.caffemodel")
    again = load(prototxt_path("sphereface_20_deploy"), tmp_path / "sphere20a.caffemodel")
    with torch.no_grad():
        assert_close(again(images)["fc5"], port.features(images))


def test_the_classifier_has_its_rows(port, images, train_net, tmp_path):
    """The logits of MarginInnerProduct in TEST with lambda infinite are AngleLinear's cosines."""
    torch.save(port.state_dict(), tmp_path / "sphere20a.pth")
    assert load_net(train_net, tmp_path / "sphere20a.pth", "clcarwin") == []
    weight = train_net.layer("fc6").weight.detach()
    assert weight.shape == (CLASSES, 512)
    with torch.no_grad():
        features = port.features(images)
        logits = features @ torch.nn.functional.normalize(weight).t()
        assert_close(logits, port(images))
    save_net(train_net, tmp_path / "with_fc6.caffemodel")
    deploy = load(prototxt_path("sphereface_20_deploy"), tmp_path / "with_fc6.caffemodel")
    assert list(deploy.load_report.skipped) == ["fc6"]
    with torch.no_grad():
        assert_close(deploy(images)["fc5"], features)


def test_caffemodel_to_checkpoint(port, images, train_net, tmp_path):
    """Back: a net's own random weights into the port's class."""
    with torch.no_grad():
        for parameter in train_net.parameters():
            parameter.normal_(0, 0.04)
    save_net(train_net, tmp_path / "net.pth", "clcarwin")
    model = Sphere20a().eval()
    model.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    deploy = load(prototxt_path("sphereface_20_deploy"))
    deploy.copy_from(
        {
            layer.name: [b.detach().numpy() for b in layer.blobs]
            for layer in train_net.layers
            if layer.name != "fc6"
        }
    )
    with torch.no_grad():
        features = deploy(images)["fc5"]
        assert_close(model.features(images), features)
        weight = train_net.layer("fc6").weight
        assert_close(model(images), features @ torch.nn.functional.normalize(weight).t())


def test_there_and_back_is_the_same(port):
    state = port.state_dict()
    again = to_clcarwin(from_clcarwin(state))
    assert list(again) == list(state)
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_known_by_its_keys(port, train_net):
    assert is_clcarwin(port.state_dict())
    assert not is_clcarwin(net_state(train_net))
    assert not is_clcarwin(net_state(load(prototxt_path("sphereface_4_deploy"))))
    # With as many classes as features the shape does not tell.
    state = dict(port.state_dict(), **{"fc6.weight": torch.zeros(512, 512)})
    assert not is_clcarwin(state)


def test_errors_name_keys_and_shapes(port):
    state = dict(port.state_dict())
    state["conv1_1.wieght"] = state.pop("conv1_1.weight")
    state["fc5.bias"] = torch.zeros(256)
    state["fc6.weight"] = state["fc6.weight"].t()
    with pytest.raises(SphereFaceError) as caught:
        from_clcarwin(state, "sphere20a.pth")
    message = str(caught.value)
    assert message.startswith('sphere20a.pth: no "conv1_1.weight"; "fc5.bias" has shape (256,)')
    assert 'unexpected "conv1_1.wieght" (did you mean "conv1_1.weight"?)' in message
    assert '"fc6.weight" has shape (10574, 512), expected (512, classes)' in message


def test_another_number_of_classes_is_told(port, tmp_path):
    torch.save(port.state_dict(), tmp_path / "sphere20a.pth")
    shapes = {"data": (1, 3, 112, 96), "label": (1,)}
    net = load(prototxt_path("sphereface_20_train"), phase="TRAIN", input_shapes=shapes)
    with pytest.raises(SphereFaceError, match=r"\(10574, 512\) in the file and \(10572, 512\)"):
        load_net(net, tmp_path / "sphere20a.pth")
