"""Caffe's ApplyUpdate for one blob in float64 numpy, operation by operation as in its sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class ReferenceBlob:
    """A learnable blob with what its solver type keeps for it."""

    data: Array
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    diff: Array = field(init=False)
    history: Array = field(init=False)
    history2: Array = field(init=False)

    def __post_init__(self) -> None:
        self.diff, self.history, self.history2 = (np.zeros_like(self.data) for _ in range(3))


@dataclass
class ReferenceSolver:
    """The fields of SolverParameter that an update reads."""

    type: str
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    clip_gradients: float = -1.0
    iter_size: int = 1

    def apply_update(self, blobs: list[ReferenceBlob], rate: float, iteration: int) -> None:
        if self.clip_gradients >= 0:
            norm = np.sqrt(sum((blob.diff**2).sum() for blob in blobs))
            if norm > self.clip_gradients:
                for blob in blobs:
                    blob.diff = blob.diff * (self.clip_gradients / norm)
        for blob in blobs:
            if self.iter_size != 1:
                blob.diff = blob.diff / self.iter_size
            towards = blob.data if self.regularization_type == "L2" else np.sign(blob.data)
            blob.diff = blob.diff + self.weight_decay * blob.decay_mult * towards
            getattr(self, "_" + self.type.lower())(blob, rate * blob.lr_mult, iteration)
            blob.data = blob.data - blob.diff

    def _sgd(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        blob.history = rate * blob.diff + self.momentum * blob.history
        blob.diff = blob.history.copy()

    def _nesterov(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        before = blob.history.copy()
        blob.history = rate * blob.diff + self.momentum * blob.history
        blob.diff = (1 + self.momentum) * blob.history - self.momentum * before

    def _adagrad(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        blob.history = blob.history + blob.diff**2
        blob.diff = rate * (blob.diff / (np.sqrt(blob.history) + self.delta))

    def _rmsprop(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        blob.history = (1 - self.rms_decay) * blob.diff**2 + self.rms_decay * blob.history
        blob.diff = rate * (blob.diff / (np.sqrt(blob.history) + self.delta))

    def _adadelta(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        blob.history = (1 - self.momentum) * blob.diff**2 + self.momentum * blob.history
        ratio = (self.delta + blob.history2) / (self.delta + blob.history)
        blob.diff = blob.diff * np.sqrt(ratio)
        blob.history2 = (1 - self.momentum) * blob.diff**2 + self.momentum * blob.history2
        blob.diff = rate * blob.diff

    def _adam(self, blob: ReferenceBlob, rate: float, iteration: int) -> None:
        t = iteration + 1
        correction = np.sqrt(1 - self.momentum2**t) / (1 - self.momentum**t)
        blob.history = (1 - self.momentum) * blob.diff + self.momentum * blob.history
        blob.history2 = (1 - self.momentum2) * blob.diff**2 + self.momentum2 * blob.history2
        blob.diff = rate * correction * blob.history / (np.sqrt(blob.history2) + self.delta)
