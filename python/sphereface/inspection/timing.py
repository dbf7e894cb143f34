"""How long each layer takes, forward and backward.

Source: time() of Caffe's tools/caffe.cpp. What differs: one pass warms up before the clock starts;
a GPU is waited for after each layer, as there; data layers are timed only if they are given a
source (Caffe always reads).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sphereface.caffe import Layer, Net
from sphereface.errors import SphereFaceError

__all__ = ["LayerTime", "NetTime", "random_batch", "time_net"]

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class LayerTime:
    """One layer; milliseconds, means over the iterations."""

    name: str
    type: str
    forward: float
    backward: float


@dataclass(frozen=True)
class NetTime:
    """All layers, and whole passes, in milliseconds; ``print(net_time)`` is the table.

    Attributes
    ----------
    layers : tuple of LayerTime
        In file order.
    forward, backward : float
        Means of whole passes.
    spread : float
        Standard deviation of forward and backward together.
    iterations : int
    """

    layers: tuple[LayerTime, ...]
    forward: float
    backward: float
    spread: float
    iterations: int

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        kind = max(len("type"), *(len(layer.type) for layer in self.layers))
        total = self.forward + self.backward
        yield f"{'layer':{width}}  {'type':{kind}}  forward ms  backward ms  share"
        for layer in self.layers:
            share = 100 * (layer.forward + layer.backward) / total if total else 0
            yield (
                f"{layer.name:{width}}  {layer.type:{kind}}  {layer.forward:10.3f}"
                f"  {layer.backward:11.3f}  {share:4.1f}%"
            )
        yield f"Average Forward pass: {self.forward:.6g} ms."
        yield f"Average Backward pass: {self.backward:.6g} ms."
        yield f"Average Forward-Backward: {total:.6g} ms (+- {self.spread:.3g})."
        yield f"Total Time: {self.iterations * total:.6g} ms."


def random_batch(net: Net) -> dict[str, Tensor]:
    """Return inputs of the net's shapes: noise for images, zeros for labels."""
    shapes = {name: net.blob_shapes[name] for name in net.inputs}
    return {
        name: torch.randn(shape) if len(shape) > 1 else torch.zeros(shape)
        for name, shape in shapes.items()
    }


def time_net(
    net: Net,
    next_batch: Callable[[], Batch] | None = None,
    *,
    iterations: int = 50,
    backward: bool = True,
    device: torch.device | str = "cpu",
) -> NetTime:
    """Run a net layer by layer and measure.

    Parameters
    ----------
    net : Net
        In the phase that is to be measured; it is moved to `device`.
    next_batch : callable, optional
        Reads inputs, which is timed as the forward of the data layers; without it, one
        `random_batch` is used and they take no time.
    iterations : int
        Passes that count.
    backward : bool
        Measure backward passes, too.
    device : torch.device or str
        Where to compute.

    Returns
    -------
    NetTime
    """
    if iterations < 1:
        raise SphereFaceError(f"{iterations} iterations", expected="1 or more")
    clock = _Clock(net.to(device), torch.device(device))
    fixed = random_batch(net) if next_batch is None else None
    rounds = []
    for _ in range(iterations + 1):
        rounds.append(clock.round(next_batch, fixed, backward))
    rounds = rounds[1:]  # the first one warms up
    layers = tuple(
        LayerTime(
            layer.name,
            layer.type,
            statistics.fmean(forward[index] for forward, _ in rounds),
            statistics.fmean(backward[index] for _, backward in rounds),
        )
        for index, layer in enumerate(net.layers)
    )
    totals = [sum(forward) + sum(backward) for forward, backward in rounds]
    return NetTime(
        layers,
        statistics.fmean(sum(forward) for forward, _ in rounds),
        statistics.fmean(sum(backward) for _, backward in rounds),
        statistics.stdev(totals) if iterations > 1 else 0.0,
        iterations,
    )


class _Clock:
    """Runs the layers one by one, each with bottoms cut from what made them."""

    def __init__(self, net: Net, device: torch.device) -> None:
        self._net, self._device = net, device

    def round(
        self, next_batch: Callable[[], Batch] | None, fixed: Batch | None, backward: bool
    ) -> tuple[list[float], list[float]]:
        """Return milliseconds forward and backward of each layer."""
        net, count = self._net, len(self._net.layers)
        forward_ms, backward_ms = [0.0] * count, [0.0] * count
        batch = fixed or {}
        if next_batch is not None:
            batch, reading = self._timed(next_batch)
            first = next((n for n, layer in enumerate(net.layers) if layer.is_input), 0)
            forward_ms[first] = reading
        values: list[Any] = [None] * len(net.graph.blob_names)
        for name, slot in net.graph.inputs.items():
            values[slot] = torch.as_tensor(batch[name]).to(self._device)
        made: list[tuple[int, Layer, list[Tensor], list[Tensor]]] = []
        for index, (layer, node) in enumerate(zip(net.layers, net.graph.nodes, strict=True)):
            if layer.is_input:
                continue
            bottoms = [
                values[slot].detach().requires_grad_(backward and values[slot].requires_grad)
                for slot in node.bottoms
            ]
            with torch.set_grad_enabled(backward):
                result, forward_ms[index] = self._timed(lambda: layer(*bottoms))  # noqa: B023
            tops = [result] if isinstance(result, Tensor) else list(result)
            for slot, top in zip(node.tops, tops, strict=True):
                values[slot] = top
            made.append((index, layer, bottoms, tops))
        while backward and made:
            index, layer, bottoms, tops = made.pop()
            backward_ms[index] = self._backward(layer, bottoms, tops)
        return forward_ms, backward_ms

    def _backward(self, layer: Layer, bottoms: list[Tensor], tops: list[Tensor]) -> float:
        heads = [top for top in tops if top.requires_grad]
        wanted = [tensor for tensor in (*bottoms, *layer.parameters()) if tensor.requires_grad]
        if not heads or not wanted:
            return 0.0
        diffs = [torch.ones_like(head) for head in heads]
        _, milliseconds = self._timed(
            lambda: torch.autograd.grad(heads, wanted, diffs, allow_unused=True)
        )
        return milliseconds

    def _timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        self._wait()
        start = time.perf_counter()
        result = work()
        self._wait()
        return result, 1000 * (time.perf_counter() - start)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
