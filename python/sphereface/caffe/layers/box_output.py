"""BoxOutput and BoxGroupOutput: the regions that maps of several scales find most likely objects.

Source: box_output_layer.cpp of MS-CNN's Caffe fork (Cai et al., ECCV 2016), and of Cascade R-CNN's
(Cai and Vasconcelos, CVPR 2018) box_group_output_layer.cpp and bbox_util.cpp. What differs:
``nms_type`` is IOU only; boxes that share less than a pixel overlap by that, there by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from sphereface.caffe.box_offsets import offset_units
from sphereface.caffe.boxes import unsuppressed
from sphereface.caffe.graph import Arity, at_least
from sphereface.caffe.layer import Shape
from sphereface.caffe.registry import register_layer
from sphereface.caffe.value_loop import ValueLoop

__all__ = ["BoxGroupOutput", "BoxOutput", "box_group_output", "box_output", "centred_boxes"]


def centred_boxes(
    offset: Tensor,
    fields: Sequence[tuple[float, float]],
    stride: float,
    means: Sequence[float],
    deviations: Sequence[float],
    bounds: tuple[float, float],
) -> Tensor:
    """Return x, y of the near corner, width and height.

    Parameters
    ----------
    offset : Tensor of shape (N, fields, 4, H, W)
        Of the centre in sizes of the field, and logarithms of sizes, in units of `means` and
        `deviations`.
    fields : sequence of (width, height)
        In pixels, centred on each cell.
    stride : float
        Pixels of a cell.
    bounds : (float, float)
        What the centre may move by, in sizes of the field, and the logarithm of the size.

    Returns
    -------
    Tensor of shape (N, fields, 4, H, W)
    """
    height, width = offset.shape[3:]
    unit, shift = (offset.new_tensor(list(v)).reshape(4, 1, 1) for v in (deviations, means))
    moved, grown = (offset * unit + shift).split([2, 2], 2)
    farthest, growth = bounds
    size = offset.new_tensor([list(field) for field in fields])[:, :, None, None]
    column = torch.arange(width, device=offset.device, dtype=offset.dtype) + 0.5
    row = torch.arange(height, device=offset.device, dtype=offset.dtype)[:, None] + 0.5
    center = torch.stack(torch.broadcast_tensors(column, row)) * stride
    extent = size * grown.clamp(-growth, growth).exp()
    return torch.cat([moved.clamp(-farthest, farthest) * size + center - extent / 2, extent], 2)


def _chosen(
    score: Tensor,
    box: Tensor,
    *,
    rim: float,
    threshold: float,
    overlap: float,
    most: int,
    most_after: int,
    top_count: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the best boxes of each image as regions, and with their scores.

    Those of `score` (N, count) below the threshold are not looked at, nor those that are -inf.
    """
    found = []
    for image in range(len(score)):
        likely = (score[image] >= threshold) & (score[image] > -torch.inf)
        own, corner = score[image][likely], box[image][likely]
        best = own.sort(descending=True, stable=True).indices[: most or None]
        own, corner = own[best], corner[best]
        valid = torch.ones_like(own, dtype=torch.bool)[None]
        kept = unsuppressed(corner[None], valid, overlap, rim=rim, most=most_after or None)[0]
        number = torch.full_like(own[kept][:, None], image)
        found.append(torch.cat([number, corner[kept], own[kept][:, None]], 1))
    rows = torch.cat(found)[:, :, None, None]
    if not len(rows):  # as the forks: a region for what reads the top, and no detection
        region = rows.new_tensor([0.0, 1.0, 1.0, 10.0, 10.0]).reshape(1, 5, 1, 1)
        rows = rows.new_zeros(1, 6, 1, 1)
    else:
        region = rows[:, :5]
    return region if top_count == 1 else (region, rows)


