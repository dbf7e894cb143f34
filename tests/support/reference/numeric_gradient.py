"""Gradients of a float64 numpy function by central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def numeric_gradient(
    function: Callable[..., float], arguments: dict[str, np.ndarray], step: float = 1e-6
) -> dict[str, np.ndarray]:
    """Return d function(**arguments) / d argument for every argument."""
    gradients = {}
    for name, value in arguments.items():
        gradient = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            sides = []
            for offset in (step, -step):
                moved = value.copy()
                moved[index] += offset
                sides.append(function(**{**arguments, name: moved}))
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        gradients[name] = gradient
    return gradients
