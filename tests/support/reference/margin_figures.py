"""What a batch is to a head without its margin, row by row in float64."""

from __future__ import annotations

import math

import numpy as np


def reference(x, weight, label, unit, scale=None):
    """Return means over rows with a class of loss, hit, cosine and norm.

    `unit`: the weights' rows are divided by their norms; `scale`: so are the rows, and multiplied.
    """
    found = []
    for row, target in zip(x.astype(np.float64), label.astype(int), strict=True):
        if target < 0:
            continue
        norms = np.linalg.norm(weight.astype(np.float64), axis=1)
        products = weight.astype(np.float64) @ row
        scores = products / norms if unit else products
        if scale is not None:
            scores = scale * scores / np.linalg.norm(row)
        loss = math.log(sum(math.exp(s - scores[target]) for s in scores))
        norm = np.linalg.norm(row)
        cosine = products[target] / norms[target] / norm
        found.append((loss, scores.argmax() == target, cosine, norm))
    return np.mean(np.array(found, np.float64), axis=0)
