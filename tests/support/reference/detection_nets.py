"""Small nets in the shapes of known detectors, and weights for them that any machine makes again.

The shapes are those of MobileNet-SSD, OpenCV's res10 SSD of faces, S3FD, SSH, R-FCN and Faster
R-CNN; widths are a few channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sphereface.caffe import Net

__all__ = ["NETS", "fill_again", "inputs_of"]


def _layer(name: str, kind: str, bottoms: Sequence[str], top: str = "", options: str = "") -> str:
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top or name}" {options} }}'


def _input(name: str, *sizes: int) -> str:
    dims = " ".join(f"dim: {size}" for size in sizes)
    return _layer(name, "Input", (), options=f"input_param {{ shape {{ {dims} }} }}")


def _conv(name: str, bottom: str, count: int, kernel: int = 3, more: str = "") -> str:
    options = f"num_output: {count} kernel_size: {kernel} pad: {kernel // 2} {more}"
    return _layer(name, "Convolution", [bottom], options=f"convolution_param {{ {options} }}")


def _relu(bottom: str) -> str:
    return _layer(f"{bottom}/relu", "ReLU", [bottom], bottom)


def _step(name: str, bottom: str, count: int, stride: int = 2) -> list[str]:
    return [_conv(name, bottom, count, more=f"stride: {stride}"), _relu(name)]


def _normal(name: str, bottom: str) -> list[str]:
    """BatchNorm, Scale and ReLU in place."""
    return [
        _layer(f"{name}/bn", "BatchNorm", [bottom], bottom),
        _layer(f"{name}/scale", "Scale", [bottom], bottom, "scale_param { bias_term: true }"),
        _relu(bottom),
    ]


def _flat(name: str, bottom: str) -> list[str]:
    order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
    return [
        _layer(f"{name}_perm", "Permute", [bottom], options=order),
        _layer(f"{name}_flat", "Flatten", [f"{name}_perm"], options="flatten_param { axis: 1 }"),
    ]


_VARIANCE = "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"


def _heads(maps: Sequence[tuple[str, str, int]], classes: int) -> list[str]:
    """Offsets, scores and priors of (map, options of its priors, boxes of a position), joined."""
    lines = []
    for name, priors, boxes in maps:
        for part, count in (("loc", 4 * boxes), ("conf", classes * boxes)):
            head = f"{name}_{part}"
            lines += [_conv(head, name, count), *_flat(head, head)]
        options = f"prior_box_param {{ {priors} {_VARIANCE} }}"
        lines.append(_layer(f"{name}_prior", "PriorBox", [name, "data"], options=options))
    for part, ends, axis in (
        ("loc", "loc_flat", 1),
        ("conf", "conf_flat", 1),
        ("prior", "prior", 2),
    ):
        bottoms = [f"{name}_{ends}" for name, _, _ in maps]
        options = f"concat_param {{ axis: {axis} }}"
        lines.append(_layer(f"mbox_{part}", "Concat", bottoms, options=options))
    return [
        *lines,
        _layer(
            "conf_rows", "Reshape", ["mbox_conf"],
            options=f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}",
        ),
        _layer("conf_soft", "Softmax", ["conf_rows"], options="softmax_param { axis: 2 }"),
        _layer("conf_out", "Flatten", ["conf_soft"], options="flatten_param { axis: 1 }"),
    ]  # fmt: skip


_NORM = (
    "norm_param { across_spatial: false channel_shared: false"
    ' scale_filler { type: "constant" value: 10 } }'
)


def _detection(
    options: str, bottoms: Sequence[str] = ("mbox_loc", "conf_out", "mbox_prior")
) -> str:
    options = f"detection_output_param {{ {options} code_type: CENTER_SIZE }}"
    return _layer("detection_out", "DetectionOutput", bottoms, options=options)


def mobilenet_ssd() -> str:
    """Depthwise and pointwise convolutions, six maps in the original, two here."""
    lines = [_input("data", 1, 3, 64, 64), *_step("conv0", "data", 8)]
    for number, (bottom, count, stride) in enumerate(
        (("conv0", 8, 2), ("conv1", 12, 2), ("conv2", 12, 2)), 1
    ):
        depthwise, width = f"conv{number}/dw", (8, 8, 12)[number - 1]
        more = f"stride: {stride} group: {width} bias_term: false"
        lines += [_conv(depthwise, bottom, width, more=more), *_normal(depthwise, depthwise)]
        point = f"conv{number}"
        lines += [_conv(point, depthwise, count, 1, "bias_term: false"), *_normal(point, point)]
    maps = [
        ("conv2", "min_size: 12 aspect_ratio: 2 flip: true clip: false", 3),
        (
            "conv3",
            "min_size: 20 max_size: 30 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false",
            6,
        ),
    ]
    options = "num_classes: 5 share_location: true background_label_id: 0 keep_top_k: 40"
    options += " nms_param { nms_threshold: 0.45 top_k: 100 } confidence_threshold: 0.15"
    return "\n".join([*lines, *_heads(maps, 5), _detection(options)])


def res10_face() -> str:
    """Residual units, Normalize of the first map, steps of the priors given, boxes clipped."""
    lines = [_input("data", 1, 3, 60, 60), *_step("conv1", "data", 8)]
    lines += [
        _layer("pool1", "Pooling", ["conv1"], options="pooling_param { kernel_size: 3 stride: 2 }")
    ]
    lines += [_conv("res1a", "pool1", 8, more="bias_term: false"), *_normal("res1a", "res1a")]
    lines += [_conv("res1b", "res1a", 8, more="bias_term: false")]
    lines += [_layer("res1", "Eltwise", ["pool1", "res1b"]), _relu("res1")]
    lines += _step("res2", "res1", 12)
    lines += [_layer("res1_norm", "Normalize", ["res1"], options=_NORM)]
    maps = [
        (
            "res1_norm",
            "min_size: 8 max_size: 14 aspect_ratio: 2 flip: true clip: false step: 4 offset: 0.5",
            4,
        ),
        ("res2", "min_size: 20 max_size: 40 aspect_ratio: 2 flip: true clip: true step: 8", 4),
    ]
    options = "num_classes: 2 share_location: true background_label_id: 0 keep_top_k: 30"
    options += " nms_param { nms_threshold: 0.45 top_k: 80 } confidence_threshold: 0.01 clip: true"
    return "\n".join([*lines, *_heads(maps, 2), _detection(options)])


def s3fd() -> str:
    """One square prior a position; the first map's background is the largest of three scores."""
    lines = [_input("data", 1, 3, 48, 64), *_step("conv3", "data", 8), *_step("conv4", "conv3", 8)]
    lines += _step("conv5", "conv4", 8)
    lines += [_layer("conv4_norm", "Normalize", ["conv4"], options=_NORM)]
    lines += [
        _conv("three", "conv4_norm", 4),
        'layer { name: "cut" type: "Slice" bottom: "three" top: "bg1" top: "bg2" top: "bg3"'
        ' top: "face" slice_param { axis: 1 slice_point: 1 slice_point: 2 slice_point: 3 } }',
        _layer("bg", "Eltwise", ["bg1", "bg2", "bg3"], options="eltwise_param { operation: MAX }"),
        _layer("conv4_norm_conf", "Concat", ["bg", "face"]),
        *_flat("conv4_norm_conf", "conv4_norm_conf"),
    ]
    maps = [
        ("conv4_norm", "min_size: 8 clip: false step: 4 offset: 0.5", 1),
        ("conv5", "min_size: 16 clip: false step: 8 offset: 0.5", 1),
    ]
    heads = _heads(maps, 2)
    own = ("conv4_norm_conf", "conv4_norm_conf_perm", "conv4_norm_conf_flat")
    heads = [line for line in heads if not any(f'name: "{name}" ' in line for name in own)]
    options = "num_classes: 2 share_location: true background_label_id: 0 keep_top_k: 75"
    options += " nms_param { nms_threshold: 0.3 top_k: 500 } confidence_threshold: 0.05"
    return "\n".join([*lines, *heads, _detection(options)])


