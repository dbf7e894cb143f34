"""CTCLoss and CTCGreedyDecoder: sequences of labels in longer sequences of scores.

Source: Graves et al., ICML 2006, as in ctc_loss_layer.cpp and ctc_decoder_layer.cpp of the Caffe
fork of ChWick; the loss is torch's. What differs: the gradient is the derivative of the loss, with
its 1 / N and loss weight, where the fork's has neither; the options that torch's loss does not know
(``output_delay``, ``preprocess_collapse_repeated``, ``ctc_merge_repeated: false``) are refused; a
label that is the blank is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.graph import Arity, exactly
from sphereface.caffe.indices import indices_below
from sphereface.caffe.layer import Layer, Shape
from sphereface.caffe.registry import register_layer

__all__ = ["CTCGreedyDecoder", "CTCLoss", "ctc_greedy_decode", "sequence_lengths"]


def sequence_lengths(indicators: Tensor) -> Tensor:
    """Return the length of each column: up to the first 0 behind its first row, or all of it."""
    return _first(indicators[1:].round() == 0) + 1


def _first(marks: Tensor) -> Tensor:
    """Return the first row that is marked, of each column; the number of rows if none is."""
    end = torch.ones(1, marks.shape[1], dtype=torch.bool, device=marks.device)
    return torch.cat([marks, end]).to(torch.uint8).argmax(0)


def ctc_greedy_decode(
    x: Tensor, indicators: Tensor, *, blank: int, merge_repeated: bool
) -> tuple[Tensor, Tensor]:
    """Return the labels (T, N), -1 behind their end, and minus the sum of the maxima (N,)."""
    steps = x.shape[0]
    best, labels = x.max(2)
    inside = torch.arange(steps, device=x.device)[:, None] < sequence_lengths(indicators)
    kept = inside & (labels != blank)
    if merge_repeated:
        kept = kept & ~F.pad(labels[1:] == labels[:-1], (0, 0, 1, 0))
    # What is kept goes to the front, in its order; the rest behind it.
    order = (~kept).to(torch.uint8).argsort(dim=0, stable=True)
    decoded = torch.where(kept, labels, -1).gather(0, order)
    return decoded.to(x.dtype), -(best * inside).sum(0)


class _Sequences(Layer):
    """Bottoms: scores (T, N, C); indicators (T, N), 0 where a sequence starts; labels (T, N)."""

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read which class is the blank: by default the last."""
        shape = bottom_shapes[0]
        if len(shape) < 3 or prod(shape[3:]) != 1:
            raise self.error(f"scores of shape {shape}", expected="(T, N, classes)")
        self.blank = self.options.blank_index
        if self.blank < 0:
            self.blank = shape[2] - 1
        if self.blank >= shape[2]:
            raise self.error(f"blank_index {self.blank}", expected=f"at most {shape[2] - 1}")

    def check_sequences(self, bottom_shapes: Sequence[Shape]) -> tuple[int, int]:
        """Return T and N; raise an error unless all bottoms have them."""
        steps, count = bottom_shapes[0][:2]
        for other in bottom_shapes[1:]:
            if prod(other) != steps * count or other[:1] != (steps,):
                raise self.error(
                    f"a bottom of shape {other} for scores of shape {bottom_shapes[0]}",
                    expected=f"({steps}, {count})",
                )
        return steps, count


@register_layer("CTCLoss", param="ctc_loss_param")
class CTCLoss(_Sequences):
    """The mean over N of -log p(labels | softmax of the scores).

    Bottoms: scores (T, N, C); indicators (T, N), 0 at the start of a sequence, behind which the
    column ends at the next 0; labels (T, N), below 0 behind their end. ``blank_index`` is the
    blank's class, the last by default.
    """

    bottoms = exactly(3)
    auto_tops = True
    default_loss_weight = 1.0

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the blank and refuse what torch has not."""
        super().setup(bottom_shapes)
        options = self.options
        refused = {
            "output_delay": options.output_delay != 0,
            "preprocess_collapse_repeated": options.preprocess_collapse_repeated,
            "ctc_merge_repeated": not options.ctc_merge_repeated,
        }
        for name, given in refused.items():
            if given:
                raise self.error(f"{name}: {getattr(options, name)}", expected="its default")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the bottoms; the top is a scalar."""
        self.check_sequences(bottom_shapes)
        return [()]

    def forward(self, x: Tensor, indicators: Tensor, label: Tensor) -> Tensor:
        """Return the loss."""
        steps, count, classes = x.shape[:3]
        labels = label.detach().reshape(steps, count)
        lengths = _first(labels < 0)
        inside = torch.arange(steps, device=x.device)[:, None] < lengths
        targets = indices_below(self, torch.where(inside, labels.round(), 0), classes, "label")
        self._check(targets, inside)
        loss = F.ctc_loss(
            F.log_softmax(x.reshape(steps, count, classes), 2),
            targets.t(),
            sequence_lengths(indicators.detach().reshape(steps, count)),
            lengths,
            self.blank,
            reduction="none",
        )
        return loss.sum() / count

    def _check(self, targets: Tensor, inside: Tensor) -> None:
        if torch.compiler.is_compiling() or targets.device.type != "cpu":
            return
        if (inside & (targets == self.blank)).any():
            raise self.error(
                f"a label is {self.blank}, the blank", expected="labels of other classes"
            )


