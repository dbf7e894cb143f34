from __future__ import annotations

import warnings

import pytest

from sphereface.errors import SphereFaceError
from sphereface.proto import text
from sphereface.proto.ignored_fields import why_ignored

NET = """
name: "n"
default_forward_type: FLOAT16
mem_param { optimize_train: true exclude_blob: ["data"] }
layer {
  name: "a" type: "Convolution" bottom: "x" top: "a" engine: "MKLDNN" forward_type: FLOAT
  convolution_param { num_output: 2 kernel_size: 3 engine: MKLDNN }
  quantization_param { bw_layer_in: 8 fl_layer_in: [1, 2] precision: DYNAMIC_FIXED_POINT }
}
layer {
  name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 2 kernel_size: 3 quantization_param { coef_precision: 4 } }
  quantization_param { precision: MINIFLOAT mant_bits: 10 exp_bits: 5 }
}
"""
PLAIN = """
name: "n"
layer {
  name: "a" type: "Convolution" bottom: "x" top: "a"
  convolution_param { num_output: 2 kernel_size: 3 engine: DEFAULT }
}
layer {
  name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 2 kernel_size: 3 }
}
"""


def test_what_a_fork_computes_with_is_read_past_and_said_once():
    with pytest.warns(UserWarning, match="prototxt: fields of forks are ignored") as said:
        found = text.read(NET)
    assert found == text.read(PLAIN)
    (warning,) = said
    told = str(warning.message)
    for name in ("default_forward_type", "mem_param", "engine", "quantization_param"):
        assert told.count(name) == 1
    assert "precision that they are run in" in told


def test_nothing_is_said_of_plain_files():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text.read(PLAIN)


def test_only_these_fields_at_these_places():
    assert why_ignored("LayerParameter", "quantization_param")
    assert not why_ignored("PoolingParameter", "quantization_param")
    assert not why_ignored("LayerParameter", "pooling_param")
    with pytest.raises(SphereFaceError, match='unknown field "quantization_param"'):
        text.read("layer { pooling_param { quantization_param { } } }")
    with pytest.raises(SphereFaceError, match='"pool" is MKLDNN'):
        text.read("layer { pooling_param { pool: MKLDNN } }")


def test_a_solver_of_ssd():
    plain = 'net: "n" base_lr: 0.1'
    given = f'{plain} eval_type: "detection" ap_version: "11point" show_per_class_result: true'
    with pytest.warns(UserWarning, match="eval_type.*it says what a test prints"):
        found = text.parse(given, "SolverParameter").message
    assert found == text.parse(plain, "SolverParameter").message


def test_a_solver_of_temporal_segment_networks():
    plain = 'net: "n" base_lr: 0.1'
    with pytest.warns(UserWarning, match="device_id.*--gpu gives more.*richness"):
        found = text.parse(f"{plain} device_id: [3, 1] richness: 200", "SolverParameter").message
    assert found == text.parse(f"{plain} device_id: 3", "SolverParameter").message
    with pytest.raises(SphereFaceError, match='"device_id" is given more than once'):
        text.parse(f"{plain} device_id: 3 device_id: 1", "SolverParameter")