def _proposals(bottom: str, anchors: int, options: str, rois: str = "rois") -> list[str]:
    """A region proposal network on a map of fixed size."""
    return [
        *_step(f"{rois}_rpn", bottom, 8, 1),
        _conv(f"{rois}_score", f"{rois}_rpn", 2 * anchors, 1),
        _conv(f"{rois}_offset", f"{rois}_rpn", 4 * anchors, 1),
        _layer(
            f"{rois}_pairs", "Reshape", [f"{rois}_score"],
            options="reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }",
        ),
        _layer(f"{rois}_soft", "Softmax", [f"{rois}_pairs"]),
        _layer(
            f"{rois}_prob", "Reshape", [f"{rois}_soft"],
            options=f"reshape_param {{ shape {{ dim: 0 dim: {2 * anchors} dim: -1 dim: 0 }} }}",
        ),
        _layer(
            rois, "Proposal", [f"{rois}_prob", f"{rois}_offset", "im_info"],
            options=f"proposal_param {{ {options} }}",
        ),
    ]  # fmt: skip


def ssh() -> str:
    """Two detection modules with context, each with proposals of its own, joined."""
    lines = [_input("data", 1, 3, 64, 64), _input("im_info", 1, 3)]
    lines += [*_step("conv3", "data", 8), *_step("conv4", "conv3", 8), *_step("conv5", "conv4", 8)]
    up = "num_output: 8 kernel_size: 4 stride: 2 pad: 1 group: 8 bias_term: false"
    lines += [_layer("up", "Deconvolution", ["conv5"], options=f"convolution_param {{ {up} }}")]
    lines += [_layer("m1", "Eltwise", ["conv4", "up"]), _relu("m1")]
    for name, bottom, stride, base in (("m1", "m1", 4, 8), ("m2", "conv5", 8, 16)):
        context = f"{name}_ctx"
        lines += [_conv(f"{name}_a", bottom, 8), *_step(f"{name}_b", bottom, 4, 1)]
        lines += [_conv(context, f"{name}_b", 4)]
        lines += [_layer(f"{name}_cat", "Concat", [f"{name}_a", context]), _relu(f"{name}_cat")]
        options = f"feat_stride: {stride} base_size: {base} ratio: 1 scale: 1 scale: 2 min_size: 0"
        options += " pre_nms_topn: 200 post_nms_topn: 20 nms_thresh: 0.6"
        lines += _proposals(f"{name}_cat", 2, options, f"{name}_rois")
    return "\n".join(
        [
            *lines,
            _layer("boxes", "Concat", ["m1_rois", "m2_rois"], options="concat_param { axis: 0 }"),
        ]
    )


