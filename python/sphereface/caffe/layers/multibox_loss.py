"""MultiBoxLoss: offsets and scores of priors against the true boxes of a batch of images.

Source: multibox_loss_layer.cpp and bbox_util.cpp of SSD's Caffe fork (Liu et al., SSD, ECCV 2016,
section 2.2); of five or six bottoms those of RefineDet's fork (Zhang et al., CVPR 2018, section
3). What differs: with ``conf_loss_type: LOGISTIC`` and ``mining_type: NONE`` the targets
of the second image on stand where they belong, which the original misses; matching predictions
(``use_prior_for_matching: false``) needs ``share_location``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from sphereface.caffe.box_matching import UNMATCHED, match_boxes
from sphereface.caffe.boxes import box_area, decode_boxes, encode_boxes, unsuppressed
from sphereface.caffe.graph import Arity
from sphereface.caffe.layer import Shape
from sphereface.caffe.loss_layer import LossLayer
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import uncompiled

__all__ = ["MultiBoxLoss"]

_VALUES = 8  # image, label, instance, xmin, ymin, xmax, ymax, difficult
_SMALL = 1e-5


@register_layer("MultiBoxLoss", param="multibox_loss_param")
class MultiBoxLoss(LossLayer):
    """``(scores' loss + loc_weight * offsets' loss) / matches``.

    Bottoms: offsets (N, priors * classes * 4), scores before softmax or sigmoid (N, priors *
    classes), priors (1, 2, priors * 4), and true boxes (1, 1, M, 8): image (-1 for an empty row),
    label, instance, xmin, ymin, xmax, ymax in shares of the image, difficult. Priors are matched
    (`sphereface.caffe.box_matching`); offsets of the matched count, and scores of the matched and
    of the negatives that ``mining_type`` takes: MAX_NEGATIVE the worst ``neg_pos_ratio`` as many,
    HARD_EXAMPLE the worst ``sample_size`` of all, NONE every one.

    RefineDet's second step has a fifth bottom, the first step's two probabilities (N, priors * 2):
    negatives that are an object by less than ``objectness_score`` are not taken; and a sixth, its
    offsets (N, priors * 4), which move the priors before anything else. With ``objectness_score``
    in the file and two classes all labels are 1: the first step tells objects from background.
    """

    bottoms = Arity(4, 6)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the options."""
        super().setup(bottom_shapes)
        options = self.options
        self.classes, self.background = options.num_classes, options.background_label_id
        self.share_location, self.weight_of_offsets = options.share_location, options.loc_weight
        self.match_priors = options.use_prior_for_matching
        self.overlap_threshold = options.overlap_threshold
        self.ignore_outside = options.ignore_cross_boundary_bbox
        self.difficult, self.agnostic = options.use_difficult_gt, options.map_object_to_agnostic
        self.in_target, self.inside = options.encode_variance_in_target, options.bp_inside
        self.ratio, self.neg_overlap = options.neg_pos_ratio, options.neg_overlap
        self.sample_size = options.sample_size
        nms = options.nms_param
        self.suppress = nms.nms_threshold if options.HasField("nms_param") else 0.0
        self.suppress_most = nms.top_k if nms.HasField("top_k") else -1
        self.suppress_priors = options.use_prior_for_nms
        if self.classes < 1:
            raise self.error("num_classes is not given", expected="the number of classes")
        self.mining = self.option_name("mining_type")
        if options.HasField("do_neg_mining") and not options.do_neg_mining:
            self.mining = "NONE"
        self.code_type = self.option_name("code_type")
        self.logistic = self.option_name("conf_loss_type") == "LOGISTIC"
        self.squared = self.option_name("loc_loss_type") == "L2"
        self.each = self.option_name("match_type") == "PER_PREDICTION"
        if not self.share_location and (self.mining != "NONE" or not self.match_priors):
            raise self.error(
                "share_location: false with mining or with matching of predictions",
                expected="mining_type: NONE and use_prior_for_matching: true",
            )
        self.objectness = options.objectness_score
        self.object_or_not = options.HasField("objectness_score") and self.classes == 2
        if len(bottom_shapes) > 4 and (
            not (self.share_location and self.match_priors)
            or self.suppress > 0
            or self.mining == "HARD_EXAMPLE"
        ):
            raise self.error(
                "a first step with share_location: false, with matching of predictions, nms_param"
                " or mining_type: HARD_EXAMPLE",
                expected="RefineDet's options, which are none of these",
            )
        agnostic = 2 if self.background >= 0 else 1
        if self.agnostic and self.classes != agnostic:
            raise self.error(
                f"num_classes {self.classes} with map_object_to_agnostic",
                expected=str(agnostic),
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check that there are as many offsets and scores as priors."""
        location, confidence, prior, truth, *first = bottom_shapes
        if len(prior) < 3 or prior[1] != 2:
            raise self.error(f"priors of shape {prior}", expected="(1, 2, ...)")
        count, classes = prod(prior[2:]) // 4, self.classes
        per_prior = 4 if self.share_location else 4 * classes
        for name, shape, size in (
            ("offsets", location, count * per_prior),
            ("scores", confidence, count * classes),
            *zip(("probabilities", "offsets"), first, (2 * count, 4 * count), strict=False),
        ):
            if prod(shape[1:]) != size:
                raise self.error(
                    f"{name} of shape {shape} for {count} priors",
                    expected=f"{size} values an image",
                )
        if prod(truth) % _VALUES:
            raise self.error(f"true boxes of shape {truth}", expected="(1, 1, M, 8)")
        return super().reshape(bottom_shapes)

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Return the loss."""
        loss: Tensor = uncompiled(self, self._loss)(*bottoms)
        return loss

    def _loss(
        self, location: Tensor, confidence: Tensor, prior: Tensor, truth: Tensor, *first: Tensor
    ) -> Tensor:
        images = len(location)
        priors, variance = prior.detach().reshape(2, -1, 4)
        offset = location.reshape(images, len(priors), -1, 4)
        score = confidence.reshape(images, len(priors), self.classes)
        truths = self._truths(truth.detach())
        matched = torch.zeros(images, len(priors), dtype=torch.bool, device=score.device)
        offset_loss = score.new_zeros(())
        score_loss = score.new_zeros(())
        for image in range(images):
            own = truths[truths[:, 0] == image]
            box, able = self._first_step(image, priors, variance, first)
            index, negative = self._matches(offset[image], score[image], box, variance, own, able)
            positive = index >= 0
            matched[image] = positive
            label = torch.full_like(index, self.background)
            label[positive] = own[index[positive], 1].long()
            if positive.any():
                column = torch.zeros_like(label) if self.share_location else label
                moved = offset[image][positive, column[positive]]
                true = own[index[positive], 3:7]
                offset_loss = (
                    offset_loss
                    + self._offset_losses(moved, true, box[positive], variance[positive]).sum()
                )
            if self.agnostic:
                label[positive] = self.background + 1
            chosen = positive | negative
            score_loss = (
                score_loss
                + self._counted_losses(
                    score[image][chosen], label[chosen], negative[chosen] & (self.mining == "NONE")
                ).sum()
            )
        total = score_loss + self.weight_of_offsets * offset_loss
        return total / self.normalizer(images, images * len(priors), matched)

    @torch.no_grad()
    def _first_step(
        self, image: int, prior: Tensor, variance: Tensor, first: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return an image's boxes, and which of them may be negatives that count."""
        able = torch.ones(len(prior), dtype=torch.bool, device=prior.device)
        if first:
            able = first[0][image].reshape(-1, 2)[:, 1] >= self.objectness
        if len(first) == 2:
            used = None if self.in_target else variance
            prior = decode_boxes(first[1][image].reshape(-1, 4), prior, used, self.code_type)
        return prior, able

    def _truths(self, truth: Tensor) -> Tensor:
        """Return the rows of true boxes that count."""
        rows = truth.reshape(-1, _VALUES)
        rows = rows[rows[:, 0] >= 0]
        if not self.difficult:
            rows = rows[rows[:, 7] == 0]
        if self.object_or_not:
            rows = torch.cat([rows[:, :1], rows[:, 1:2].clamp(max=1), rows[:, 2:]], 1)
        wrong = (rows[:, 1] == self.background) | (rows[:, 1] < 0)
        if not self.agnostic:
            wrong |= rows[:, 1] >= self.classes
        if wrong.any():
            raise self.error(
                f"a true box of label {rows[wrong][0, 1]:g}",
                expected=f"labels below {self.classes}, not the background's {self.background}",
            )
        return rows

    @torch.no_grad()
    def _matches(
        self,
        offset: Tensor,
        score: Tensor,
        box: Tensor,
        variance: Tensor,
        truth: Tensor,
        able: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the true box of each prior, and which priors are negatives that count."""
        index = torch.full((len(box),), UNMATCHED, device=box.device)
        if len(truth) == 0:
            return index, torch.full_like(index, self.mining == "NONE", dtype=torch.bool)
        found = box
        if not self.match_priors:
            found = self._decoded(offset, box, variance)
        index, overlap = match_boxes(
            found,
            truth[:, 3:7],
            self.overlap_threshold,
            each=self.each,
            ignore_outside=self.ignore_outside,
        )
        if self.mining == "NONE":
            return index, index < 0
        label = torch.full_like(index, self.background)
        positive = index >= 0
        label[positive] = truth[index[positive], 1].long()
        if self.agnostic:
            label[positive] = self.background + 1
        loss = self._score_losses(score, label, torch.zeros_like(positive))
        if self.mining == "MAX_NEGATIVE":
            eligible = (index == UNMATCHED) & (overlap < self.neg_overlap)
            most = int(int(positive.sum()) * self.ratio)
        else:
            eligible, most = torch.ones_like(positive), self.sample_size
            moved, true = offset[positive, 0], truth[index[positive], 3:7]
            loss = loss.clone()
            loss[positive] += self._offset_losses(moved, true, box[positive], variance[positive])
        eligible = eligible & able
        chosen = torch.zeros_like(positive)
        chosen[self._worst(loss, eligible, offset, box, variance)[:most]] = True
        if self.mining == "HARD_EXAMPLE":
            index = torch.where(positive & ~chosen, UNMATCHED, index)
        return index, chosen & (index == UNMATCHED)

    def _worst(
        self, loss: Tensor, eligible: Tensor, offset: Tensor, box: Tensor, variance: Tensor
    ) -> Tensor:
        """Return the eligible priors by falling loss, after suppression if the file asks for it."""
        (place,) = eligible.nonzero(as_tuple=True)
        place = place[loss[place].sort(descending=True, stable=True).indices]
        if self.suppress <= 0:
            return place
        if self.suppress_most >= 0:
            place = place[: self.suppress_most]
        found = box if self.suppress_priors else self._decoded(offset, box, variance)
        found = found[place]
        valid = box_area(found) >= _SMALL
        return place[unsuppressed(found[None], valid[None], self.suppress)[0]]

    def _decoded(self, offset: Tensor, box: Tensor, variance: Tensor) -> Tensor:
        used = None if self.in_target else variance
        return decode_boxes(offset[:, 0], box, used, self.code_type)

    def _offset_losses(
        self, offset: Tensor, truth: Tensor, box: Tensor, variance: Tensor
    ) -> Tensor:
        """Return the loss of each prior's offsets."""
        target = encode_boxes(truth, box, None if self.in_target else variance, self.code_type)
        if self.inside:
            seen = box
            if not self.match_priors:
                used = None if self.in_target else variance
                seen = decode_boxes(offset.detach(), box, used, self.code_type)
            offset = torch.where((seen < 0) | (seen > 1), target, offset)
        if self.in_target:
            offset, target = offset / variance, target / variance
        if self.squared:
            return (offset - target).square().sum(1) / 2
        return F.smooth_l1_loss(offset, target, reduction="none").sum(1)

    def _counted_losses(self, score: Tensor, label: Tensor, blank: Tensor) -> Tensor:
        """Return the losses of scores that add up, where `_score_losses` are what mining sees."""
        return self._score_losses(score, label, blank)

    def _score_losses(self, score: Tensor, label: Tensor, blank: Tensor) -> Tensor:
        """Return the loss of each prior's scores; of the `blank` no class is true (LOGISTIC)."""
        if not self.logistic:
            return F.cross_entropy(score, label, reduction="none")
        true = F.one_hot(label, self.classes).to(score.dtype)
        true = true.masked_fill(blank[:, None], 0)
        return F.binary_cross_entropy_with_logits(score, true, reduction="none").sum(1)
