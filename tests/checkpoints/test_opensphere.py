"""OpenSphere's backbones, written again with their keys, against what is made of their files."""

from __future__ import annotations

import collections

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sphereface.caffe import load
from sphereface.checkpoints import from_opensphere, is_opensphere, opensphere_prototxt
from sphereface.cli.main import main
from sphereface.convert.state_dict import net_state
from sphereface.errors import SphereFaceError

WIDTHS, EMBEDDING = (6, 8, 10, 12), 16


def conv(below, width, kernel=3, stride=1, bias=True):
    return nn.Conv2d(below, width, kernel, stride, kernel // 2, bias=bias)


def bn(width, norm=True):
    return nn.BatchNorm2d(width) if norm else nn.Identity()


class SFUnit(nn.Module):
    """ConvBlock, BasicBlock (2 convolutions) or Bottleneck (3), with or without normalisation."""

    def __init__(self, below, width, kernels, norm, stride=1):
        super().__init__()
        inner = [width // 2] * 2 + [width] if len(kernels) == 3 else [width] * len(kernels)
        self.residual = len(kernels) > 1
        for i, (kernel, out) in enumerate(zip(kernels, inner, strict=True), 1):
            self.add_module(f"conv{i}", conv(below, out, kernel, stride, not norm))
            self.add_module(f"bn{i}", bn(out, norm))
            below = out
        self.count = len(kernels)

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i == self.count and self.residual:
                y = y + x
            y = F.relu(y)
        return y


class SFNet(nn.Module):
    def __init__(self, units, norm=False, kernels=(3, 3)):
        super().__init__()
        below = 3
        for stage, (count, width) in enumerate(zip(units, WIDTHS, strict=True), 1):
            first = SFUnit(below, width, (3,), norm, 2)
            rest = [SFUnit(width, width, kernels, norm) for _ in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
            below = width
        self.fc = nn.Linear(below * 49, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING) if norm else nn.Identity()

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(x.flatten(1)))


class OldUnit(nn.Module):
    def __init__(self, below, width, first):
        super().__init__()
        if first:
            self.conv = conv(below, width, stride=2)
        else:
            self.conv1, self.conv2 = conv(below, width), conv(width, width)

    def forward(self, x):
        if hasattr(self, "conv"):
            return self.conv(x).relu()
        return x + self.conv2(self.conv1(x).relu()).relu()


class OldSFNet(SFNet):
    """``sfnet*_deprecated``: SphereFace's own units, with ReLU."""

    def __init__(self, units):
        nn.Module.__init__(self)
        below = 3
        for stage, (count, width) in enumerate(zip(units, WIDTHS, strict=True), 1):
            stack = [OldUnit(below if not i else width, width, not i) for i in range(count + 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*stack))
            below = width
        self.fc, self.features = nn.Linear(below * 49, EMBEDDING), nn.Identity()


class IUnit(nn.Module):
    def __init__(self, below, width, first):
        super().__init__()
        self.bn1, self.conv1 = bn(below), conv(below, width, bias=False)
        self.bn2, self.prelu = bn(width), nn.PReLU(width)
        self.conv2, self.bn3 = conv(width, width, 3, 2 if first else 1, False), bn(width)
        self.downsample = None
        if first:
            self.downsample = nn.Sequential(conv(below, width, 1, 2, False), bn(width))

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self, units):
        super().__init__()
        below = 5
        self.conv1, self.bn1, self.prelu = conv(3, below, bias=False), bn(below), nn.PReLU(below)
        for stage, (count, width) in enumerate(zip(units, WIDTHS, strict=True), 1):
            stack = [IUnit(width if i else below, width, not i) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*stack))
            below = width
        self.bn2, self.fc = bn(below), nn.Linear(below * 49, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.features(self.fc(x.flatten(1)))


NETS = {
    "SFNet-20": lambda: SFNet([1, 2, 4, 1]),
    "SFNet-10": lambda: SFNet([0, 1, 2, 0], norm=True),
    "SFNet-16": lambda: SFNet([1, 2, 0, 1], norm=True, kernels=(1, 3, 1)),
    "SFNet-10 of the first papers": lambda: OldSFNet([0, 1, 2, 0]),
    "IResNet-18": lambda: IResNet([2, 2, 2, 2]),
}


def randomised(model):
    """Make every parameter and statistic random: a swap of two of one shape would show."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.dim() == 1:
            tensor.normal_(0.3, 0.2)
        elif tensor.dim() > 1:
            nn.init.kaiming_normal_(tensor)
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(3, 3, 112, 112)


@pytest.fixture(params=NETS)
def port(request):
    return request.param, randomised(NETS[request.param]())


def test_backbones_become_nets_prototxts_and_caffemodels(port, images, tmp_path, capsys):
    name, model = port
    file, deploy, caffemodel = (str(tmp_path / n) for n in ("b.pth", "d.prototxt", "n.caffemodel"))
    torch.save(model.state_dict(), file)
    with torch.no_grad():
        expected = model(images)
        (found,) = load(file)(images).values()
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert main(["upgrade", file, deploy]) == 0
    assert main(["convert", file, file, caffemodel]) == 0
    assert main(["convert", deploy, file, str(tmp_path / "n.pt")]) == 0
    again = load(deploy, caffemodel)
    assert again.name == name.split()[0]
    assert torch.equal(*(next(iter(net(images).values())) for net in (again, load(caffemodel))))
    assert torch.equal(next(iter(again(images).values())), found)
    state = torch.load(tmp_path / "n.pt", weights_only=True)
    assert all(torch.equal(state[key], tensor) for key, tensor in net_state(again).items())


def test_checkpoints_with_head_optimiser_and_wrappers(images, tmp_path):
    model = randomised(SFNet([0, 0, 0, 0]))
    plain = model.state_dict()
    wrapped = {f"module.{key}": tensor for key, tensor in plain.items()}
    both = {"backbone": wrapped, "head": {"module.w": torch.randn(EMBEDDING, 9)}}
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2])
    assert isinstance(schedule.state_dict()["milestones"], collections.Counter)
    training = {"step": 5, "epoch": 1, "model": both, "optimizer": optimiser.state_dict(),
                "scheduler": schedule.state_dict(), "scaler": {}}  # fmt: skip
    for number, checkpoint in enumerate([wrapped, both, training]):
        torch.save(checkpoint, tmp_path / f"{number}.pth")
        (found,) = load(tmp_path / f"{number}.pth")(images).values()
        with torch.no_grad():
            assert torch.allclose(found, model(images), rtol=1e-5, atol=1e-5)


def test_every_key_and_shape_is_checked():
    state = SFNet([0, 1, 0, 0], norm=True).state_dict()
    assert is_opensphere(state)
    bent = {**state, "layer2.1.bn3.weight": torch.ones(8), "fc.bias": torch.ones(3)}
    del bent["layer2.1.bn2.weight"]
    for use in (from_opensphere, opensphere_prototxt):
        with pytest.raises(SphereFaceError) as raised:
            use(bent, "b.pth")
        assert str(raised.value) == (
            'b.pth: no "layer2.1.bn2.weight" (8,); "fc.bias" has shape (3,), expected (16,); '
            'unexpected "layer2.1.bn3.weight" (did you mean "layer2.1.bn2.weight"?); '
            "expected the parameters of an SFNet or IResNet of OpenSphere"
        )
    cut = {key: tensor for key, tensor in state.items() if not key.startswith("layer3")}
    with pytest.raises(SphereFaceError, match='no "layer3.0.conv1.weight"'):
        from_opensphere(cut)
    with pytest.raises(SphereFaceError, match=r'"fc.weight" has .* expected 588 columns, of 12 ch'):
        from_opensphere({**state, "fc.weight": torch.ones(16, 48)})


def test_other_residual_nets_are_not_taken_for_one(tmp_path, capsys):
    torchvision = {key: torch.ones(2, 2, 1, 1) for key in ("conv1.weight", "layer1.0.conv1.weight")}
    torchvision["fc.weight"] = torch.ones(2, 2)
    assert not is_opensphere(torchvision)
    torch.save(torchvision, tmp_path / "resnet.pth")
    with pytest.raises(SphereFaceError, match="weights without their net; expected a prototxt"):
        load(tmp_path / "resnet.pth")
    torch.save({"w": torch.ones(512, 9)}, tmp_path / "head.pth")
    assert main(["convert", "sphereface_4_deploy", str(tmp_path / "head.pth"), "x.pt"]) == 2
    assert "a head of OpenSphere" in capsys.readouterr().err
