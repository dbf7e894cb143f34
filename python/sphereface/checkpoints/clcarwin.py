"""clcarwin's PyTorch port of SphereFace-20 (`sphere20a`): its checkpoints and our state dict.

Source: github.com/clcarwin/sphereface_pytorch, the port whose checkpoints circulate. Its modules
are named as Caffe's layers (conv1_1, relu1_1, ..., fc5, fc6), every convolution has a bias, and
fc6, AngleLinear, holds its weight as (K, N), a column a class, where Caffe has (N, K), a row a
class. Its images are those of SphereFace: 112 x 96, BGR, (pixel - 127.5) / 128.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from sphereface.errors import SphereFaceError, nearest

__all__ = ["from_clcarwin", "is_clcarwin", "to_clcarwin"]

_UNITS = (1, 2, 4, 1)  # residual units a stage
_CHANNELS = (64, 128, 256, 512)
_FEATURES, _PIXELS = 512, 7 * 6  # of fc5; height times width that 112 x 96 leaves after stage 4
_CLASSIFIER = "fc6.weight"


def is_clcarwin(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has sphere20a's keys and fc6 the way that AngleLinear has it.

    Without fc6, or with exactly 512 classes, it is a state dict of either kind; False then.
    """
    shapes = dict(_shapes())
    if state.keys() != {*shapes, _CLASSIFIER} or state[_CLASSIFIER].dim() != 2:
        return False
    rows, columns = state[_CLASSIFIER].shape
    return rows == _FEATURES and columns != _FEATURES


def from_clcarwin(state: Mapping[str, Tensor], where: str = "") -> dict[str, Tensor]:
    """Return our state dict of a sphere20a checkpoint; fc6, if there, has a row a class.

    Raises
    ------
    SphereFaceError
        Keys or shapes are not sphere20a's.
    """
    _check(state, where, feature_axis=0)
    return _transposed(state)


def to_clcarwin(state: Mapping[str, Tensor], where: str = "") -> dict[str, Tensor]:
    """Return the checkpoint that sphere20a loads, of our state dict of a SphereFace-20.

    Without fc6 (a deploy net) sphere20a loads it with ``strict=False``, for ``feature=True``.

    Raises
    ------
    SphereFaceError
        The state dict is not that of a SphereFace-20.
    """
    state = {key: tensor for key, tensor in state.items() if key != "fc6.iteration"}
    _check(state, where, feature_axis=1)
    return _transposed(state)


def _transposed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: tensor.t().contiguous() if key == _CLASSIFIER else tensor
        for key, tensor in state.items()
    }


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield key and shape of everything but fc6, in sphere20a's order."""
    below = 3
    for stage, (units, channels) in enumerate(zip(_UNITS, _CHANNELS, strict=True), 1):
        for conv in range(1, 2 * units + 2):
            yield f"conv{stage}_{conv}.weight", (channels, below, 3, 3)
            yield f"conv{stage}_{conv}.bias", (channels,)
            yield f"relu{stage}_{conv}.weight", (channels,)
            below = channels
    yield "fc5.weight", (_FEATURES, below * _PIXELS)
    yield "fc5.bias", (_FEATURES,)


def _check(state: Mapping[str, Tensor], where: str, feature_axis: int) -> None:
    """Raise if keys or shapes differ; `feature_axis` is the axis of fc6 that is as long as fc5."""
    shapes = dict(_shapes())
    problems = []
    for key, shape in shapes.items():
        if key not in state:
            problems.append(f'no "{key}"')
        elif tuple(state[key].shape) != shape:
            problems.append(f'"{key}" has shape {tuple(state[key].shape)}, in sphere20a {shape}')
    for key in state.keys() - shapes.keys() - {_CLASSIFIER}:
        hint = nearest(key, shapes.keys() - state.keys())
        problems.append(f'unexpected "{key}"' + (f" ({hint})" if hint else ""))
    classifier = state.get(_CLASSIFIER)
    if classifier is not None and (
        classifier.dim() != 2 or classifier.shape[feature_axis] != _FEATURES
    ):
        wanted = "(512, classes)" if feature_axis == 0 else "(classes, 512)"
        problems.append(f'"{_CLASSIFIER}" has shape {tuple(classifier.shape)}, expected {wanted}')
    if problems:
        raise SphereFaceError(
            "; ".join(problems), where=where, expected="the parameters of SphereFace-20 (sphere20a)"
        )
