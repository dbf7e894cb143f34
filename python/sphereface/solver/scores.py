"""Scores of a trained net over batches of its data.

Source: test() of Caffe's tools/caffe.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sphereface.caffe import Net
from sphereface.caffe.batch_source import BatchSource, draw
from sphereface.errors import SphereFaceError
from sphereface.solver.records import Score, TestRecord, scores_of

__all__ = ["score_net"]


@torch.no_grad()
def score_net(
    net: Net,
    source: BatchSource | None,
    iterations: int,
    *,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int, Sequence[Score]], None] | None = None,
) -> TestRecord:
    """Run a net and average every value of its outputs.

    Parameters
    ----------
    net : Net
        In the TEST phase, with its weights; it is moved to `device`.
    source : BatchSource or None
        Its data.
    iterations : int
        Batches.
    on_batch : callable, optional
        Gets each batch's number and scores.

    Returns
    -------
    TestRecord
        The means; ``loss`` is None for a net without a loss.
    """
    if iterations < 1:
        raise SphereFaceError(f"{iterations} iterations", expected="1 or more")
    place = torch.device(device)
    net.to(place)
    loss, sums, names = 0.0, [0.0], []
    for number in range(iterations):
        try:
            results = net(draw(source, net, place))
        except StopIteration:
            raise SphereFaceError(
                f"the data ended after {number} batches", expected=f"{iterations}"
            ) from None
        scores = scores_of({name: results[name] for name in net.outputs}, net.loss_weights)
        if number == 0:
            names, sums = scores, [0.0] * len(scores)
        sums = [total + score.value for total, score in zip(sums, scores, strict=True)]
        if net.loss_weights:
            loss += float(net.loss(results))
        if on_batch is not None:
            on_batch(number, scores)
    means = [score._replace(value=s / iterations) for score, s in zip(names, sums, strict=True)]
    return TestRecord(0, 0, means, loss / iterations if net.loss_weights else None)
