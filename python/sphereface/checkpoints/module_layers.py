"""Layers of a prototxt written beside the torch modules whose parameters they take.

Source: none. A walk through a net writes its layers and notes every key of the state dict, with the
shape that it must have and the blob that it becomes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sphereface.errors import SphereFaceError, nearest

__all__ = ["ModuleLayers"]

_EPS = 1e-5  # of torch's BatchNorm, and Caffe's
_UNUSED = "num_batches_tracked"


class ModuleLayers:
    """A prototxt in the making, and what of a state dict goes where.

    Parameters
    ----------
    name : str
        The net's.
    channels : int
        Of its images.
    size : (int, int)
        Their height and width.

    Attributes
    ----------
    blob : str
        The blob that the last layer wrote.
    channels : int
        Its channels.

    Notes
    -----
    Every method adds a layer that reads `blob`, unless it takes its bottoms, and returns its top.
    Modules are named by their path (``layer1.0.conv1``), layers as they with ``_`` for the dots.
    """

    def __init__(self, name: str, channels: int, size: tuple[int, int]) -> None:
        height, width = size
        self._text = [
            f'name: "{name}"',
            f'layer {{\n  name: "data"\n  type: "Input"\n  top: "data"\n  input_param {{ shape {{ '
            f"dim: 1 dim: {channels} dim: {height} dim: {width} }} }}\n}}",
        ]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._targets: dict[str, str] = {}
        self._counts: list[str] = []
        self.blob, self.channels = "data", channels
        self._pixels = (height // 16) * (width // 16)

    def convolution(
        self, path: str, width: int, *, kernel: int = 3, stride: int = 1, bias: bool = True
    ) -> str:
        """Convolve to `width` channels, with half of the kernel as padding."""
        options = f"num_output: {width} kernel_size: {kernel}"
        options += f" stride: {stride}" * (stride != 1) + f" pad: {kernel // 2}" * (kernel > 1)
        options += " bias_term: false" * (not bias)
        self._layer(path, "Convolution", self.blob, path, f"convolution_param {{ {options} }}")
        self._take(path, "weight", (width, self.channels, kernel, kernel))
        if bias:
            self._take(path, "bias", (width,))
        self.channels = width
        return self.blob

    def batch_norm(self, path: str, blob: str, top: str = "") -> str:
        """Normalise `blob`, in place or into `top`, by stored statistics; scale and shift it."""
        top = top or blob
        self._layer(path, "BatchNorm", blob, top, f"batch_norm_param {{ eps: {_EPS:g} }}")
        self._layer(f"{path}_scale", "Scale", self.blob, top, "scale_param { bias_term: true }")
        self._take(path, "weight", (self.channels,), f"{path}_scale")
        self._take(path, "bias", (self.channels,), f"{path}_scale")
        self._take(path, "running_mean", (self.channels,), blob="mean")
        self._take(path, "running_var", (self.channels,), blob="variance")
        self._counts.append(f"{_named(path)}.scale_factor")
        return self.blob

    def relu(self, path: str, blob: str) -> str:
        """Rectify `blob` in place."""
        self._layer(path, "ReLU", blob, blob)
        return self.blob

    def prelu(self, path: str, blob: str) -> str:
        """Rectify `blob` in place, with a slope a channel."""
        self._layer(path, "PReLU", blob, blob)
        self._take(path, "weight", (self.channels,))
        return self.blob

    def sum(self, path: str, first: str, second: str) -> str:
        """Add two blobs."""
        self._layer(path, "Eltwise", (first, second), path)
        return self.blob

    def inner_product(self, path: str, width: int) -> str:
        """Multiply all that four strides of 2 leave of an image by a matrix."""
        options = f"inner_product_param {{ num_output: {width} }}"
        self._layer(path, "InnerProduct", self.blob, path, options)
        self._take(path, "weight", (width, self.channels * self._pixels))
        self._take(path, "bias", (width,))
        self.channels = width
        return self.blob

    def go_on(self, blob: str, channels: int) -> None:
        """Have the next layer read `blob`."""
        self.blob, self.channels = blob, channels

    def prototxt(self) -> str:
        """Return the text of the net."""
        return "\n".join([*self._text, ""])

    def state(self, state: Mapping[str, Tensor], where: str, told: str) -> dict[str, Tensor]:
        """Return `state` by the blobs of the layers.

        Parameters
        ----------
        state : mapping of str to Tensor
            By the modules' keys.
        where, told : str
            The file, and what it should hold, for errors.

        Raises
        ------
        SphereFaceError
            Keys are missing or unexpected, or shapes differ.
        """
        problems = []
        for key, shape in self._shapes.items():
            if key not in state:
                problems.append(f'no "{key}" {shape}')
            elif tuple(state[key].shape) != shape:
                problems.append(f'"{key}" has shape {tuple(state[key].shape)}, expected {shape}')
        for key in state:
            if key not in self._shapes and not key.endswith(_UNUSED):
                hint = nearest(key, self._shapes.keys() - state.keys())
                problems.append(f'unexpected "{key}"' + (f" ({hint})" if hint else ""))
        if problems:
            raise SphereFaceError("; ".join(problems), where=where, expected=told)
        blobs = {target: state[key] for key, target in self._targets.items()}
        return {**blobs, **{key: torch.ones(1) for key in self._counts}}

    def _layer(
        self, path: str, kind: str, bottoms: str | tuple[str, ...], top: str, options: str = ""
    ) -> None:
        self.blob = _named(top)
        names = (bottoms,) if isinstance(bottoms, str) else bottoms
        lines = [f'name: "{_named(path)}"', f'type: "{kind}"']
        lines += [*(f'bottom: "{name}"' for name in names), f'top: "{self.blob}"']
        lines += [options] if options else []
        self._text.append("layer {\n" + "".join(f"  {line}\n" for line in lines) + "}")

    def _take(
        self, path: str, key: str, shape: tuple[int, ...], layer: str = "", blob: str = ""
    ) -> None:
        self._shapes[f"{path}.{key}"] = shape
        self._targets[f"{path}.{key}"] = f"{_named(layer or path)}.{blob or key}"


def _named(path: str) -> str:
    return path.replace(".", "_")
