"""Nets for the converters: one a layer type and option that can be deployed, and known styles."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALEXNET", "GOOGLENET", "LAYERS", "LENET", "SIAMESE", "SIZED", "layer_net"]

Shapes = Mapping[str, tuple[int, ...]]

_X: Shapes = {"x": (1, 4, 13, 11)}
_TWO: Shapes = {"x": (1, 4, 5, 6), "z": (1, 4, 5, 6)}


def _layer(kind: str, options: str = "", bottoms: str = "x") -> str:
    named = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f'layer {{ name: "l" type: "{kind}" {named} top: "y" {options} }}'


def _pool(options: str) -> str:
    return _layer("Pooling", f"pooling_param {{ {options} }}")


_FILLER = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" }'


def _conv(kind: str, options: str) -> str:
    return _layer(kind, f"convolution_param {{ {options} {_FILLER} }}")


def _ip(options: str, bottoms: str = "x") -> str:
    return _layer("InnerProduct", f"inner_product_param {{ {options} {_FILLER} }}", bottoms)


_UNIT = 'filler { type: "gaussian" } bias_filler { type: "gaussian" }'

LAYERS: dict[str, tuple[str, Shapes]] = {
    "pool_max": (_pool("pool: MAX kernel_size: 3 stride: 2"), _X),
    "pool_max_pad": (_pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"), _X),
    "pool_max_wide_pad": (_pool("pool: MAX kernel_size: 5 stride: 3 pad: 4"), _X),
    "pool_max_outside": (_pool("pool: MAX kernel_size: 1 stride: 3"), _X),
    "pool_max_rectangle": (
        _pool("pool: MAX kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"),
        _X,
    ),
    "pool_ave": (_pool("pool: AVE kernel_size: 4 stride: 3"), _X),
    "pool_ave_pad": (_pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"), _X),
    "pool_ave_wide_pad": (_pool("pool: AVE kernel_size: 5 stride: 3 pad: 4"), _X),
    "pool_ave_gaps": (_pool("pool: AVE kernel_size: 2 stride: 3"), _X),
    "pool_global_ave": (_pool("pool: AVE global_pooling: true"), _X),
    "pool_global_max": (_pool("pool: MAX global_pooling: true"), _X),
    "pool_stochastic": (
        'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }'
        + _pool("pool: STOCHASTIC kernel_size: 3 stride: 2"),
        _X,
    ),
    "conv_groups": (_conv("Convolution", "num_output: 6 group: 2 kernel_size: 3 pad: 1"), _X),
    "conv_rectangle": (
        _conv("Convolution", "num_output: 3 kernel_h: 1 kernel_w: 3 stride_w: 2 stride_h: 1"),
        _X,
    ),
    "conv_no_bias": (_conv("Convolution", "num_output: 3 kernel_size: 2 bias_term: false"), _X),
    "conv_1d": (
        _conv("Convolution", "num_output: 3 kernel_size: 3 dilation: 2"),
        {"x": (1, 2, 17)},
    ),
    "conv_3d": (
        _conv("Convolution", "num_output: 3 kernel_size: 3 stride: 2 pad: 1"),
        {"x": (1, 2, 7, 6, 5)},
    ),
    "depthwise": (_conv("DepthwiseConvolution", "num_output: 4 kernel_size: 3"), _X),
    "deconvolution": (
        _conv("Deconvolution", "num_output: 4 group: 2 kernel_size: 4 stride: 2 pad: 1"),
        _X,
    ),
    "lrn": (_layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }"), _X),
    "lrn_within": (
        _layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
        _X,
    ),
    "mvn": (_layer("MVN"), _X),
    "mvn_mean_across": (
        _layer("MVN", "mvn_param { across_channels: true normalize_variance: false }"),
        _X,
    ),
    "batch_norm_scale": (
        _layer("BatchNorm")
        + 'layer { name: "s" type: "Scale" bottom: "y" top: "y"'
        + f" scale_param {{ bias_term: true {_UNIT} }} }}",
        _X,
    ),
    "batch_norm_of_batch": (
        _layer("BatchNorm", "batch_norm_param { use_global_stats: false }"),
        {"x": (3, 4, 5, 6)},
    ),
    "bn": (
        _layer("BN", 'bn_param { slope_filler { type: "gaussian" } bias_filler { value: 1 } }'),
        _X,
    ),
    "scale_one_factor": (_layer("Scale", f"scale_param {{ num_axes: 0 {_UNIT} }}"), _X),
    "scale_bottom": (
        _layer("Scale", "scale_param { axis: 0 }", "x z"),
        {"x": (1, 4, 5, 6), "z": (1, 4)},
    ),
    "bias": (
        _layer("Bias", 'bias_param { axis: 1 num_axes: 2 filler { type: "gaussian" } }'),
        {"x": (1, 4, 5, 6)},
    ),
    "bias_bottom": (_layer("Bias", "bias_param { axis: 0 }", "x z"), _TWO),
    "prelu": (_layer("PReLU", 'prelu_param { filler { type: "gaussian" } }'), _X),
    "prelu_shared": (_layer("PReLU", "prelu_param { channel_shared: true }"), _X),
    "prelu_rows": (_layer("PReLU"), {"x": (1, 7)}),
    "inner_product": (_ip("num_output: 5"), _X),
    "inner_product_rows": (_ip("num_output: 5 bias_term: false"), {"x": (1, 7)}),
    "inner_product_axis": (_ip("num_output: 5 axis: 2"), _X),
    "inner_product_transposed": (_ip("num_output: 5 transpose: true"), _X),
    "inner_product_normalized": (_ip("num_output: 5 normalize: true"), _X),
    "inner_product_weight": (
        'layer { name: "w" type: "Parameter" top: "w" parameter_param'
        " { shape { dim: 5 dim: 572 } } }" + _ip("bias_term: false", "x w"),
        _X,
    ),
    "embed": (
        _layer("Embed", f"embed_param {{ num_output: 3 input_dim: 5 {_FILLER} }}"),
        {"x": (1, 6)},
    ),
    "relu": (_layer("ReLU"), _X),
    "relu_leaky": (_layer("ReLU", "relu_param { negative_slope: 0.1 }"), _X),
    "elu": (_layer("ELU", "elu_param { alpha: 0.5 }"), _X),
    "sigmoid": (_layer("Sigmoid"), _X),
    "tanh": (_layer("TanH"), _X),
    "absval": (_layer("AbsVal"), _X),
    "bnll": (_layer("BNLL"), _X),
    "power": (_layer("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"), _X),
    "power_constant": (_layer("Power", "power_param { power: 2 scale: 0 shift: 3 }"), _X),
    "exp": (_layer("Exp", "exp_param { base: 2 scale: 0.3 shift: 1 }"), _X),
    "log": (_layer("Log", "log_param { base: 2 scale: 0.01 shift: 9 }"), _X),
    "threshold": (_layer("Threshold", "threshold_param { threshold: 0.25 }"), _X),
    "swish": (_layer("Swish", "swish_param { beta: 2 }"), _X),
    "clip": (_layer("Clip", "clip_param { min: -1 max: 0.5 }"), _X),
    "dropout": (_layer("Dropout"), _X),
    "eltwise_sum": (_layer("Eltwise", "eltwise_param { coeff: 0.5 coeff: -1 }", "x z"), _TWO),
    "eltwise_prod": (_layer("Eltwise", "eltwise_param { operation: PROD }", "x z x"), _TWO),
    "eltwise_max": (_layer("Eltwise", "eltwise_param { operation: MAX }", "x z"), _TWO),
    "concat": (_layer("Concat", "concat_param { axis: -1 }", "x z"), _TWO),
    "slice_points": (
        'layer { name: "l" type: "Slice" bottom: "x" top: "a" top: "b" top: "c"'
        ' slice_param { slice_point: 1 slice_point: 3 } } layer { name: "j" type: "Concat"'
        ' bottom: "c" bottom: "a" bottom: "b" top: "y" }',
        _X,
    ),
    "slice_even": (
        'layer { name: "l" type: "Slice" bottom: "x" top: "a" top: "b" }',
        _X,
    ),
    "slice_samples": (
        'layer { name: "l" type: "Slice" bottom: "x" top: "a" top: "b" top: "c"'
        " slice_param { axis: 0 slice_point: 1 slice_point: 3 } }",
        {"x": (4, 5)},
    ),
    "split": ('layer { name: "l" type: "Split" bottom: "x" top: "a" top: "b" }', _X),
    "flatten": (_layer("Flatten"), _X),
    "flatten_middle": (_layer("Flatten", "flatten_param { axis: 1 end_axis: 2 }"), _X),
    "reshape": (_layer("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }"), _X),
    "reshape_axis": (
        _layer("Reshape", "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }"),
        _X,
    ),
    "crop": (
        _layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", "x z"),
        {
            "x": (1, 4, 9, 9),
            "z": (1, 4, 5, 6),
        },
    ),
    "tile": (_layer("Tile", "tile_param { tiles: 3 }"), _X),
    "reduction_sum": (_layer("Reduction", "reduction_param { axis: 1 }"), _X),
    "reduction_asum": (_layer("Reduction", "reduction_param { axis: -2 operation: ASUM }"), _X),
    "reduction_sumsq": (
        _layer("Reduction", "reduction_param { axis: 1 operation: SUMSQ coeff: 3 }"),
        _X,
    ),
    "reduction_mean": (_layer("Reduction", "reduction_param { axis: 2 operation: MEAN }"), _X),
    "softmax": (_layer("Softmax"), _X),
    "softmax_last": (_layer("Softmax", "softmax_param { axis: -1 }"), _X),
    "argmax": (_layer("ArgMax", "argmax_param { axis: 1 }"), _X),
    "argmax_top": (_layer("ArgMax", "argmax_param { axis: 1 top_k: 2 out_max_val: true }"), _X),
    "argmax_all": (_layer("ArgMax", "argmax_param { top_k: 2 out_max_val: true }"), _X),
    "spp_max": (_layer("SPP", "spp_param { pyramid_height: 3 }"), _X),
    "spp_ave": (_layer("SPP", "spp_param { pyramid_height: 2 pool: AVE }"), _X),
    "normalize": (_layer("Normalize"), _X),
    "normalize_l1_norm": (
        'layer { name: "l" type: "Normalize" bottom: "x" top: "y" top: "norm"'
        ' normalize_param { normalize_type: "L1" } }',
        _X,
    ),
    "channel_scale": (
        _layer("ChannelScale", "", "x z"),
        {"x": (1, 4, 5, 6), "z": (1, 30)},
    ),
    "flip": (_layer("Flip"), _X),
    "batch_reindex": (_layer("BatchReindex", "", "x z"), {"x": (6, 3), "z": (4,)}),
    "label_specific": (_layer("LabelSpecificAdd", "", "x z"), {"x": (1, 5), "z": (1,)}),
}
"""Name to (layers, shapes of the inputs); the top that counts is y, or what no layer reads."""

SIZED = [name for name in LAYERS if name.startswith(("pool", "lrn", "conv_g", "deconv", "mvn"))] + [
    "crop", "batch_norm_scale", "prelu", "softmax", "concat", "slice_points", "argmax", "normalize",
]  # fmt: skip
"""Those of `LAYERS` that take images of any size."""


def layer_net(name: str, *, convolved: bool = False) -> str:
    """Return the prototxt of an entry of `LAYERS`.

    With `convolved` 4-D inputs go through a 1x1 convolution first: runtimes keep its result in a
    layout of their own.
    """
    text, shapes = LAYERS[name]
    lines = []
    for blob, shape in shapes.items():
        images = convolved and len(shape) == 4
        top = f"{blob}_image" if images else blob
        dims = " ".join(f"dim: {size}" for size in shape)
        lines.append(
            f'layer {{ name: "in_{blob}" type: "Input" top: "{top}"'
            f" input_param {{ shape {{ {dims} }} }} }}"
        )
        if images:
            lines.append(
                f'layer {{ name: "conv_{blob}" type: "Convolution" bottom: "{top}" top: "{blob}"'
                f" convolution_param {{ num_output: {shape[1]} kernel_size: 1 {_FILLER} }} }}"
            )
    return "\n".join([*lines, text])


def _named(kind: str, name: str, bottom: str, options: str = "", top: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or name}"'
        f" {options} }}\n"
    )


def _cp(options: str) -> str:
    return f"convolution_param {{ {options} {_FILLER} }}"


_LRN = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
_MAX = "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"

LENET = (
    'name: "LeNet" input: "data" input_dim: 2 input_dim: 1 input_dim: 28 input_dim: 28\n'
    + _named("Convolution", "conv1", "data", _cp("num_output: 20 kernel_size: 5"))
    + _named("Pooling", "pool1", "conv1", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    + _named("Convolution", "conv2", "pool1", _cp("num_output: 50 kernel_size: 5"))
    + _named("Pooling", "pool2", "conv2", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    + _named("InnerProduct", "ip1", "pool2", f"inner_product_param {{ num_output: 50 {_FILLER} }}")
    + _named("ReLU", "relu1", "ip1", top="ip1")
    + _named("InnerProduct", "ip2", "ip1", f"inner_product_param {{ num_output: 10 {_FILLER} }}")
    + _named("Softmax", "prob", "ip2")
)
"""BVLC's LeNet, written with input_dim."""