def box_output(
    *maps: Tensor,
    fields: tuple[tuple[float, float], ...],
    strides: tuple[int, ...],
    means: tuple[float, ...],
    deviations: tuple[float, ...],
    bounds: tuple[float, float],
    min_size: float,
    threshold: float,
    overlap: float,
    most: int,
    most_after: int,
    top_count: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return regions (R, 5, 1, 1); with two tops also (R, 6, 1, 1), with their scores."""
    scores, boxes = [], []
    for x, field, stride in zip(maps, fields, strides, strict=True):
        classes, offset = x.split([x.shape[1] - 4, 4], 1)
        score = classes[:, 1:].amax(1) - classes[:, 0]
        part = centred_boxes(offset[:, None], [field], stride, means, deviations, bounds)[:, 0]
        near, size = part.split([2, 2], 1)
        near = near.clamp(min=0)
        limit = x.new_tensor([x.shape[3] * stride, x.shape[2] * stride]).reshape(2, 1, 1)
        size = size.minimum(limit - near)
        scores.append(score.where((size >= min_size).all(1), -torch.inf).flatten(1))
        boxes.append(torch.cat([near, near + size], 1).flatten(2).transpose(1, 2))
    # Of equal scores the last comes first.
    return _chosen(
        torch.cat(scores, 1).flip(1),
        torch.cat(boxes, 1).flip(1),
        rim=0.0,
        threshold=threshold,
        overlap=overlap,
        most=most,
        most_after=most_after,
        top_count=top_count,
    )


def box_group_output(
    *maps: Tensor,
    fields: tuple[tuple[tuple[float, float], ...], ...],
    strides: tuple[int, ...],
    means: tuple[float, ...],
    deviations: tuple[float, ...],
    bounds: tuple[float, float],
    min_size: float,
    threshold: float,
    overlap: float,
    most: int,
    most_after: int,
    top_count: int,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return regions (R, 5, 1, 1); with two tops also (R, 6, 1, 1), with their scores."""
    scores, boxes = [], []
    for p, offset, group, stride in zip(maps[::2], maps[1::2], fields, strides, strict=True):
        offset = offset.unflatten(0, (-1, len(group)))
        part = centred_boxes(offset, group, stride, means, deviations, bounds)
        near, size = part.split([2, 2], 2)
        limit = p.new_tensor([p.shape[3] * stride, p.shape[2] * stride]).reshape(2, 1, 1)
        far = (near + size - 1).minimum(limit)
        near = near.clamp(min=0)
        score = (1 - p[:, 0]).unflatten(0, (-1, len(group)))
        large = (far - near + 1 >= min_size).all(2)
        scores.append(score.where(large, -torch.inf).flatten(1))
        boxes.append(torch.cat([near, far], 2).permute(0, 1, 3, 4, 2).flatten(1, 3))
    return _chosen(
        torch.cat(scores, 1),
        torch.cat(boxes, 1),
        rim=1.0,
        threshold=threshold,
        overlap=overlap,
        most=most,
        most_after=most_after,
        top_count=top_count,
    )


class _Output(ValueLoop):
    """What both read."""

    tops = Arity(1, 2)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read the thresholds and bounds."""
        options = self.options
        if options.nms_type != "IOU":
            raise self.error(f'nms_type "{options.nms_type}"', expected='"IOU"')
        if options.field_xyr <= 0 or options.field_whr < 1:
            raise self.error(
                f"field_xyr {options.field_xyr}, field_whr {options.field_whr}",
                expected="above 0, and at least 1",
            )
        self.means, self.deviations = offset_units(self)
        self.bounds = (1 / options.field_xyr, log(options.field_whr))
        self.min_size, self.threshold = options.min_size, options.fg_thr
        self.overlap = options.iou_thr
        self.most, self.most_after = options.max_nms_num, options.max_post_nms_num

    def promise(self, images: int, places: int) -> Sequence[Shape]:
        """Return the tops' shapes with as many rows as there may be of `places` in an image."""
        rows = images * min(places, self.most or places, self.most_after or places)
        return [(rows, 5, 1, 1), (rows, 6, 1, 1)][: self.top_count]


@register_layer("BoxOutput", param="box_output_param")
class BoxOutput(_Output):
    """Decode, clip, rank and suppress the boxes of several maps.

    Bottoms: maps (N, classes + 4, H, W), the scores of the background and of classes, and offsets
    in units of ``bbox_reg_param``. Map i has the ``field_w`` x ``field_h`` that is the i-th, in
    pixels, and cells of ``downsample_rate``. A box's score is its largest less the background's; it
    counts from ``fg_thr``, and if width and height are ``min_size``. Of an image the
    ``max_nms_num`` best (0: all) go through suppression at ``iou_thr``, and ``max_post_nms_num`` of
    them stay. Tops: regions (R, 5, 1, 1), number of the image, x1, y1, x2, y2; the same with the
    score (R, 6, 1, 1). Where nothing is found they are 0, 1, 1, 10, 10 and zeros. `reshape`
    promises as many rows as there may be. Nothing has a gradient.
    """

    bottoms = at_least(1)
    function = staticmethod(box_output)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read each map's field."""
        super().setup(bottom_shapes)
        options, count = self.options, len(bottom_shapes)
        self.fields = tuple(zip(options.field_w, options.field_h, strict=False))
        self.strides = tuple(options.downsample_rate)
        given = {len(options.field_w), len(options.field_h), len(self.strides)}
        if given != {count} or min(*self.strides, *options.field_w, *options.field_h) < 1:
            raise self.error(
                f"field_w {list(options.field_w)}, field_h {list(options.field_h)},"
                f" downsample_rate {list(self.strides)}",
                expected=f"{count} each, one for each bottom, at least 1",
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the maps."""
        first = bottom_shapes[0][:2]
        if any(len(s) != 4 or s[:2] != first or s[1] < 6 for s in bottom_shapes):
            raise self.error(
                f"bottoms of shapes {', '.join(map(str, bottom_shapes))}",
                expected="(N, classes + 4, H, W), of at least 2 classes",
            )
        return self.promise(first[0], sum(s[2] * s[3] for s in bottom_shapes))


@register_layer("BoxGroupOutput", param="box_group_output_param")
class BoxGroupOutput(_Output):
    """Decode, clip, rank and suppress the boxes of several maps of several fields each.

    Bottoms, a pair for each ``box_group_param``: probabilities (N F, classes, H, W), the background
    first, and offsets (N F, 4, H, W), of F fields of ``field_w`` x ``field_h`` pixels, and cells of
    ``stride``. A box's score is 1 less the background's. All else is as of `BoxOutput`.
    """

    bottoms = at_least(2)
    function = staticmethod(box_group_output)

    def setup(self, bottom_shapes: Sequence[Shape]) -> None:
        """Read each pair's fields."""
        super().setup(bottom_shapes)
        groups = self.options.box_group_param
        self.fields = tuple(tuple(zip(g.field_w, g.field_h, strict=False)) for g in groups)
        self.strides = tuple(g.stride for g in groups)
        wrong = any(len(g.field_w) != len(g.field_h) or not g.field_w for g in groups)
        if wrong or 2 * len(groups) != len(bottom_shapes) or min(self.strides) < 1:
            raise self.error(
                f"{len(groups)} box_group_param for {len(bottom_shapes)} bottoms",
                expected="one for each pair, with stride, and field_w and field_h of one length",
            )

    def reshape(self, bottom_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """Check the pairs."""
        images, places = set(), 0
        for p, offset, group in zip(
            bottom_shapes[::2], bottom_shapes[1::2], self.fields, strict=True
        ):
            if len(p) != 4 or offset != (p[0], 4, *p[2:]) or p[0] % len(group):
                raise self.error(
                    f"bottoms of shapes {p} and {offset}",
                    expected=f"(N {len(group)}, classes, H, W) and (N {len(group)}, 4, H, W)",
                )
            images.add(p[0] // len(group))
            places += len(group) * p[2] * p[3]
        if len(images) > 1:
            raise self.error(f"{sorted(images)} images", expected="one number in all pairs")
        return self.promise(images.pop(), places)
