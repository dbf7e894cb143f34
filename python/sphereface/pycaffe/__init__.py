"""What ``import caffe`` was: ``from sphereface import pycaffe as caffe``.

Legacy scripts run unchanged by ``python -m sphereface.pycaffe script.py``. docs/pycaffe.md tells
what differs from pycaffe.
"""

from __future__ import annotations

from sphereface.caffe import list_layers as layer_type_list
from sphereface.caffe.user_layer import PythonLayer as Layer
from sphereface.pycaffe import _caffe, coord_map, draw, io, proto
from sphereface.pycaffe.classifier import Classifier
from sphereface.pycaffe.detector import Detector
from sphereface.pycaffe.glog import init_log, log
from sphereface.pycaffe.install import install
from sphereface.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from sphereface.pycaffe.net import Net
from sphereface.pycaffe.net_spec import NetSpec, layers, params, to_proto
from sphereface.pycaffe.proto.caffe_pb2 import TEST, TRAIN
from sphereface.pycaffe.ranks import (
    NCCL,
    has_nccl,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from sphereface.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
    get_solver_from_file,
)
from sphereface.pycaffe.timer import Timer

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "_caffe",
    "coord_map",
    "draw",
    "get_solver",
    "get_solver_from_file",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]

__version__ = "1.0.0"
"""Of the Caffe whose interface this is."""
