"""A layer of a prototxt as a net of its own, run forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from sphereface.caffe import Layer, Net, load


@dataclass
class Result:
    """Numpy arrays: tops, bottom diffs and parameter diffs by name."""

    tops: dict[str, np.ndarray]
    bottom_diffs: dict[str, np.ndarray] = field(default_factory=dict)
    param_diffs: dict[str, np.ndarray] = field(default_factory=dict)


class LayerNet:
    """Input layers for the named bottoms, and the layers of a text."""

    def __init__(self, text: str, phase: str, shapes: dict[str, tuple[int, ...]]) -> None:
        inputs = "".join(
            f'layer {{ name: "in_{name}" type: "Input" top: "{name}"'
            f" input_param {{ shape {{ {' '.join(f'dim: {d}' for d in shape)} }} }} }}\n"
            for name, shape in shapes.items()
        )
        self.net: Net = load(inputs + text, phase=phase).double()
        self.layer: Layer = self.net.layers[-1]

    def set(self, **blobs: np.ndarray) -> LayerNet:
        """Overwrite parameter blobs of the last layer."""
        for name, value in blobs.items():
            blob = getattr(self.layer, name)
            assert tuple(blob.shape) == np.shape(value)
            blob.data.copy_(torch.as_tensor(value))
        return self

    def run(
        self,
        bottoms: dict[str, np.ndarray],
        top_diffs: dict[str, np.ndarray] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Result:
        """Run forward; with `top_diffs` also backward from them, otherwise from the loss if any.

        Computes in `dtype`, float64 unless told, so that float64 references agree closely. Checks
        that every top has the shape that the layer's reshape promised.
        """
        self.net.to(dtype)
        tensors = {
            name: torch.tensor(value, dtype=dtype, requires_grad=True)
            for name, value in bottoms.items()
        }
        for parameter in self.net.parameters():
            parameter.grad = None
        names = [name for name in self.net.graph.blobs if name not in self.net.inputs]
        tops = self.net(tensors, blobs=names)
        promised = self.net.infer_shapes({n: t.shape for n, t in tensors.items()})
        for name, top in tops.items():
            if name in self.net.graph.blobs:
                assert tuple(top.shape) == promised[self.net.graph.blobs[name]], name
        self._backward(tops, top_diffs)
        return Result(
            {name: top.detach().numpy() for name, top in tops.items()},
            {n: t.grad.numpy() for n, t in tensors.items() if t.grad is not None},
            {n: p.grad.numpy() for n, p in self.layer.named_parameters() if p.grad is not None},
        )

    def _backward(
        self, tops: dict[str, torch.Tensor], top_diffs: dict[str, np.ndarray] | None
    ) -> None:
        total = None
        if top_diffs is not None:
            terms = [(tops[n] * torch.as_tensor(d)).sum() for n, d in top_diffs.items()]
            total = torch.stack(terms).sum()
        elif self.net.loss_weights:
            total = self.net.loss(tops)
        if total is not None and total.requires_grad:
            total.backward()


@pytest.fixture
def layer_net() -> Callable[..., LayerNet]:
    """Return ``layer_net(text, phase="TRAIN", **bottom_shapes) -> LayerNet``."""

    def build(text: str, phase: str = "TRAIN", **shapes: tuple[int, ...]) -> LayerNet:
        return LayerNet(text, phase, shapes)

    return build


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded source of test inputs."""
    return np.random.default_rng(20170721)


@pytest.fixture
def dynamo() -> Iterator[None]:
    """Forget afterwards that Net.forward has a break, or other nets' forwards are skipped too."""
    yield
    torch._dynamo.reset()
