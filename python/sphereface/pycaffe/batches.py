"""Any number of samples in batches of a net's size, and their results joined again.

Source: _Net_batch of python/caffe/pycaffe.py: the last batch is filled up with zeros, whose results
are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError

__all__ = ["each_batch", "joined"]


def each_batch(arrays: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Yield {name: `size` samples} until all samples were given.

    Raises
    ------
    SphereFaceError
        The arrays have different numbers of samples.
    """
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise SphereFaceError(
            f"numbers of samples: {counts}", expected="as many for every argument"
        )
    for begin in range(0, max(counts.values(), default=0), size):
        yield {name: _padded(array[begin : begin + size], size) for name, array in arrays.items()}


def joined(results: Sequence[Mapping[str, Any]], count: int) -> dict[str, NDArray[Any]]:
    """Join the results of all batches; drop what lies beyond `count` samples.

    A scalar (a loss) becomes one value a batch.
    """
    names = results[0] if results else ()
    return {
        name: np.concatenate([np.atleast_1d(result[name]) for result in results])[:count]
        for name in names
    }


def _padded(samples: Any, size: int) -> NDArray[Any]:
    samples = np.asarray(samples)
    if len(samples) == size:
        return samples
    padding = np.zeros((size - len(samples), *samples.shape[1:]), samples.dtype)
    return np.concatenate([samples, padding])