ALEXNET = (
    'name: "AlexNet" layer { name: "data" type: "Input" top: "data"'
    " input_param { shape { dim: 2 dim: 3 dim: 67 dim: 67 } } }\n"
    + _named("Convolution", "conv1", "data", _cp("num_output: 16 kernel_size: 11 stride: 4"))
    + _named("ReLU", "relu1", "conv1", top="conv1")
    + _named("LRN", "norm1", "conv1", _LRN)
    + _named("Pooling", "pool1", "norm1", _MAX)
    + _named("Convolution", "conv2", "pool1", _cp("num_output: 24 pad: 2 kernel_size: 5 group: 2"))
    + _named("ReLU", "relu2", "conv2", top="conv2")
    + _named("LRN", "norm2", "conv2", _LRN)
    + _named("Pooling", "pool2", "norm2", _MAX)
    + _named("InnerProduct", "fc6", "pool2", f"inner_product_param {{ num_output: 32 {_FILLER} }}")
    + _named("ReLU", "relu6", "fc6", top="fc6")
    + _named("Dropout", "drop6", "fc6", "dropout_param { dropout_ratio: 0.5 }", top="fc6")
    + _named("InnerProduct", "fc8", "fc6", f"inner_product_param {{ num_output: 10 {_FILLER} }}")
    + _named("Softmax", "prob", "fc8")
)
"""The layers of AlexNet, narrower and with fewer of the last convolutions."""


