"""How a solver opens its nets and runs them: the one thing that other ways to train replace.

Source: Solver::InitTrainNet and InitTestNets (solver.cpp).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from sphereface.caffe.batch_source import OpenSource
from sphereface.caffe.load import load_graph
from sphereface.caffe.open_net import OpenNet, open_net
from sphereface.solver.config import NetSource
from sphereface.solver.cpu_form import to_cpu_form
from sphereface.solver.passes import Passes
from sphereface.solver.sharded_classes import Sharing, shard_classes

__all__ = ["SolverNets"]


class SolverNets:
    """Opens the nets of a solver's file, and says what runs them.

    Parameters
    ----------
    data : callable, optional
        Opens the data of a net, as in `sphereface.caffe.open_net`.
    allow_python : bool or iterable of str
        Modules that Python layers may import; as in `sphereface.caffe.load`.
    """

    def __init__(
        self, data: OpenSource | None = None, allow_python: bool | Iterable[str] = ()
    ) -> None:
        self.data, self.allow_python = data, allow_python
        #: Who shares the classes, where they are split over processes.
        self.sharing: Sharing | None = None
        self._opened: list[OpenNet] = []

    def open(self, source: NetSource, *, fill: bool) -> OpenNet:
        """Return a net and its data; with `fill`, its fillers have run."""
        self._opened.append(self._open(source, fill=fill))
        return self._opened[-1]

    def passes(self, opened: OpenNet, device: torch.device, *, trained: bool) -> Passes:
        """Return what runs a net, which is on `device`: the one that is trained, or a test net."""
        if trained and device.type == "cpu":
            to_cpu_form(opened.net)
        return Passes(opened.net)

    def close(self) -> None:
        """Close the data of all nets."""
        for opened in self._opened:
            opened.close()

    def __enter__(self) -> SolverNets:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _open(self, source: NetSource, *, fill: bool) -> OpenNet:
        graph = load_graph(source.file, source.phase, source.level, source.stages)
        if self.sharing is not None:
            graph = shard_classes(graph, self.sharing)
        return open_net(
            graph,
            phase=source.phase,
            data=self.data,
            allow_python=self.allow_python,
            fill=fill,
        )
