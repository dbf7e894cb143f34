"""Test nets: run beside the train net, with its weights.

Source: Solver::TestAll, Solver::Test and Net::ShareTrainedLayersWith. What differs: state that is
no blob is the train net's too, so that a margin layer is tested with the lambda that it is trained
with (Caffe's test net counts its own forwards).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sphereface.caffe.batch_source import BatchSource, draw
from sphereface.errors import SphereFaceError
from sphereface.solver.passes import Passes
from sphereface.solver.records import SolverCallback, TestRecord, scores_of

__all__ = ["TestNets"]


class TestNets:
    """The test nets of a solver.

    Parameters
    ----------
    passes : sequence of Passes
        Run the nets, in the solver's order, on `device`.
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
        passes: Sequence[Passes],
        sources: Sequence[BatchSource | None],
        iterations: Sequence[int],
        compute_loss: bool,
        device: torch.device,
    ) -> None:
        self.passes, self.sources = list(passes), list(sources)
        self.iterations, self.compute_loss, self.device = list(iterations), compute_loss, device

    def run(
        self,
        trained: Passes,
        iteration: int,
        callbacks: Sequence[SolverCallback],
        interrupted: Callable[[], bool],
    ) -> list[TestRecord] | None:
        """Run all nets; None if `interrupted`, which is asked before every pass, says so."""
        records = []
        for index, passes in enumerate(self.passes):
            for callback in callbacks:
                callback.on_test_start(iteration, index)
            passes.share_with(trained)
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
                    scores_of(means, passes.net.loss_weights),
                    float(loss) / count if self.compute_loss else None,
                )
            )
            for callback in callbacks:
                callback.on_test(records[-1])
        return records

    def _sums(
        self, index: int, interrupted: Callable[[], bool]
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        passes, source = self.passes[index], self.sources[index]
        loss = torch.zeros((), device=self.device)
        outputs: dict[str, Tensor] = {}
        for _ in range(self.iterations[index]):
            if interrupted():
                return None
            try:
                result = passes.forward(draw(source, passes.net, self.device))
            except StopIteration:
                raise SphereFaceError(
                    f"the data of test net {index} ended",
                    expected=f"{self.iterations[index]} batches (test_iter)",
                ) from None
            loss = loss + result.loss
            for name, value in result.outputs.items():
                outputs[name] = outputs[name] + value if name in outputs else value
        return loss, outputs
