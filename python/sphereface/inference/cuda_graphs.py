"""Passes of a net recorded on a GPU once for a batch's shapes, and replayed as one launch.

Source: torch.cuda.CUDAGraph. What differs from running the net: hundreds of small kernels are
launched together, which counts for small batches. A shape is recorded when it comes for the second
time; of too many shapes the one unused longest is forgotten; what cannot be recorded is run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Recorded", "record"]

Inputs = Mapping[str, Tensor]
Outputs = dict[str, Tensor]
Run = Callable[..., Outputs]
_MOST = 8
_MOST_SEEN = 256


class Recorded:
    """Runs a net, from recordings where it can.

    Parameters
    ----------
    run : callable
        Called with a dict of inputs and ``blobs``; returns tensors by name.
    record : callable
        Returns a replay of ``run`` for inputs of the shapes of those given; see `record`.
    most : int
        Recordings kept; each holds the memory of a pass.
    """

    def __init__(
        self,
        run: Run,
        record: Callable[[Callable[[Inputs], Outputs], Inputs], Any],
        most: int = _MOST,
    ) -> None:
        self._run, self._record, self._most = run, record, most
        self._replays: OrderedDict[Any, Callable[[Inputs], Outputs]] = OrderedDict()
        self._seen: OrderedDict[Any, bool] = OrderedDict()  # whether it may be recorded
        self._lock = threading.Lock()  # a replay's memory is one for all

    def __call__(self, inputs: Inputs, blobs: tuple[str, ...] = ()) -> Outputs:
        """Return the outputs and `blobs`, in memory of their own."""
        shapes = tuple((name, x.shape, x.dtype) for name, x in sorted(inputs.items()))
        key = (blobs, shapes)
        with self._lock:
            replay = self._replays.get(key) or self._recorded(key, inputs)
            if replay is None:
                return self._run(inputs, blobs=blobs)
            self._replays.move_to_end(key)
            return {name: value.clone() for name, value in replay(inputs).items()}

    def _recorded(self, key: Any, inputs: Inputs) -> Callable[[Inputs], Outputs] | None:
        if not self._seen.get(key):
            self._seen.setdefault(key, True)
            if len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
            return None
        blobs = key[0]
        try:
            replay = self._record(lambda given: self._run(given, blobs=blobs), inputs)
        except RuntimeError:  # a layer waits for the device, or there is no memory for it
            self._seen[key] = False
            return None
        self._replays[key] = replay
        if len(self._replays) > self._most:
            self._replays.popitem(last=False)
        return replay


def record(run: Callable[[Inputs], Outputs], inputs: Inputs) -> Callable[[Inputs], Outputs]:
    """Return a function that replays `run` for inputs of these shapes; its results are its own.

    Parameters
    ----------
    run : callable
        Whose kernels depend on the shapes of its inputs only.
    inputs : mapping of str to Tensor
        On a CUDA device.

    Raises
    ------
    RuntimeError
        Something in `run` cannot be recorded.
    """
    held = {name: value.clone() for name, value in inputs.items()}
    device = next(iter(held.values())).device
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            beside
        ):  # libraries choose kernels and memory now, not while recorded
            run(held)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = run(held)

    def replay(given: Inputs) -> Outputs:
        for name, value in given.items():
            held[name].copy_(value)
        graph.replay()
        return outputs

    return replay
