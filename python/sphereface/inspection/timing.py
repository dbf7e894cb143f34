"""How long each layer takes, forward and backward, or each operation that a predictor runs.

Source: time() of Caffe's tools/caffe.cpp. What differs: one pass warms up before the clock starts;
a GPU is waited for after each layer, as there; data layers are timed only if they are given a
source (Caffe always reads). A predictor's passes are measured once more as a whole, since their
operations are faster together than one by one.
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
from sphereface.inference import Predictor

__all__ = ["LayerTime", "NetTime", "random_batch", "time_net", "time_predictor"]

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class LayerTime:
    """One layer, or layers folded into one; milliseconds, means over the iterations."""

    name: str
    type: str
    forward: float
    backward: float


@dataclass(frozen=True)
class NetTime:
    """All layers, and whole passes, in milliseconds; ``print(net_time)`` is the table.

    Attributes
    ----------
    form : str
        What was run.
    layers : tuple of LayerTime
        In file order.
    forward, backward : float
        Means of whole passes.
    spread : float
        Standard deviation of forward and backward together.
    iterations : int
    """

    form: str
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
        rows = sum(layer.forward + layer.backward for layer in self.layers)
        yield self.form
        yield f"{'layer':{width}}  {'type':{kind}}  forward ms  backward ms  share"
        for layer in self.layers:
            share = 100 * (layer.forward + layer.backward) / rows if rows else 0
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
    _check(iterations)
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
        f"phase {net.phase}, each layer by itself",
        layers,
        statistics.fmean(sum(forward) for forward, _ in rounds),
        statistics.fmean(sum(backward) for _, backward in rounds),
        statistics.stdev(totals) if iterations > 1 else 0.0,
        iterations,
    )


def time_predictor(
    predictor: Predictor,
    next_batch: Callable[[], Batch] | None = None,
    *,
    iterations: int = 50,
) -> NetTime:
    """Measure the passes of a predictor, and the operations of its folded net one by one.

    Parameters
    ----------
    predictor : Predictor
        With a folded net.
    next_batch : callable, optional
        As for `time_net`.
    iterations : int
        Passes that count.

    Returns
    -------
    NetTime
        `forward` and `spread` are of whole passes, reading included.
    """
    _check(iterations)
    net, watch = predictor.net, _Stopwatch(predictor.device)
    reader = next((layer for layer in net.layers if layer.is_input), None)
    types = {layer.name: layer.type for layer in net.layers}
    batch: Batch = random_batch(net)
    rounds, passes = [], []
    labels: list[tuple[str, str]] = []
    for _ in range(iterations + 1):
        row, labels = [], []
        if next_batch is not None:
            batch, reading = watch.timed(next_batch)
            row.append(reading)
            labels.append((reader.name, reader.type) if reader else ("", ""))
        for names, run in predictor.operations(batch):
            row.append(watch.timed(run)[1])
            labels.append((" + ".join(names), " + ".join(types[name] for name in names)))
        _, whole = watch.timed(lambda: predictor(batch))  # noqa: B023
        rounds.append(row)
        passes.append(whole + (row[0] if next_batch is not None else 0.0))
    rounds, passes = rounds[1:], passes[1:]  # the first one warms up
    return NetTime(
        f"phase TEST, folded into {len(rounds[0])} operations as `sphereface run` runs it"
        " (--no-fuse: each layer by itself)",
        tuple(
            LayerTime(name, kind, statistics.fmean(row[index] for row in rounds), 0.0)
            for index, (name, kind) in enumerate(labels)
        ),
        statistics.fmean(passes),
        0.0,
        statistics.stdev(passes) if iterations > 1 else 0.0,
        iterations,
    )


def _check(iterations: int) -> None:
    if iterations < 1:
        raise SphereFaceError(f"{iterations} iterations", expected="1 or more")


class _Stopwatch:
    """Measures work on a device, which is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return what `work` returns and its milliseconds."""
        self._wait()
        start = time.perf_counter()
        result = work()
        self._wait()
        return result, 1000 * (time.perf_counter() - start)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Clock:
    """Runs the layers one by one, each with bottoms cut from what made them."""

    def __init__(self, net: Net, device: torch.device) -> None:
        self._net, self._watch = net, _Stopwatch(device)

    def round(
        self, next_batch: Callable[[], Batch] | None, fixed: Batch | None, backward: bool
    ) -> tuple[list[float], list[float]]:
        """Return milliseconds forward and backward of each layer."""
        net, count = self._net, len(self._net.layers)
        forward_ms, backward_ms = [0.0] * count, [0.0] * count
        batch = fixed or {}
        if next_batch is not None:
            batch, reading = self._watch.timed(next_batch)
            first = next((n for n, layer in enumerate(net.layers) if layer.is_input), 0)
            forward_ms[first] = reading
        values: list[Any] = [None] * len(net.graph.blob_names)
        for name, slot in net.graph.inputs.items():
            values[slot] = torch.as_tensor(batch[name]).to(self._watch.device)
        made: list[tuple[int, Layer, list[Tensor], list[Tensor]]] = []
        for index, (layer, node) in enumerate(zip(net.layers, net.graph.nodes, strict=True)):
            if layer.is_input:
                continue
            bottoms = [
                values[slot].detach().requires_grad_(backward and values[slot].requires_grad)
                for slot in node.bottoms
            ]
            with torch.set_grad_enabled(backward):
                result, forward_ms[index] = self._watch.timed(lambda: layer(*bottoms))  # noqa: B023
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
        _, milliseconds = self._watch.timed(
            lambda: torch.autograd.grad(heads, wanted, diffs, allow_unused=True)
        )
        return milliseconds
