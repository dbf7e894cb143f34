"""DetectionOutput: from offsets, scores and priors to the boxes that are left after suppression.

Source: detection_output_layer.cpp of SSD's Caffe fork; ``clip`` and ``normalized_bbox`` are those
of OpenCV's layer; the form with five bottoms is RefineDet's (Zhang et al., CVPR 2018). What
differs: boxes of equal score come in the order of their priors, where the original leaves it open;
results are not written to files by the layer (``save_output_param``, ``visualize``), but by the
program. The number of boxes depends on values: `reshape` promises one, as the original does,
torch.compile breaks the graph here, and torch.export refuses the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from sphereface.caffe.boxes import clip_boxes, decode_boxes, unsuppressed
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = ["LOWEST", "DetectionOutput", "best_of_image", "detection_output"]

LOWEST = torch.finfo(torch.float32).min
"""Scores above it take part where the file gives no threshold."""


def best_of_image(score: Tensor, kept: Tensor, most: int) -> Tensor:
    """Return `kept` with the `most` highest scores of each image only; shapes (N, classes, K)."""
    ranked = score.masked_fill(~kept, -torch.inf).flatten(1)
    order = ranked.sort(dim=1, descending=True, stable=True).indices[:, :most]
    best = torch.zeros_like(ranked, dtype=torch.bool).scatter(1, order, value=True)
    return kept & best.reshape(kept.shape)


def moved_priors(
    confidence: Tensor,
    box: Tensor,
    variance: list[Tensor],
    arm_confidence: Tensor,
    arm_location: Tensor,
    classes: int,
    code_type: str,
    objectness: float,
) -> tuple[Tensor, Tensor]:
    """Return the scores, background's for priors that are no object, and the moved priors."""
    count = len(confidence)
    first = arm_location.reshape(count, len(box), 1, 4)
    moved = decode_boxes(first, box, variance[0] if variance else None, code_type)
    score = confidence.reshape(count, len(box), classes)
    empty = torch.zeros_like(score)
    empty[..., 0] = 1
    object_score = arm_confidence.reshape(count, len(box), 2)[..., 1:]
    return torch.where(object_score < objectness, empty, score), moved


def detection_output(
    location: Tensor,
    confidence: Tensor,
    prior: Tensor,
    *more: Tensor,
    classes: int,
    background: int,
    share_location: bool,
    code_type: str,
    variance_in_target: bool,
    confidence_threshold: float,
    nms_threshold: float,
    eta: float,
    top_k: int,
    keep_top_k: int,
    clip: bool,
    normalized: bool,
    objectness: float,
) -> Tensor:
    """Return rows of image, label, score, xmin, ymin, xmax, ymax, shape (1, 1, rows, 7)."""
    count = location.shape[0]
    box, *variance = prior.reshape(prior.shape[1], -1, 1, 4)
    offset = location.reshape(count, len(box), -1, 4)
    rim = 0.0 if normalized else 1.0
    if len(more) == 2:
        confidence, box = moved_priors(
            confidence, box, variance, *more, classes, code_type, objectness
        )
    found = decode_boxes(offset, box, None if variance_in_target else variance[0], code_type, rim)
    if clip and normalized:
        found = clip_boxes(found, 1, 1)
    elif clip and len(more) == 1:
        found = clip_boxes(found, more[0].shape[2] - 1, more[0].shape[3] - 1)
    labels = [label for label in range(classes) if label != background]
    found = found.transpose(1, 2)[:, [0] * len(labels) if share_location else labels]
    score = confidence.reshape(count, -1, classes).transpose(1, 2)[:, labels]
    passing = score > confidence_threshold
    most = int(passing.sum(2).max())
    if top_k >= 0:
        most = min(most, top_k)
    ranked = score.masked_fill(~passing, -torch.inf).sort(dim=2, descending=True, stable=True)
    score, place = ranked.values[..., :most], ranked.indices[..., :most]
    found = found.gather(2, place[..., None].expand(*place.shape, 4))
    kept = unsuppressed(
        found.flatten(0, 1),
        (score > confidence_threshold).flatten(0, 1),
        nms_threshold,
        eta=eta,
        rim=rim,
    ).reshape(score.shape)
    if keep_top_k >= 0:
        kept = best_of_image(score, kept, keep_top_k)
    number, group, rank = kept.nonzero(as_tuple=True)
    if len(number) == 0:
        number = torch.arange(count, device=score.device)[:, None].to(found.dtype)
        return torch.cat([number, number.new_full((count, 6), -1)], 1)[None, None]
    label = torch.tensor(labels, device=score.device)[group]
    head = torch.stack([number, label], 1).to(found.dtype)
    chosen = (number, group, rank)
    return torch.cat([head, score[chosen][:, None], found[chosen]], 1)[None, None]


