"""Caffe's weight files as {layer name: [numpy arrays]}, both ways. Needs no torch."""

from sphereface.weights.binaryproto import read_binaryproto, write_binaryproto
from sphereface.weights.blob import Blob, StreamedArray, copy_blob, shape_equals
from sphereface.weights.caffemodel import (
    Caffemodel,
    LayerRecord,
    load_weights,
    read_caffemodel,
    rewrite_caffemodel,
    write_caffemodel,
)
from sphereface.weights.definition import definition_text, is_weights, read_definition
from sphereface.weights.file_format import WeightFormat, weight_format
from sphereface.weights.hdf5 import read_caffemodel_h5, write_caffemodel_h5
from sphereface.weights.match import LoadReport, MismatchError, match_weights
from sphereface.weights.solverstate import SolverState, read_solverstate, write_solverstate

__all__ = [
    "Blob",
    "Caffemodel",
    "LayerRecord",
    "LoadReport",
    "MismatchError",
    "SolverState",
    "StreamedArray",
    "WeightFormat",
    "copy_blob",
    "definition_text",
    "is_weights",
    "load_weights",
    "match_weights",
    "read_binaryproto",
    "read_caffemodel",
    "read_caffemodel_h5",
    "read_definition",
    "read_solverstate",
    "rewrite_caffemodel",
    "shape_equals",
    "weight_format",
    "write_binaryproto",
    "write_caffemodel",
    "write_caffemodel_h5",
    "write_solverstate",
]
