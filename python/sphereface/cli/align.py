"""``sphereface align``: crops of detected faces, on a template."""

from __future__ import annotations

import argparse

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface align``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "align",
        help="crop detected faces as a net expects them",
        description="Writes the crops of a file of faces at their pictures' relative paths, by"
        " Matlab's cp2tform and imtransform. Templates named arcface-* are fitted as insightface"
        " does. A run that was stopped is continued by the same command.",
    )
    add = parser.add_argument
    add("faces", help="what `sphereface detect` wrote, or the original's dataList.mat")
    add("--output", required=True, help="folder for the crops")
    add(
        "--template",
        default="112x96",
        help="112x96, 112x112, 128x128, arcface-112x112, arcface-128x128 or arcface-224x224"
        " (default: %(default)s); `extract --preset` tells if a net wants another",
    )
    add(
        "--select",
        default="central",
        help="of several faces: central, largest, best or all (default: %(default)s)",
    )
    add("--format", default="jpg", help="jpg, as the original, or png (default: %(default)s)")
    add("--quality", type=int, default=75, help="of JPEG (default: %(default)s)")
    add("--root", default="", help="folder of the pictures, if they have moved")
    add("--workers", type=int, default=1, help="processes (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace the crops of an earlier run in OUTPUT")
    return parser


def run(args: argparse.Namespace) -> int:
    """Align and print the summary; 1 if there is no crop."""
    from sphereface.faces.aligned_folder import Crops, align_folder

    summary = align_folder(
        args.faces,
        args.output,
        Crops(args.template, args.select, args.format, args.quality),
        root=args.root,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    total = sum(summary.counts.values())
    done = summary.counts.get("ok", 0)
    print(f"{summary.crops} crops of {done} of {total} pictures; {summary.several} have more faces")
    for status, count in sorted(summary.counts.items()):
        print(f"  {status}: {count}")
    if done < total:
        print(f"  what failed and why: {summary.failures}")
    return 0 if summary.crops else 1
