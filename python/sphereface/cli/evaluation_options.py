"""The options of ``sphereface evaluate``, and what can be said about them before any work."""

from __future__ import annotations

import argparse

from sphereface.files import check_output

__all__ = ["add_evaluation_options", "check"]


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add them to `parser`."""
    add = parser.add_argument
    add(
        "--features",
        required=True,
        metavar="FILE",
        help="features.npz by extract, text of a path and its numbers a line, pairs.npz, pairs.mat",
    )
    add("--pairs", metavar="FILE", help="pairs.txt of LFW, or lines `path path flag`, or CSV")
    add(
        "--protocol",
        default="sphereface",
        metavar="NAME",
        help="sphereface (evaluation.m), facenet or best (default: %(default)s)",
    )
    add(
        "--missing",
        choices=("error", "wrong"),
        default="error",
        help="what images of the list without features mean (default: %(default)s)",
    )
    add(
        "--centre-crop",
        metavar="FILE",
        help="features for images that --features lacks, of crops at the pictures' centre",
    )
    add("--pca", type=int, metavar="N", help="reduce to N numbers, fitted on the other folds")
    add(
        "--far",
        type=float,
        nargs="+",
        default=[1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        metavar="RATE",
        help="false accept rates (default: 1e-1 to 1e-6)",
    )
    add(
        "--far-rule",
        default="strict",
        metavar="RULE",
        help="strict, nearest, interp or blufr (default: %(default)s)",
    )
    add("--json", metavar="FILE", help="write all figures")
    add("--overwrite", action="store_true", help="replace outputs that exist")


def check(args: argparse.Namespace) -> list[str]:
    """Return the inputs; refuse outputs that may not be written."""
    inputs = [name for name in (args.features, args.pairs, args.centre_crop) if name]
    for output in (args.json,):
        if output:
            check_output(output, overwrite=args.overwrite, inputs=inputs)
    return inputs
