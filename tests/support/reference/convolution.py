"""Convolution, ReLU and max pooling with their gradients in float64 numpy, from the definitions."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x, size, stride):
    """Return a view (N, C, rows, columns, size, size)."""
    return sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]


def convolve(x, weight, bias, stride=1, pad=0):
    x = np.pad(np.asarray(x, float), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    patches = windows(x, weight.shape[2], stride)
    return np.einsum("ncyxij,ocij->noyx", patches, np.asarray(weight, float)) + np.reshape(
        np.asarray(bias, float), (1, -1, 1, 1)
    )


def convolve_gradients(x, weight, dy, stride=1, pad=0):
    """Return the gradients of x, weight and bias."""
    x = np.pad(np.asarray(x, float), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    weight, dy = np.asarray(weight, float), np.asarray(dy, float)
    size = weight.shape[2]
    dx = np.zeros_like(x)
    for row in range(dy.shape[2]):
        for column in range(dy.shape[3]):
            top, left = row * stride, column * stride
            dx[:, :, top : top + size, left : left + size] += np.einsum(
                "no,ocij->ncij", dy[:, :, row, column], weight
            )
    dweight = np.einsum("ncyxij,noyx->ocij", windows(x, size, stride), dy)
    stop_y, stop_x = dx.shape[2] - pad, dx.shape[3] - pad
    return dx[:, :, pad:stop_y, pad:stop_x], dweight, dy.sum((0, 2, 3))


def relu(x):
    return np.maximum(x, 0)


def max_pool(x, size, stride):
    """Max pooling of an image that the windows cover exactly."""
    return windows(x, size, stride).max((4, 5))


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
