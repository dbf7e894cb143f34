"""``sphereface compute-mean``: the mean image of a database or a list."""

from __future__ import annotations

import argparse

from sphereface.cli.image_options import add_exif_option
from sphereface.cli.output_options import add_output_options, output_path

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface compute-mean``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compute-mean",
        help="the mean image of a database or a list of images",
        description="Writes the mean of all images as a binaryproto, for mean_file, and prints the"
        " mean of each channel, for mean_value: what compute_image_mean of Caffe does.",
    )
    parser.add_argument("input", help="an LMDB or LevelDB, or a list: a name and a label a line")
    add_output_options(parser, "the binaryproto to write", position="output")
    parser.add_argument("--root", default="", help="of a list: goes before each name as it is")
    parser.add_argument("--gray", action="store_true", help="of a list: one channel")
    for side in ("height", "width"):
        parser.add_argument(
            f"--resize-{side}",
            f"--resize_{side}",
            type=int,
            default=0,
            help=f"of a list: {side} to resize to",
        )
    add_exif_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the mean and print the channels' means."""
    from sphereface.data import compute_mean
    from sphereface.progress import Progress
    from sphereface.weights import write_binaryproto

    output = output_path(args, args.input)
    with Progress(0, "compute-mean") as progress:

        def count(total: int) -> None:
            progress.total = total
            progress.update()

        mean = compute_mean(
            args.input,
            root_folder=args.root,
            new_height=args.resize_height,
            new_width=args.resize_width,
            gray=args.gray,
            exif=args.exif == "apply",
            on_image=count,
        )
    if output:
        write_binaryproto(output, mean)
    for channel, value in enumerate(mean[0].mean(axis=(1, 2), dtype="float64")):
        print(f"mean_value channel [{channel}]: {value:g}")
    return 0
