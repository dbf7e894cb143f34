"""Nets of known styles, for the converters."""

from __future__ import annotations

__all__ = ["ALEXNET", "GOOGLENET", "LENET", "SIAMESE"]

_FILLER = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" }'


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
