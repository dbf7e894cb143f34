"""OpenSphere's backbones: their state dicts as our nets, prototxt and blobs.

Source: github.com/ydwen/opensphere, PyTorch by SphereFace's authors: SFNets with and without batch
normalisation, of plain and of bottleneck units, the SFNets of its first papers
(``sfnet20_deprecated``), and IResNets, whose keys those of insightface's have too. Images are
112 x 112, RGB, (pixel - 127.5) / 127.5. What differs: a layer is named as its module, with ``_``
for the dots; a BatchNorm becomes Caffe's BatchNorm and a Scale; Dropout is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sphereface.checkpoints.module_layers import ModuleLayers
from sphereface.errors import SphereFaceError

__all__ = ["from_opensphere", "is_opensphere", "opensphere_prototxt"]

_STAGES = (1, 2, 3, 4)
# What four strides of 2 leave of an image: pixels to height and width.
_SIZES = {49: (112, 112), 42: (112, 96)}
_TOLD = "the parameters of an SFNet or IResNet of OpenSphere"


def is_opensphere(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys that only these backbones have."""
    return "fc.weight" in state and bool(_family(state))


def from_opensphere(state: Mapping[str, Tensor], where: str = "") -> dict[str, Tensor]:
    """Return the state dict of our net, which `opensphere_prototxt` writes, of a checkpoint.

    Raises
    ------
    SphereFaceError
        Keys or shapes are not those of such a backbone; all of them are told.
    """
    return _layers(state, where).state(state, where, _TOLD)


def opensphere_prototxt(state: Mapping[str, Tensor], where: str = "") -> str:
    """Return the deploy prototxt of a checkpoint's backbone.

    Raises
    ------
    SphereFaceError
        As `from_opensphere`.
    """
    layers = _layers(state, where)
    layers.state(state, where, _TOLD)
    return layers.prototxt()


def _family(state: Mapping[str, Tensor]) -> str:
    if "layer1.0.conv.weight" in state:
        return "sfnet_deprecated"
    if "layer1.0.conv1.weight" not in state:
        return ""
    if "conv1.weight" not in state:
        return "sfnet"
    return "iresnet" if "prelu.weight" in state else ""


def _layers(state: Mapping[str, Tensor], where: str) -> ModuleLayers:
    family = _family(state)
    units = [_units(state, stage) for stage in _STAGES]
    first = "conv1" if family != "sfnet_deprecated" else "conv"
    kernels = [state.get(f"layer{stage}.0.{first}.weight") for stage in _STAGES]
    stem = state.get("conv1.weight") if family == "iresnet" else kernels[0]
    product = state.get("fc.weight")
    wrong = [
        key
        for key, tensor, axes in (
            *((f"layer{s}.0.{first}.weight", k, 4) for s, k in zip(_STAGES, kernels, strict=True)),
            ("conv1.weight" if family == "iresnet" else "", stem, 4),
            ("fc.weight", product, 2),
        )
        if tensor is None or tensor.dim() != axes
    ]
    if wrong:
        raise SphereFaceError(
            f'no "{wrong[0]}", or none of the right number of axes', where=where, expected=_TOLD
        )
    assert stem is not None
    assert product is not None
    widths = [len(kernel) for kernel in kernels if kernel is not None]
    pixels = product.shape[1] // widths[-1]
    if pixels not in _SIZES or pixels * widths[-1] != product.shape[1]:
        raise SphereFaceError(
            f'"fc.weight" has shape {tuple(product.shape)}',
            where=where,
            expected=f"{49 * widths[-1]} columns, of {widths[-1]} channels of 7 x 7",
        )
    channels, embedding = stem.shape[1], len(product)
    if family == "iresnet":
        layers = ModuleLayers(f"IResNet-{2 * sum(units) + 2}", channels, _SIZES[pixels])
        _iresnet(layers, units, widths, len(stem))
    else:
        bottleneck = any(".conv3.weight" in key for key in state)
        depth = (3 if bottleneck else 2) * (sum(units) - 4) + 4
        layers = ModuleLayers(f"SFNet-{depth}", channels, _SIZES[pixels])
        norm = "layer1.0.bn1.weight" in state
        _sfnet(layers, units, widths, family == "sfnet_deprecated", bottleneck, norm)
    blob = layers.inner_product("fc", embedding)
    if family == "iresnet" or "features.weight" in state:
        layers.batch_norm("features", blob, top="features")
    return layers


def _units(state: Mapping[str, Tensor], stage: int) -> int:
    """Return how many modules a stage has."""
    prefix = f"layer{stage}."
    return len({key.split(".")[1] for key in state if key.startswith(prefix)})


def _sfnet(
    layers: ModuleLayers,
    units: list[int],
    widths: list[int],
    deprecated: bool,
    bottleneck: bool,
    norm: bool,
) -> None:
    for stage, count, width in zip(_STAGES, units, widths, strict=True):
        path = f"layer{stage}.0."
        if deprecated:
            layers.relu(f"{path}act", layers.convolution(f"{path}conv", width, stride=2))
        else:
            _rectified(layers, path, 1, width, norm, stride=2)
        for unit in range(1, count):
            path, identity = f"layer{stage}.{unit}.", layers.blob
            if deprecated:
                for number in (1, 2):
                    blob = layers.convolution(f"{path}conv{number}", width)
                    layers.relu(f"{path}act{number}", blob)
                layers.sum(f"{path}sum", identity, layers.blob)
                continue
            last = 3 if bottleneck else 2
            for number in range(1, last):
                kernel = 1 if bottleneck and number == 1 else 3
                inner = width // 2 if bottleneck else width
                _rectified(layers, path, number, inner, norm, kernel=kernel)
            blob = layers.convolution(
                f"{path}conv{last}", width, kernel=1 if bottleneck else 3, bias=not norm
            )
            if norm:
                layers.batch_norm(f"{path}bn{last}", blob)
            layers.relu(f"{path}relu", layers.sum(f"{path}sum", identity, blob))


def _rectified(
    layers: ModuleLayers,
    path: str,
    number: int,
    width: int,
    norm: bool,
    *,
    kernel: int = 3,
    stride: int = 1,
) -> None:
    blob = layers.convolution(
        f"{path}conv{number}", width, kernel=kernel, stride=stride, bias=not norm
    )
    if norm:
        layers.batch_norm(f"{path}bn{number}", blob)
    layers.relu(f"{path}relu{number}", blob)


def _iresnet(layers: ModuleLayers, units: list[int], widths: list[int], stem: int) -> None:
    layers.prelu("prelu", layers.batch_norm("bn1", layers.convolution("conv1", stem, bias=False)))
    for stage, count, width in zip(_STAGES, units, widths, strict=True):
        for unit in range(count):
            path, identity, stride = f"layer{stage}.{unit}.", layers.blob, 1 if unit else 2
            below = layers.channels
            layers.batch_norm(f"{path}bn1", identity, top=f"{path}bn1")
            blob = layers.convolution(f"{path}conv1", width, bias=False)
            layers.prelu(f"{path}prelu", layers.batch_norm(f"{path}bn2", blob))
            out = layers.convolution(f"{path}conv2", width, stride=stride, bias=False)
            layers.batch_norm(f"{path}bn3", out)
            if not unit:
                layers.go_on(identity, below)
                down = f"{path}downsample."
                blob = layers.convolution(f"{down}0", width, kernel=1, stride=2, bias=False)
                identity = layers.batch_norm(f"{down}1", blob)
            layers.sum(f"{path}sum", out, identity)
    layers.batch_norm("bn2", layers.blob)