_RPN = (
    "feat_stride: 8 base_size: 16 ratio: 0.5 ratio: 1 ratio: 2 scale: 1 scale: 2 min_size: 0"
    " pre_nms_topn: 100 post_nms_topn: 12 nms_thresh: 0.7"
)


def rfcn() -> str:
    """Position-sensitive maps of classes and of offsets, pooled and averaged."""
    lines = [_input("data", 1, 3, 64, 80), _input("im_info", 1, 3)]
    lines += [*_step("conv3", "data", 8), *_step("conv4", "conv3", 8), *_step("conv5", "conv4", 8)]
    lines += _proposals("conv5", 6, _RPN)
    for name, dim in (("cls", 4), ("bbox", 8)):
        options = f"spatial_scale: 0.125 output_dim: {dim} group_size: 3"
        lines += [
            _conv(f"rfcn_{name}", "conv5", dim * 9, 1),
            _layer(
                f"pooled_{name}", "PSROIPooling", [f"rfcn_{name}", "rois"],
                options=f"psroi_pooling_param {{ {options} }}",
            ),
            _layer(
                f"mean_{name}", "Pooling", [f"pooled_{name}"],
                options="pooling_param { pool: AVE kernel_size: 3 stride: 3 }",
            ),
        ]  # fmt: skip
    return "\n".join(
        [
            *lines,
            _layer("cls_soft", "Softmax", ["mean_cls"]),
            _layer(
                "cls_prob",
                "Reshape",
                ["cls_soft"],
                options="reshape_param { shape { dim: -1 dim: 4 } }",
            ),
            _layer(
                "bbox_pred",
                "Reshape",
                ["mean_bbox"],
                options="reshape_param { shape { dim: -1 dim: 8 } }",
            ),
        ]
    )


