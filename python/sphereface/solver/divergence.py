"""Notices a run that is lost, and says what its authors would try.

Two signs: a loss that is no number, and one at 87.3365 = -ln(FLT_MIN), where Caffe's softmax loss
ends (on a GPU it shows that for NaN too, and for labels that are not classes). The advice is that
of SphereFace's README and of "Notes for training" of its predecessor, Large-Margin Softmax, with
the values of the run.
"""

from __future__ import annotations

import math
from typing import Any

from sphereface.annealing import Annealing
from sphereface.caffe import Net
from sphereface.caffe.layers.margin_inner_product import AnnealedProduct
from sphereface.errors import NonFiniteError

__all__ = ["DivergedError", "DivergenceMonitor"]

_SATURATED = 87.0
_AUTHORS_BATCH, _AUTHORS_RATE = 512, 0.1
# Of a run's forwards, how many of them lambda may take to its end: see `Annealing.over`.
_ANNEALED = 0.1


class DivergedError(NonFiniteError):
    """The loss is no number any more."""


class DivergenceMonitor:
    """Looks at the losses of a run.

    Parameters
    ----------
    net : Net
        What is trained.
    param : SolverParameter
        How.

    Attributes
    ----------
    last_snapshot : str
        Where to go back to; kept up by the solver.
    warnings : list of str
        What was wrong with the data before the first step (`data_warnings`): the likeliest cause.
    """

    def __init__(self, net: Net, param: Any) -> None:
        self._net, self._param = net, param
        self._warned = False
        self.warnings: list[str] = []
        self.last_snapshot = ""
        weights = [w for layer in net.layers if layer.type == "SoftmaxWithLoss"
                   for w in layer.loss_weight if w]  # fmt: skip
        # Other losses have no such end.
        only_softmax = weights and len(weights) == len(net.loss_weights)
        self._saturated = _SATURATED * sum(weights) if only_softmax else math.inf

    def observe(self, iteration: int, loss: float, rate: float, samples: int) -> str:
        """Take note of a loss; return a warning, once, or an empty string.

        Raises
        ------
        DivergedError
            The loss is NaN or infinite.
        """
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss:g}",
                where=f"iteration {iteration}",
                expected="a number",
                fix=self.advice(rate, samples),
            )
        if self._warned or loss < self._saturated:
            return ""
        self._warned = True
        return (
            f"Iteration {iteration}: the loss is {loss:g}; {-math.log(2**-126):g} means that every "
            "label has probability 0: the run is lost, unless the labels are wrong.\n"
            + self.advice(rate, samples)
        )

    def advice(self, rate: float, samples: int) -> str:
        """Return what to try, most promising first, a line each."""
        lines = ["what to try:", *(f"- what was warned of: {line}" for line in self.warnings)]
        if samples < _AUTHORS_BATCH:
            lines.append(
                f"- a bigger batch: it is {samples} (the authors': {_AUTHORS_BATCH}); iter_size "
                "multiplies it without more memory"
            )
        relu = sum(layer.type == "ReLU" for layer in self._net.layers)
        if relu:
            lines.append(f"- PReLU in place of ReLU ({relu} layers)")
        lines += [
            self._margin_line(layer)
            for layer in self._net.layers
            if isinstance(layer, AnnealedProduct)
        ]
        lines += [
            self._rate_line(rate, samples),
            "- weights of a model trained with softmax, or with type: SINGLE, to start from",
            "- a deeper or wider net",
        ]
        for layer in self._net.layers:
            if layer.type == "SoftmaxWithLoss":
                axis = layer.options.axis
                classes = self._net.blob_shapes[layer.layer_param.bottom[0]][axis]
                lines.append(f"- labels that are whole numbers from 0 to {classes - 1}")
        if self.last_snapshot:
            lines.append(f"the last good snapshot is {self.last_snapshot}")
        return "\n".join(lines)

    def _rate_line(self, rate: float, samples: int) -> str:
        line = f"- a smaller base_lr (the rate is {rate:g}"
        theirs = _AUTHORS_RATE * samples / _AUTHORS_BATCH
        if 0 < theirs < rate:
            line += (
                f"; for a batch of {samples} the authors' {_AUTHORS_RATE:g} at {_AUTHORS_BATCH} "
                f"is {theirs:.2g}"
            )
        return f"{line}), or clip_gradients"

    def _margin_line(self, layer: AnnealedProduct) -> str:
        annealing = layer.annealing
        text = (
            f'- an easier margin: lambda of layer "{layer.name}" is '
            f"{annealing.at(int(layer.iteration)):g} now; a larger lambda_min (it is "
            f"{annealing.lambda_min:g}; begin with 5 to 10) or a slower fall (base "
            f"{annealing.base:g}, gamma {annealing.gamma:g}, power {annealing.power:g})"
        )
        forwards = self._param.max_iter * self._param.iter_size
        steps = int(_ANNEALED * forwards)
        least, base = annealing.lambda_min, annealing.base
        if steps and 0 < least < base and annealing.power > 0:
            over = Annealing.over(steps, least, base, annealing.power)
            text += (
                f"; for this run of {forwards} forwards gamma {over.gamma:.3g} comes to "
                f"lambda_min after {steps}"
            )
            if math.isfinite(annealing.steps):
                text += f", the present one after {annealing.steps:g}"
        return text
