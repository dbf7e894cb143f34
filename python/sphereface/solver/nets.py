"""Building the nets of a solver, each with the source of its data.

Source: Solver::InitTrainNet and InitTestNets (solver.cpp).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sphereface.caffe import Net
from sphereface.caffe.load import load_graph
from sphereface.caffe.python_class import importing_allowed
from sphereface.solver.config import NetSource
from sphereface.solver.source import BatchSource, OpenSource

__all__ = ["NetBuilder"]


@dataclass(frozen=True)
class NetBuilder:
    """Builds nets from what a solver's file says.

    Parameters
    ----------
    open_source : callable, optional
        Opens the data of a net.
    allow_python : bool or iterable of str
        Modules that Python layers may import; as in `sphereface.caffe.load`.
    """

    open_source: OpenSource | None = None
    allow_python: bool | Iterable[str] = ()

    def train_net(self, source: NetSource) -> tuple[Net, BatchSource | None]:
        """Return the net with its fillers run, and the source of its data."""
        return self._build(source, fill=True)

    def test_net(self, source: NetSource) -> tuple[Net, BatchSource | None]:
        """Return a net whose weights are going to be another's, and the source of its data."""
        return self._build(source, fill=False)

    def _build(self, source: NetSource, *, fill: bool) -> tuple[Net, BatchSource | None]:
        graph = load_graph(source.prototxt, source.phase, source.level, source.stages)
        data = self.open_source(graph, source.phase) if self.open_source else None
        shapes = data.shapes if data is not None else None
        with importing_allowed(self.allow_python):
            net = Net(graph, phase=source.phase, input_shapes=shapes, fill=fill)
        return net, data