def faster_rcnn() -> str:
    """ROIPooling of proposals, and DetectionOutput of boxes in pixels, as OpenCV's files end."""
    lines = [_input("data", 1, 3, 64, 80), _input("im_info", 1, 3)]
    lines += [*_step("conv3", "data", 8), *_step("conv4", "conv3", 8), *_step("conv5", "conv4", 8)]
    lines += _proposals("conv5", 6, _RPN)
    classes = 4
    lines += [
        _layer(
            "pool5",
            "ROIPooling",
            ["conv5", "rois"],
            options="roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 }",
        ),
        _layer("fc6", "InnerProduct", ["pool5"], options="inner_product_param { num_output: 16 }"),
        _relu("fc6"),
        _layer(
            "cls_score",
            "InnerProduct",
            ["fc6"],
            options=f"inner_product_param {{ num_output: {classes} }}",
        ),
        _layer(
            "bbox_pred",
            "InnerProduct",
            ["fc6"],
            options=f"inner_product_param {{ num_output: {4 * classes} }}",
        ),
        _layer("cls_prob", "Softmax", ["cls_score"]),
        _layer(
            "loc_rows",
            "Reshape",
            ["bbox_pred"],
            options="reshape_param { shape { dim: 1 dim: -1 } }",
        ),
        _layer(
            "conf_rows",
            "Reshape",
            ["cls_prob"],
            options="reshape_param { shape { dim: 1 dim: -1 } }",
        ),
        'layer { name: "corners" type: "Slice" bottom: "rois" top: "roi_image" top: "roi_box"'
        " slice_param { axis: 1 slice_point: 1 } }",
        'layer { name: "hush" type: "Silence" bottom: "roi_image" }',
        _layer(
            "priors",
            "Reshape",
            ["roi_box"],
            options="reshape_param { shape { dim: 1 dim: 1 dim: -1 } }",
        ),
    ]
    options = f"num_classes: {classes} share_location: false background_label_id: 0 keep_top_k: 20"
    options += " nms_param { nms_threshold: 0.3 top_k: 100 } confidence_threshold: 0.1"
    options += " variance_encoded_in_target: true normalized_bbox: false clip: true"
    return "\n".join([*lines, _detection(options, ("loc_rows", "conf_rows", "priors", "data"))])


NETS = {
    "mobilenet_ssd": mobilenet_ssd,
    "res10_face": res10_face,
    "s3fd": s3fd,
    "ssh": ssh,
    "rfcn": rfcn,
    "faster_rcnn": faster_rcnn,
}


def fill_again(net: Net, seed: int = 2016) -> None:
    """Fill the blobs from a stream that numpy promises not to change."""
    stream = np.random.RandomState(seed)
    for layer in net.layers:
        for name, blob in zip(layer.blob_names, layer.blobs, strict=True):
            values = stream.standard_normal(tuple(blob.shape))
            if name in ("variance", "scale_factor"):
                values = np.ones(blob.shape)
            elif layer.type == "Normalize":
                values = np.full(blob.shape, 5.0)
            elif name == "weight" and layer.type == "Scale":
                values = 1 + values / 10
            elif name == "weight":
                values *= 1.3 / np.sqrt(blob[0].numel())
            else:
                values /= 10
            blob.data.copy_(blob.new_tensor(values))


def inputs_of(net: Net, seed: int = 2016) -> dict[str, np.ndarray]:
    """Return a picture of normal numbers and its size, by name."""
    stream = np.random.RandomState(seed)
    shape = net.blob_shapes["data"]
    found = {"data": stream.standard_normal(shape).astype(np.float32)}
    if "im_info" in net.inputs:
        found["im_info"] = np.array([[shape[2], shape[3], 1]], np.float32)
    return found
