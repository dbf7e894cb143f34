"""MarginInnerProduct as a Caffe *Python layer*, so that a stock BVLC Caffe can train with it.

A net uses it without rebuilding Caffe (which needs ``WITH_PYTHON_LAYER := 1``)::

    layer {
      name: "fc6" type: "Python" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
      python_param {
        module: "sphereface.python_layer" layer: "MarginInnerProductLayer"
        param_str: '{"num_output": 10572, "type": "QUADRUPLE", "base": 1000, "gamma": 0.12,
                     "power": 1, "lambda_min": 5, "iteration": 0}'
      }
    }

Source: margin_inner_product_layer of SphereFace's Caffe fork. The second top is optional here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from sphereface import numpy_ops
from sphereface.annealing import Annealing
from sphereface.errors import SphereFaceError, nearest
from sphereface.margin_type import margin_of

try:
    from caffe import Layer as _Layer  # Caffe instantiates subclasses of its own Layer only
except ImportError:
    _Layer = object

__all__ = ["MarginInnerProductLayer"]

_WHERE = "MarginInnerProductLayer param_str"
_ANNEALING = tuple(field.name for field in fields(Annealing))
_DEFAULTS: dict[str, Any] = {
    "type": "SINGLE",
    "gradient": "CAFFE",
    "axis": 1,
    **dict(zip(_ANNEALING, Annealing(), strict=True)),
    "iteration": 0,
    "ignore_label": None,
    "seed": None,
}
_COUNT = ((int,), lambda value: value >= 0, "an integer >= 0")
_FACTOR = ((int, float), lambda value: True, "a float32 number >= 0")  # Annealing checks more
# What an option may be: types, further condition, and both in words.
_KINDS: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "num_output": ((int,), lambda value: value > 0, "the number of classes"),
    "type": ((str, int, float), lambda value: margin_of(value) > 0, "a margin's name or m >= 1"),
    "gradient": ((str,), lambda value: value in ("CAFFE", "EXACT"), '"CAFFE" or "EXACT"'),
    "axis": ((int,), lambda value: value >= 1, "an integer >= 1"),
    "ignore_label": ((int,), lambda value: True, "an integer"),
    **dict.fromkeys(("iteration", "seed"), _COUNT),
    **dict.fromkeys(_ANNEALING, _FACTOR),
}


class MarginInnerProductLayer(_Layer):
    """Bottoms x and label, tops y and, optionally, lambda; one blob, the weight (N, K).

    Options in ``param_str``, as JSON: those of ``margin_inner_product_param`` (``type`` may also be
    a number, any m >= 1; ``gradient`` is "CAFFE" or "EXACT", which leaves the weight as it is),
    `ignore_label`, and `seed` for the filling of the weight (Caffe's ``xavier``). As in the
    original, lambda's count is not in Caffe's snapshots: on resume set `iteration` to the number of
    forwards done.

    Raises
    ------
    SphereFaceError
        An option is unknown or missing, or shapes or labels do not fit.
    """

    def setup(self, bottom: Any, top: Any) -> None:
        """Read the options and create the weight."""
        if len(bottom) != 2 or len(top) not in (1, 2):
            raise SphereFaceError(
                f"{len(bottom)} bottoms and {len(top)} tops",
                where="MarginInnerProductLayer",
                expected="the bottoms x and label, the tops y and, optionally, lambda",
            )
        options = _options(self.param_str)
        self.classes = options["num_output"]
        self.axis = options["axis"]
        self.margin = margin_of(options["type"])
        self.gradient = options["gradient"].lower()
        self.annealing = Annealing(**{name: options[name] for name in _ANNEALING})
        self.iteration = options["iteration"]
        self.ignore_label = options["ignore_label"]
        self.lambda_ = 0.0
        features = math.prod(bottom[0].data.shape[self.axis :])
        if len(self.blobs) == 0:
            self.blobs.add_blob(self.classes, features)
            bound = math.sqrt(3 / features)
            fill = np.random.default_rng(options["seed"])
            self.blobs[0].data[...] = fill.uniform(-bound, bound, (self.classes, features))

    def reshape(self, bottom: Any, top: Any) -> None:
        """Shape the tops as the bottom: its dimensions before `axis`, then the classes."""
        shape = bottom[0].data.shape
        features = math.prod(shape[self.axis :])
        if features != self.blobs[0].data.shape[1]:
            raise SphereFaceError(
                f"bottom x has shape {tuple(shape)}, {features} features from axis {self.axis} on",
                where="MarginInnerProductLayer",
                expected=f"{self.blobs[0].data.shape[1]} features",
            )
        top[0].reshape(*shape[: self.axis], self.classes)
        if len(top) > 1:
            top[1].reshape(1)

    def forward(self, bottom: Any, top: Any) -> None:
        """Count, anneal, normalise the weight in place (not for "EXACT") and fill the tops."""
        self.iteration += 1
        self.lambda_ = self.annealing.at(self.iteration)
        y = numpy_ops.forward(*self._arguments(bottom))
        top[0].data[...] = y.reshape(top[0].data.shape)
        if len(top) > 1:
            top[1].data[...] = self.lambda_

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        """Write the bottom's diff and add to the weight's, as Caffe's layers do."""
        if propagate_down[1]:
            raise SphereFaceError(
                "propagate_down is set for the label",
                where="MarginInnerProductLayer",
                expected="a gradient for bottom 0 only",
            )
        grad = top[0].diff.reshape(-1, self.classes)
        dx, dweight = numpy_ops.backward(grad, *self._arguments(bottom))
        self.blobs[0].diff[...] += dweight
        if propagate_down[0]:
            bottom[0].diff[...] = dx.reshape(bottom[0].diff.shape)

    def _arguments(self, bottom: Any) -> tuple[Any, ...]:
        weight = self.blobs[0].data
        x = bottom[0].data.reshape(-1, weight.shape[1])
        # Caffe's labels are floats.
        label = bottom[1].data.reshape(-1).astype(np.int64)
        return x, weight, label, self.lambda_, self.margin, self.gradient, self.ignore_label


def _options(param_str: str) -> dict[str, Any]:
    example = '{"num_output": 10572, "type": "QUADRUPLE"}'
    try:
        given = json.loads(param_str)
    except json.JSONDecodeError as error:
        raise SphereFaceError(
            f"{param_str!r} is not JSON ({error})", where=_WHERE, expected=f"for example {example}"
        ) from error
    if not isinstance(given, dict):
        raise SphereFaceError(
            f"{param_str!r} is not an object", where=_WHERE, expected=f"for example {example}"
        )
    for name, value in given.items():
        if name not in _KINDS:
            raise SphereFaceError(
                f'unknown option "{name}"',
                where=_WHERE,
                expected=", ".join(_KINDS),
                fix=nearest(name, _KINDS),
            )
        kinds, accept, expected = _KINDS[name]
        if not isinstance(value, kinds) or isinstance(value, bool) or not accept(value):
            raise SphereFaceError(f"{name} is {value!r}", where=_WHERE, expected=expected)
    if "num_output" not in given:
        raise SphereFaceError("no num_output", where=_WHERE, expected=f"for example {example}")
    return {**_DEFAULTS, **given}
