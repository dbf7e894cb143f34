"""``sphereface calibrate``: the threshold of a model for a false accept rate."""

from __future__ import annotations

import argparse
from pathlib import Path

from sphereface.cli.output_options import add_output_options, required_output
from sphereface.cli.recognition_options import add_model_options, open_analyzer

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface calibrate``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "calibrate",
        help="set the threshold of a model from pictures of people",
        description="SOURCE is a folder with a folder of pictures for each person, of which all"
        " pairs are used, or a list of pairs. Use other people than those you enroll.",
    )
    add = parser.add_argument
    add("source", help="a folder of people, or a list of pairs (.txt, .csv)")
    add("--root", default="", help="folder of the pictures that a list of pairs names")
    add("--far", type=float, default=0.001, help="false accept rate wanted (default: %(default)s)")
    add_model_options(parser)
    add_output_options(parser, "the calibration, .json")
    return parser


def run(args: argparse.Namespace) -> int:
    """Calibrate and print the threshold."""
    from sphereface.evaluation.pair_lists import read_pairs
    from sphereface.progress import Progress
    from sphereface.recognition.calibration import write_calibration
    from sphereface.recognition.enrollment import calibrate_folder, calibrate_pairs, people_of

    output = required_output(args, args.source)
    folder = Path(args.source).is_dir()
    if folder:
        total = sum(len(pictures) for pictures in people_of(args.source).values())
    else:
        listed = read_pairs(args.source)
        total = len({*listed.left, *listed.right})
    analyzer = open_analyzer(args)
    with Progress(total, "calibrate") as progress:
        if folder:
            threshold, failures = calibrate_folder(
                args.source, analyzer, args.far, on_picture=progress.update
            )
        else:
            threshold, failures = calibrate_pairs(
                args.source, args.root or ".", analyzer, args.far, on_picture=progress.update
            )
    write_calibration(output, threshold)
    print(f"model: {analyzer.embedder.label}")
    print(f"threshold {threshold} -> {output}")
    for path, why in failures.items():
        print(f"  left out: {path}: {why}")
    return 0
