"""``sphereface enroll``: pictures of people into a gallery."""

from __future__ import annotations

import argparse

from sphereface.cli.output_options import add_output_options, required_output
from sphereface.cli.recognition_options import add_model_options, open_analyzer

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface enroll``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "enroll",
        help="put people into a gallery",
        description="FOLDER holds a folder of pictures, or one picture, for each person; its name"
        " is the person's. The gallery remembers which model made it and is used with no other.",
    )
    parser.add_argument("folder", help="of people")
    parser.add_argument(
        "--select",
        default="largest",
        help="of several faces: largest, central or best (default: %(default)s)",
    )
    add_model_options(parser)
    add_output_options(parser, "the gallery, .npz")
    return parser


def run(args: argparse.Namespace) -> int:
    """Enroll and print who is in."""
    from sphereface.progress import Progress
    from sphereface.recognition.enrollment import enroll, people_of

    output = required_output(args)
    people = people_of(args.folder)
    analyzer = open_analyzer(args)
    total = sum(len(pictures) for pictures in people.values())
    with Progress(total, "enroll") as progress:
        done = enroll(people, analyzer, how=args.select, on_picture=progress.update)
    gallery = done.gallery
    gallery.save(output)
    print(f"{len(gallery.people)} people, {len(gallery.names)} faces -> {output}")
    print(f"model: {gallery.label}")
    for path, why in done.failures.items():
        print(f"  left out: {path}: {why}")
    for name in sorted(people.keys() - set(gallery.people)):
        print(f"  not enrolled: {name}")
    return 0
