"""``caffe._caffe``: the classes of pycaffe's C++ module, by its names.

Source: python/caffe/_caffe.cpp. Scripts look here for what ``type(net.params[name])`` is. What
differs: `Net` and the solvers have pycaffe.py's methods here too.
"""

from __future__ import annotations

from sphereface.caffe import list_layers as layer_type_list
from sphereface.caffe.blob import Blob, BlobVec, RawBlobVec
from sphereface.caffe.user_layer import PythonLayer as Layer
from sphereface.pycaffe.glog import init_log, log
from sphereface.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from sphereface.pycaffe.net import Net
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
from sphereface.pycaffe.vectors import DtypeVec, IntVec, LayerVec, NetVec, StringVec

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "StringVec",
    "Timer",
    "get_solver",
    "get_solver_from_file",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]

Solver = SGDSolver  # every solver here is one