def _inception(name: str, bottom: str) -> str:
    one, three, five = f"{name}/1x1", f"{name}/3x3", f"{name}/5x5"
    pool = f"{name}/pool_proj"
    parts = [
        _named("Convolution", one, bottom, _cp("num_output: 8 kernel_size: 1")),
        _named("ReLU", f"{name}/relu_1x1", one, top=one),
        _named("Convolution", f"{three}_reduce", bottom, _cp("num_output: 6 kernel_size: 1")),
        _named("Convolution", three, f"{three}_reduce", _cp("num_output: 8 pad: 1 kernel_size: 3")),
        _named("Convolution", five, bottom, _cp("num_output: 4 pad: 2 kernel_size: 5")),
        _named(
            "Pooling",
            f"{name}/pool",
            bottom,
            "pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 }",
        ),
        _named("Convolution", pool, f"{name}/pool", _cp("num_output: 4 kernel_size: 1")),
        f'layer {{ name: "{name}/output" type: "Concat" top: "{name}/output"'
        f' bottom: "{one}" bottom: "{three}" bottom: "{five}" bottom: "{pool}" }}\n',
    ]
    return "".join(parts)


GOOGLENET = (
    'name: "GoogleNet" layer { name: "data" type: "Input" top: "data"'
    " input_param { shape { dim: 2 dim: 3 dim: 64 dim: 64 } } }\n"
    + _named(
        "Convolution", "conv1/7x7_s2", "data", _cp("num_output: 12 pad: 3 kernel_size: 7 stride: 2")
    )
    + _named("ReLU", "conv1/relu_7x7", "conv1/7x7_s2", top="conv1/7x7_s2")
    + _named("Pooling", "pool1/3x3_s2", "conv1/7x7_s2", _MAX)
    + _named("LRN", "pool1/norm1", "pool1/3x3_s2", _LRN)
    + _inception("inception_3a", "pool1/norm1")
    + _inception("inception_3b", "inception_3a/output")
    + _named(
        "Pooling",
        "pool5/7x7_s1",
        "inception_3b/output",
        "pooling_param { pool: AVE kernel_size: 7 stride: 4 }",
    )
    + _named("Dropout", "pool5/drop", "pool5/7x7_s1", top="pool5/7x7_s1")
    + _named(
        "InnerProduct",
        "loss3/classifier",
        "pool5/7x7_s1",
        f"inner_product_param {{ num_output: 10 {_FILLER} }}",
    )
    + _named("Softmax", "prob", "loss3/classifier")
)
"""GoogLeNet's names, inceptions and poolings, narrower and with two inceptions."""

SIAMESE = (
    'name: "siamese" layer { name: "pair" type: "Input" top: "pair"'
    " input_param { shape { dim: 2 dim: 2 dim: 9 dim: 9 } } }\n"
    'layer { name: "slice" type: "Slice" bottom: "pair" top: "data" top: "data_p" }\n'
    + "".join(
        _named(
            "InnerProduct",
            f"feat{end}",
            f"data{end}",
            f'param {{ name: "w" }} param {{ name: "b" }}'
            f" inner_product_param {{ num_output: 5 {_FILLER} }}",
        )
        for end in ("", "_p")
    )
)
"""Two branches that share their parameters by name."""
