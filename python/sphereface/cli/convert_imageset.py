"""``sphereface convert-imageset``: a list of images to an LMDB or a LevelDB."""

from __future__ import annotations

import argparse
import sys

from sphereface.cli.image_options import add_exif_option
from sphereface.cli.output_options import add_output_options, required_output

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface convert-imageset``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "convert-imageset",
        help="a list of images to an LMDB or LevelDB for Data layers",
        description="Writes the images of a list (a name and a label a line) as Caffe's Datum"
        " records: what convert_imageset of Caffe does, with its flags.",
    )
    parser.add_argument("root", help="folder of the images; goes before each name as it is")
    parser.add_argument("list", help="a name and a label a line")
    add_output_options(parser, "the database to make", position="output")
    parser.add_argument("--gray", action="store_true", help="one channel")
    parser.add_argument("--shuffle", action="store_true", help="in random order")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default: %(default)s)")
    for side in ("height", "width"):
        parser.add_argument(
            f"--resize-{side}", f"--resize_{side}", type=int, default=0, help=f"{side} to resize to"
        )
    parser.add_argument(
        "--check-size", "--check_size", action="store_true", help="all must have the same size"
    )
    parser.add_argument("--encoded", action="store_true", help="keep the images compressed")
    parser.add_argument(
        "--encode-type",
        "--encode_type",
        default="",
        metavar="TYPE",
        help="jpg, png, ... (default: the suffix of each file)",
    )
    parser.add_argument(
        "--backend",
        choices=("lmdb", "leveldb"),
        default="lmdb",
        help="leveldb needs plyvel (default: %(default)s)",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad images out and count them"
    )
    add_exif_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the database and print how many records it has."""
    from sphereface.data import DATABASE_FILES, ImagesetOptions, convert_imageset
    from sphereface.progress import Progress

    options = ImagesetOptions(
        gray=args.gray,
        shuffle=args.shuffle,
        seed=args.seed,
        resize_height=args.resize_height,
        resize_width=args.resize_width,
        check_size=args.check_size,
        encoded=args.encoded,
        encode_type=args.encode_type,
        backend=args.backend,
        bad_images="skip" if args.skip_bad else "raise",
        exif=args.exif == "apply",
    )
    output = required_output(args, args.list, holds=DATABASE_FILES[args.backend])
    with Progress(0, "convert-imageset") as progress:

        def count(total: int) -> None:
            progress.total = total
            progress.update()

        report = convert_imageset(
            args.root, args.list, output, options, overwrite=args.overwrite, on_image=count
        )
    for line in report.skipped:
        print(f"skipped: {line}", file=sys.stderr)
    skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
    print(f"{output}: {report.written} images{skipped}")
    return 0
