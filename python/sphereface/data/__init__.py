"""Readers of Caffe's data layers, and the tools that make their files. Needs no torch."""

from sphereface.data.checks import LabelReport, check_labels, check_net_labels, class_count
from sphereface.data.hdf5_data import HDF5Data
from sphereface.data.image_data import ImageData
from sphereface.data.image_mean import compute_mean
from sphereface.data.image_source import ImageSource
from sphereface.data.imageset import (
    DATABASE_FILES,
    ImagesetOptions,
    ImagesetReport,
    convert_imageset,
)
from sphereface.data.lazy_source import LazySource
from sphereface.data.lmdb_data import Data
from sphereface.data.memory_data import MemoryData
from sphereface.data.open_source import (
    SOURCE_TYPES,
    Sources,
    open_source,
    open_sources,
    reads_data,
)
from sphereface.data.record_file import LMDB_FILES
from sphereface.data.source import Batch, LoadOptions, Source
from sphereface.data.transform import Transform
from sphereface.images import ImageList, read_image_list

__all__ = [
    "DATABASE_FILES",
    "LMDB_FILES",
    "SOURCE_TYPES",
    "Batch",
    "Data",
    "HDF5Data",
    "ImageData",
    "ImageList",
    "ImageSource",
    "ImagesetOptions",
    "ImagesetReport",
    "LabelReport",
    "LazySource",
    "LoadOptions",
    "MemoryData",
    "Source",
    "Sources",
    "Transform",
    "check_labels",
    "check_net_labels",
    "class_count",
    "compute_mean",
    "convert_imageset",
    "open_source",
    "open_sources",
    "read_image_list",
    "reads_data",
]
