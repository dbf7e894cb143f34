"""Fields of forks that say how their program computes, and nothing of what: read and left out.

Source: the caffe.proto of NVIDIA's, Intel's, Ristretto's, Xilinx's, Texas Instruments', yjxiong's,
Pfister's and DeepLab's forks. Nets with them mean the same without: precision, engines, memory, and
the nodes of a cluster.
"""

from __future__ import annotations

__all__ = ["ENGINES", "why_first_only", "why_ignored"]

_PRECISION = "nets compute in the precision that they are run in, not in that of a fork's hardware"
_MEMORY = "torch has its own way with memory"
_CLUSTER = "the nodes of a cluster are the launcher's"
_SHOWN = "it says what a test prints; sphereface evaluates boxes and logs by itself"
_SEED = "the solver's random_seed is the seed of all layers"
_ENGINE = "it chooses between implementations of the same"

_CHECKED = "weights of another shape are told when they are copied"

_GIVEN = "a program gives the net these data"

_QUANTIZATION = (
    "quantization_start_iter",
    "quantization_param",
    "insert_quantization_param",
    "net_quantization_param",
    "quantize_weights",
    "quantize_activations",
    "unsigned_check_in",
    "unsigned_check_out",
)
_MATH = ("forward_type", "backward_type", "forward_math", "backward_math", "cudnn_math_override")
_IGNORED = {
    "NetParameter": {
        **{f"default_{name}": _PRECISION for name in _MATH},
        "global_grad_scale": _PRECISION,
        "quantize": _PRECISION,
        "net_quantization_param": _PRECISION,
        "compile_net_state": _ENGINE,
        "mem_param": _MEMORY,
        "optimize_mem": _MEMORY,
        "eltwise_mem_sharing": _MEMORY,
        "reduce_buckets": _CLUSTER,
        "multinode": _CLUSTER,
        "engine": _ENGINE,
    },
    "SolverParameter": {
        **dict.fromkeys(("eval_type", "ap_version", "show_per_class_result"), _SHOWN),
        "display_sparsity": _SHOWN,
        "display_quantization": _SHOWN,
        "snapshot_log": _SHOWN,
        "solver_data_type": _PRECISION,
        **dict.fromkeys(_QUANTIZATION, _PRECISION),
        "richness": _MEMORY,
        "reduce_buckets": _CLUSTER,
        "store_blobs_in_old_format": "caffemodels are written in the form that all forks read",
        "engine": _ENGINE,
    },
    "LayerParameter": {
        **dict.fromkeys(_MATH, _PRECISION),
        "quantization_param": _PRECISION,
        "multinode": _CLUSTER,
        "mn_activation_param": _CLUSTER,
        "mn_grad_compress_param": _CLUSTER,
        "engine": _ENGINE,
        "split_param": _ENGINE,
        "debug": _SHOWN,
        **dict.fromkeys(("visualise", "visualise_channel"), _SHOWN),
        **dict.fromkeys(
            (
                "box_data_param",
                "cpm_transform_param",
                "detection_data_param",
                "heatmap_data_param",
                "image_gt_data_param",
            ),
            _GIVEN,
        ),
        **dict.fromkeys(("snapshot_log_weights", "snapshot_log_in", "snapshot_log_out"), _SHOWN),
    },
    "ConvolutionParameter": {
        "quantization_param": _PRECISION,
        "cudnn_math_override": _PRECISION,
        "conv_algos_override": _ENGINE,
        "cudnn_convolution_algo_seeker": _ENGINE,
    },
    "V1LayerParameter": {"strict_dim": _CHECKED},
    "DataParameter": {
        "side": _GIVEN,
        "cache": _MEMORY,
        "threads": _MEMORY,
        "disk_reader_threads": _MEMORY,
        "parser_threads": _MEMORY,
    },
    "TransformationParameter": {
        "use_gpu_transform": _ENGINE,
        "display": _SHOWN,
    },
    "DropoutParameter": {"engine": _ENGINE, "random_seed": _SEED},
    **{
        f"{kind}Parameter": {"engine": _ENGINE}
        for kind in (
            "BatchNorm",
            "BN",
            "Concat",
            "Eltwise",
            "InnerProduct",
            "Scale",
            "Slice",
        )
    },
}

ENGINES = ("MKL2017", "MKLDNN", "SPATIAL", "INTEL_SPATIAL", "LIBDNN", "OCL")
"""Values of ``engine`` in forks: each is as good as the default."""


def why_ignored(message: str, field: str) -> str:
    """Return why a field of a message is left out, or "" for one that is not."""
    return _IGNORED.get(message, {}).get(field, "")


_FIRST_ONLY = {("SolverParameter", "device_id"): "the first GPU of a list, --gpu gives more"}


def why_first_only(message: str, field: str) -> str:
    """Return why of a fork's list in a field that has one value the first is taken, or ""."""
    return _FIRST_ONLY.get((message, field), "")
