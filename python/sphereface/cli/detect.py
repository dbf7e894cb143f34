"""``sphereface detect``: faces and landmarks of pictures."""

from __future__ import annotations

import argparse

from sphereface.cli.image_options import image_size
from sphereface.cli.net_options import add_layers

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface detect``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "detect",
        help="find faces and their landmarks in pictures",
        description="Writes a line of JSON a picture: its status and its faces with box, score and"
        " five landmarks, in 1-based pixels. The defaults are SphereFace's: MTCNN, faces of 20"
        " pixels and more, factor 0.85, thresholds 0.6 0.7 0.9. A run that was stopped is continued"
        " by the same command.",
    )
    add = parser.add_argument
    add("input", help="a folder (with those below), a .txt list, or a picture")
    add("--output", required=True, help="the file of faces to write, faces.jsonl")
    add("--root", default="", help="folder that a list's names are relative to")
    add(
        "--detector",
        default="mtcnn",
        help="mtcnn; yunet (faster, other boxes); none (the pictures are crops already); or the"
        " .prototxt of a Caffe net that ends in DetectionOutput, such as res10 SSD or S3FD",
    )
    add("--models", help="folder of the detector's weights; else `get mtcnn`'s or a package's;"
        " of a Caffe net its caffemodel (default: the prototxt's name)")  # fmt: skip
    add("--min-size", type=float, help="side of the smallest face in pixels (20)")
    add("--factor", type=float, help="between two scales of MTCNN's pyramid (0.85)")
    add("--thresholds", type=float, nargs="+", help="scores of MTCNN's three nets (0.6 0.7 0.9);"
        " one for others (YuNet 0.9, a Caffe net 0.5)")  # fmt: skip
    add("--mean", type=float, nargs="+", help="of a Caffe net's B, G, R (104 117 123)")
    add("--scale", type=float, help="after the mean, of a Caffe net (1)")
    add("--size", metavar="HxW|native", help="that a Caffe net sees (default: its input)")
    add("--exif", choices=["apply", "ignore"], default="apply", help="turn pictures upright or not")
    add("--max-pixels", type=int, help="larger pictures are reported, not read (100 million)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    add("--workers", type=int, default=1, help="processes (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    add_layers(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Detect and print the summary; 1 if no picture has a face."""
    from sphereface.faces.detection import Reading, detect_folder
    from sphereface.faces.detectors import DetectorOptions
    from sphereface.images import MAX_PIXELS

    summary = detect_folder(
        args.input,
        args.output,
        detector=args.detector,
        options=DetectorOptions(
            models=args.models,
            device=args.device,
            min_size=args.min_size,
            factor=args.factor,
            thresholds=tuple(args.thresholds) if args.thresholds else None,
            mean=tuple(args.mean) if args.mean else None,
            scale=args.scale,
            layers=tuple(args.layers),
            size=args.size if args.size in (None, "native") else image_size(args.size),
        ),
        reading=Reading(
            exif=args.exif == "apply",
            max_pixels=MAX_PIXELS if args.max_pixels is None else args.max_pixels,
        ),
        root=args.root,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    total = sum(summary.counts.values())
    print(f"{summary.faces} faces in {summary.counts.get('ok', 0)} of {total} pictures")
    for status, count in sorted(summary.counts.items()):
        print(f"  {status}: {count}")
    if summary.counts.get("ok", 0) < total:
        print(f"  what failed and why: {summary.failures}")
    return 0 if summary.faces else 1
