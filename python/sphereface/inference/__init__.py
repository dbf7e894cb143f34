"""Nets in use: run fast over arrays and images, and features streamed into files."""

from sphereface.inference.detections import Box, BoxFinder, detection_blob, read_labels
from sphereface.inference.extract import Extracted, extract
from sphereface.inference.forward import (
    image_input,
    read_arrays,
    run_arrays,
    run_batches,
    run_records,
)
from sphereface.inference.pair_images import PairImages, judge_pairs, read_pair_images
from sphereface.inference.predictor import Predictor
from sphereface.inference.records import (
    ArrayRecords,
    Batch,
    DataRecords,
    DatumRecords,
    ImageRecords,
    Records,
)
from sphereface.inference.scorer import DeviceScorer

__all__ = [
    "ArrayRecords",
    "Batch",
    "Box",
    "BoxFinder",
    "DataRecords",
    "DatumRecords",
    "DeviceScorer",
    "Extracted",
    "ImageRecords",
    "PairImages",
    "Predictor",
    "Records",
    "detection_blob",
    "extract",
    "image_input",
    "judge_pairs",
    "read_arrays",
    "read_labels",
    "read_pair_images",
    "run_arrays",
    "run_batches",
    "run_records",
]