@register_layer("CTCGreedyDecoder", param="ctc_decoder_param")
class CTCGreedyDecoder(_Sequences):
    """The largest score of each step, without blanks and, as ``ctc_merge_repeated``, repetitions.

    Bottoms: scores (T, N, C); indicators (T, N) as of `CTCLoss`, without which all sequences have T
    steps; optionally labels (T, N). Tops: the labels (T, N, 1, 1), -1 behind their end; of two or
    three tops, without labels the second is minus the sum of the largest scores (N, 1, 1, 1); with
    them the last is the accuracy (1, 1, 1, 1), 1 minus the mean of the edit distance over the
    longer length, and a second of three the scores.
    """

    bottoms = Arity(1, 3)
    tops = Arity(1, 3)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the blank and whether repetitions are merged."""
        super().setup(bottom_shapes)
        self.merge_repeated: bool = self.options.ctc_merge_repeated
        if self.top_count > max(len(bottom_shapes), 2):
            raise self.error(
                f"{self.top_count} tops of {len(bottom_shapes)} bottoms",
                expected="labels as the third bottom, for the accuracy",
            )
        self.measures = len(bottom_shapes) == 3 and self.top_count > 1

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Return the shapes of labels, scores and accuracy."""
        steps, count = self.check_sequences(bottom_shapes)
        shapes: list[Shape] = [(steps, count, 1, 1)]
        if self.top_count - self.measures == 2:
            shapes.append((count, 1, 1, 1))
        return [*shapes, *[(1, 1, 1, 1)] * self.measures]

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the labels, and scores and accuracy where the file asks for them."""
        steps, count, classes = x.shape[:3]
        indicators, *label = others or (x.new_ones(steps, count),)
        decoded, scores = ctc_greedy_decode(
            x.detach().reshape(steps, count, classes),
            indicators.reshape(steps, count),
            blank=self.blank,
            merge_repeated=self.merge_repeated,
        )
        tops = [decoded.reshape(steps, count, 1, 1)]
        if self.top_count - self.measures == 2:
            tops.append(scores.reshape(count, 1, 1, 1))
        if self.measures:
            tops.append(_accuracy(decoded, label[0].reshape(steps, count)).reshape(1, 1, 1, 1))
        return tops[0] if len(tops) == 1 else tuple(tops)


def _accuracy(decoded: Tensor, label: Tensor) -> Tensor:
    """Return 1 minus the mean over the columns of edit distance over the longer length."""
    found, wanted = _first(decoded < 0), _first(label < 0)
    distance = _edit_distance(decoded, label.round(), found, wanted)
    longer = torch.maximum(found, wanted)
    return 1 - (distance.to(decoded.dtype) / longer.clamp(min=1)).mean()


def _edit_distance(a: Tensor, b: Tensor, a_length: Tensor, b_length: Tensor) -> Tensor:
    """Return the edit distance of each pair of columns of a and b, (T, N) both."""
    steps, count = a.shape
    # Row i of the table: the distance of the first i values of a to the first j of b.
    row = torch.arange(steps + 1, device=a.device)[:, None].expand(steps + 1, count)
    picked = [row.gather(0, b_length[None])[0]]
    for i in range(steps):
        cells = [torch.full_like(row[0], i + 1)]
        for j in range(steps):
            replaced = row[j] + (a[i] != b[j])
            cells.append(torch.minimum(torch.minimum(row[j + 1], cells[j]) + 1, replaced))
        row = torch.stack(cells)
        picked.append(row.gather(0, b_length[None])[0])
    return torch.stack(picked).gather(0, a_length[None])[0]