@register_layer("DetectionOutput", param="detection_output_param")
class DetectionOutput(ValueLoop):
    """Decode, suppress and rank the boxes of a batch of images.

    Bottoms: offsets (N, priors * classes * 4), scores (N, priors * classes), priors (1, 2,
    priors * 4) as PriorBox makes them, or (1, 1, ...) with ``variance_encoded_in_target``; with
    ``clip`` of boxes in pixels the image; or RefineDet's two more: scores (N, priors * 2) and
    offsets (N, priors * 4) of its first step, which moves the priors, and of which those below
    ``objectness_score`` are background. Top: (1, 1, rows, 7), a row a box: image, label, score,
    xmin, ymin, xmax, ymax; by image, label, and falling score. With no box at all there is a row of
    -1 an image, whose first value is the image. Nothing has a gradient.
    """

    bottoms = Arity(3, 5)
    function = staticmethod(detection_output)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        options = self.options
        if options.num_classes < 1:
            raise self.error("num_classes is not given", expected="the number of classes")
        self.classes, self.background = options.num_classes, options.background_label_id
        self.share_location = options.share_location
        if not self.share_location and self.classes == 1 and self.background == 0:
            raise self.error("background is the only class", expected="another class")
        self.code_type = self.option_name("code_type")
        self.variance_in_target = options.variance_encoded_in_target
        given = options.HasField("confidence_threshold")
        self.confidence_threshold = options.confidence_threshold if given else LOWEST
        # Some forks have the two of nms_param outside of it.
        nms = options.nms_param if options.HasField("nms_param") else options
        self.nms_threshold, self.eta = nms.nms_threshold, options.nms_param.eta
        self.top_k = nms.top_k if nms.HasField("top_k") else -1
        self.keep_top_k = options.keep_top_k
        self.clip, self.normalized = options.clip, options.normalized_bbox
        self.objectness = options.objectness_score
        if len(bottom_shapes) == 5 and not self.normalized:
            raise self.error("five bottoms with boxes in pixels", expected="normalized_bbox: true")
        if self.nms_threshold < 0 or not 0 < self.eta <= 1:
            raise self.error(
                f"nms_threshold {self.nms_threshold:g}, eta {self.eta:g}",
                expected="nms_threshold of at least 0, eta above 0 and at most 1",
            )
        if self.clip and not self.normalized and len(bottom_shapes) < 4:
            raise self.error("clip of boxes in pixels", expected="the image as the fourth bottom")

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are as many offsets and scores as priors; promise one row."""
        location, confidence, prior = bottom_shapes[:3]
        if len(prior) < 3 or prior[1] != 1 + (not self.variance_in_target):
            raise self.error(
                f"priors of shape {prior}",
                expected="(1, 1, ...), without variances"
                if self.variance_in_target
                else "(1, 2, ...), boxes and variances",
            )
        count = prod(prior[2:]) // 4
        per_prior = 4 if self.share_location else 4 * self.classes
        sizes = [
            ("offsets", location, count * per_prior),
            ("scores", confidence, count * self.classes),
        ]
        if len(bottom_shapes) == 5:
            sizes.append(("first scores", bottom_shapes[3], count * 2))
            sizes.append(("first offsets", bottom_shapes[4], count * 4))
        for name, shape, size in sizes:
            if prod(shape[1:]) != size or shape[:1] != location[:1]:
                raise self.error(
                    f"{name} of shape {shape} for {count} priors",
                    expected=f"{size} values an image",
                )
        return [(1, 1, 1, 7)]
