"""A-Softmax in float64 numpy, through theta itself (arc cosine and sines), from the definitions.

psi(theta) = (-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m]; rows of W normalised; the label's
logit is (|x| psi + lambda x.w) / (1 + lambda). Nothing of the package is used.
"""

import numpy as np


def unit_rows(weight):
    return weight / np.linalg.norm(weight, axis=1, keepdims=True)


def psi(theta, m):
    k = np.minimum(np.floor(m * theta / np.pi), m - 1)
    return (-1.0) ** k * np.cos(m * theta) - 2 * k


def psi_by_theta(theta, m):
    k = np.minimum(np.floor(m * theta / np.pi), m - 1)
    return -m * (-1.0) ** k * np.sin(m * theta)


def angles(x, w):
    length = np.linalg.norm(x)
    return length, np.arccos(np.clip(x @ w / length, -1, 1))


def forward(x, weight, label, lambda_, m):
    x, w = np.asarray(x, float), unit_rows(np.asarray(weight, float))
    y = x @ w.T  # (M, N)
    for i, j in enumerate(label):
        length, theta = angles(x[i], w[j])
        if m > 1:
            y[i, j] = (length * psi(theta, m) + lambda_ * x[i] @ w[j]) / (1 + lambda_)
    return y


def coefficients(x, w, m):
    """d(|x| psi)/dx = c_w w + c_x x."""
    length, theta = angles(x, w)
    # At 0 and pi both are zero; the limit of their ratio is the same there.
    slope = psi_by_theta(theta, m) / np.sin(theta) if 1e-7 < theta < np.pi - 1e-7 else -m * m
    return -slope, (psi(theta, m) + slope * np.cos(theta)) / length


def caffe_backward(grad, x, weight, label, lambda_, m):
    """The original's diffs: dW without margin and normalisation, dX with a normalised direction."""
    x, w, grad = np.asarray(x, float), unit_rows(np.asarray(weight, float)), np.asarray(grad, float)
    dx = grad @ w
    for i, j in enumerate(label):
        if m > 1:
            c_w, c_x = coefficients(x[i], w[j], m)
            g = (c_w * w[j] + c_x * x[i]) / np.hypot(c_w, c_x)
            dx[i] += grad[i, j] * ((g + lambda_ * w[j]) / (1 + lambda_) - w[j])
    return dx, grad.T @ x


def exact_backward(grad, x, weight, label, lambda_, m):
    """The gradient with respect to x and the raw weight."""
    x, raw, grad = np.asarray(x, float), np.asarray(weight, float), np.asarray(grad, float)
    w = unit_rows(raw)
    dx, dw = grad @ w, grad.T @ x
    for i, j in enumerate(label):
        if m > 1:
            c_w, c_x = coefficients(x[i], w[j], m)
            dx[i] += grad[i, j] * (((c_w - 1) * w[j] + c_x * x[i]) / (1 + lambda_))
            dw[j] += grad[i, j] * (c_w - 1) / (1 + lambda_) * x[i]
    tangent = dw - w * (w * dw).sum(1, keepdims=True)
    return dx, tangent / np.linalg.norm(raw, axis=1, keepdims=True)
