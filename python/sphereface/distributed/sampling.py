"""Which classes take part in a step: all that the batch has, and others at random.

Source: An et al., "Partial FC: Training 10 Million Identities on a Single Machine", 2021: of every
process's classes the positives and, up to a rate, random negatives. What differs from its authors'
code: the numbers follow from a seed and the count of draws, so two integers are the whole state,
and a resumed run draws what an uninterrupted one draws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sphereface.class_range import ClassRange
from sphereface.errors import SphereFaceError

__all__ = ["ClassSampler"]


class ClassSampler:
    """Draws classes of a range.

    Parameters
    ----------
    rate : float
        The part of the range that is drawn, above 0 and at most 1.
    seed : int
        At least 0.

    Attributes
    ----------
    draws : int
        How many samples have been drawn.

    Raises
    ------
    SphereFaceError
        A value is out of its range.
    """

    def __init__(self, rate: float, seed: int = 0) -> None:
        if not 0 < rate <= 1 or seed < 0:
            raise SphereFaceError(
                f"rate {rate!r}, seed {seed!r}",
                where="sampling of classes",
                expected="0 < rate <= 1 and seed >= 0",
            )
        self.rate, self.seed, self.draws = rate, seed, 0

    def draw(self, label: Tensor, classes: ClassRange) -> Tensor:
        """Return the rows of the range that take part, (S,) int64 in rising order.

        S is ``int(rate * classes.count)``, or the number of positives where that is larger.

        Parameters
        ----------
        label : Tensor of shape (M,), int64
            Of all processes, counted over all classes; those outside the range are of no account.
        classes : ClassRange
            The range.
        """
        seeds = np.random.SeedSequence([self.seed, self.draws, classes.first])
        self.draws += 1
        generator = torch.Generator(label.device)
        generator.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        # Positives are drawn first, whatever the others' numbers are.
        value = torch.rand(classes.count + 1, generator=generator, device=label.device)
        position = label - classes.first
        here = (position >= 0) & (position < classes.count)
        value[position.where(here, classes.count)] = 2
        value = value[:-1]
        count = int(self.rate * classes.count)
        if len(label) > count:  # only then can the positives be more, and the device is waited for
            count = max(count, int((value == 2).sum()))
        return torch.topk(value, count).indices.sort().values
