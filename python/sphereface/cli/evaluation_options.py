"""The options of ``sphereface evaluate``, and what can be said about them before any work."""

from __future__ import annotations

import argparse
from pathlib import Path

from sphereface.errors import SphereFaceError
from sphereface.files import check_output

__all__ = ["PLOTS", "add_evaluation_options", "check_evaluation_options"]

# What --plots may write.
PLOTS = (
    "roc.png", "scores.png", "hardest_pairs.png", "all_pairs_roc.png", "all_pairs_scores.png",
    "megaface_cmc.png", "gallery_cmc.png",
)  # fmt: skip


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add them to `parser`."""
    add = parser.add_argument_group("features").add_argument
    add(
        "--features",
        required=True,
        nargs="+",
        metavar="FILE",
        help="features.npz by extract, text of a path and its numbers a line, a folder of"
        " MegaFace's .bin, pairs.npz or pairs.mat; several are models, put side by side",
    )
    add(
        "--centre-crop",
        metavar="FILE",
        help="features for images that --features lacks, of crops at the pictures' centre",
    )
    add("--templates", metavar="FILE", help="IJB's `image template medium`: judge templates")

    add = parser.add_argument_group("protocols").add_argument
    add("--pairs", metavar="FILE", help="pairs.txt of LFW, or lines `path path flag`, or CSV")
    add(
        "--protocol",
        default="sphereface",
        metavar="NAME",
        help="of --pairs: sphereface (evaluation.m), facenet, best, or none: no folds"
        " (default: %(default)s)",
    )
    add(
        "--missing",
        choices=("error", "wrong"),
        default="error",
        help="what images of the list without features mean (default: %(default)s)",
    )
    add(
        "--pca",
        type=int,
        metavar="N",
        help="reduce to N numbers; fitted on the other folds, or a BLUFR trial's training images",
    )
    add("--against", metavar="FILE", help="features of a second model: is it better?")
    add("--all-pairs", action="store_true", help="score every pair of images; people are folders")
    add("--device", default="cpu", help="where many scores are made (default: %(default)s)")
    add("--fisher", action="store_true", help="the angular Fisher score; people are folders")
    add("--blufr", metavar="MAT", help="BLUFR's index sets")
    add(
        "--distractors",
        metavar="FILE",
        help="features of strangers: search for --features among them as MegaFace does",
    )
    add("--gallery", nargs="+", metavar="FILE", help="lists of `item person`, or IJB's CSV")
    add("--probes", metavar="FILE", help="such a list: search for them in each gallery")
    add(
        "--gallery-items",
        choices=("each", "centroid"),
        default="each",
        help="a person's best item counts, or one item a person (default: %(default)s)",
    )
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

    add = parser.add_argument_group("outputs").add_argument
    add("--json", metavar="FILE", help="write all figures")
    add("--html", metavar="FILE", help="write a report: one file")
    add("--plots", metavar="DIR", help="write the plots as PNG")
    add(
        "--images",
        metavar="ROOT",
        help="with --html or --plots, show the hardest pairs; their pictures lie here",
    )
    add("--pairs-mat", metavar="FILE", help="write pairs and features as the original's pairs.mat")
    add("--overwrite", action="store_true", help="replace outputs that exist")


def check_evaluation_options(args: argparse.Namespace) -> list[str]:
    """Return the inputs.

    Raises
    ------
    SphereFaceError
        An output may not be written, or options do not go together.
    """
    if bool(args.gallery) != bool(args.probes):
        raise SphereFaceError("one without the other", where="--gallery, --probes")
    if args.against and args.protocol == "none":
        raise SphereFaceError(
            "--protocol none", where="--against", expected="a protocol with folds"
        )
    named = [args.pairs, args.centre_crop, args.templates, args.against, args.blufr]
    named += [args.distractors, args.probes, *(args.gallery or [])]
    inputs = [*args.features, *(name for name in named if name)]
    for output in (args.json, args.html, args.pairs_mat):
        if output:
            check_output(output, overwrite=args.overwrite, inputs=inputs)
    if args.plots:
        folder = Path(args.plots)
        if not folder.is_dir():
            check_output(folder)
        for name in PLOTS if folder.is_dir() else ():
            check_output(folder / name, overwrite=args.overwrite, inputs=inputs)
    return inputs
