"""Test nets: run beside the train net, with its weights.

Source: Solver::TestAll, Solver::Test and Net::ShareTrainedLayersWith. What differs: state that is
no blob is the train net's too, so that a margin layer is tested with the lambda that it is trained
with (Caffe's test net counts its own forwards).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sphereface.caffe import Layer, Net
from sphereface.errors import SphereFaceError
from sphereface.solver.records import SolverCallback, TestRecord, scores_of
from sphereface.solver.source import BatchSource, draw

__all__ = ["TestNets", "share_trained_layers"]


def share_trained_layers(net: Net, trained: Net) -> None:
    """Let the layers of `net` use the blobs of the layers of the same names in `trained`.

    Layers without a partner run their fillers, once.

    Raises
    ------
    SphereFaceError
        A layer has other blobs there.
    """
    partners: dict[str, Layer] = {}
    for layer in trained.layers:
        partners.setdefault(layer.name, layer)
    for layer in net.layers:
        partner = partners.get(layer.name)
        if partner is None:
            layer.fill()
            continue
        here, there = ([tuple(blob.shape) for blob in side.blobs] for side in (layer, partner))
        if here != there:
            raise layer.error(
                f"blobs of shapes {here} in phase {net.phase}",
                expected=f"{there}, those of the layer in phase {trained.phase}",
            )
        layer.drop_fillers()
        layer._parameters.update(partner._parameters)
        # Of the buffers those that a state_dict holds: blobs, and the counters of margin layers.
        kept = partner._buffers.keys() - partner._non_persistent_buffers_set
        layer._buffers.update((name, partner._buffers[name]) for name in kept)


class TestNets:
    """The test nets of a solver.

    Parameters
    ----------
    nets : sequence of Net
        In the solver's order, on `device`.
    sources : sequence of BatchSource or None
        What feeds each.
    iterations : sequence of int
        ``test_iter``.
    compute_loss : bool
        ``test_compute_loss``.
    """

    __test__ = False  # no test class of pytest's

    def __init__(
        self,
        nets: Sequence[Net],
        sources: Sequence[BatchSource | None],
        iterations: Sequence[int],
        compute_loss: bool,
        device: torch.device,
    ) -> None:
        self.nets, self.sources = list(nets), list(sources)
        self.iterations, self.compute_loss, self.device = list(iterations), compute_loss, device

    def run(
        self,
        trained: Net,
        iteration: int,
        callbacks: Sequence[SolverCallback],
        interrupted: Callable[[], bool],
    ) -> list[TestRecord] | None:
        """Run all nets; None if `interrupted`, which is asked before every pass, says so."""
        records = []
        for index, net in enumerate(self.nets):
            for callback in callbacks:
                callback.on_test_start(iteration, index)
            share_trained_layers(net, trained)
            sums = self._sums(index, interrupted)
            if sums is None:
                return None
            count = self.iterations[index]
            loss, outputs = sums
            means = {name: total / count for name, total in outputs.items()}
            records.append(
                TestRecord(
                    iteration,
                    index,
                    scores_of(means, net.loss_weights),
                    float(loss) / count if self.compute_loss else None,
                )
            )
            for callback in callbacks:
                callback.on_test(records[-1])
        return records

    @torch.no_grad()
    def _sums(
        self, index: int, interrupted: Callable[[], bool]
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        net, source = self.nets[index], self.sources[index]
        loss = torch.zeros((), device=self.device)
        outputs: dict[str, Tensor] = {}
        for _ in range(self.iterations[index]):
            if interrupted():
                return None
            try:
                results = net(draw(source, net, self.device))
            except StopIteration:
                raise SphereFaceError(
                    f"the data of test net {index} ended",
                    expected=f"{self.iterations[index]} batches (test_iter)",
                ) from None
            if self.compute_loss:
                loss = loss + net.loss(results)
            for name in net.outputs:
                value = results[name]
                outputs[name] = outputs[name] + value if name in outputs else value
        return loss, outputs
