"""``sphereface list``: a folder of people as a training list."""

from __future__ import annotations

import argparse

from sphereface.errors import SphereFaceError

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface list``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "list",
        help="list a folder of people for training: image and label",
        description="Writes `image label` for every picture of a folder ROOT/IDENTITY/IMAGE, as"
        " ImageData reads it with root_folder ROOT. Identities are sorted, labels begin with 0.",
    )
    add = parser.add_argument
    add("root", help="the folder of people")
    add("--output", required=True, help="the list to write")
    add("--casia", action="store_true", help="leave out the three of CASIA-WebFace, as SphereFace")
    add(
        "--exclude",
        action="append",
        default=[],
        help="file of names to leave out: names, LFW's people or pairs; repeats",
    )
    add("--min-images", type=int, default=1, help="leave out people with fewer (%(default)s)")
    add("--validation", help="list to write for validation; needs --fraction")
    add("--fraction", type=float, help="of people or images that go to validation")
    add("--split-by", choices=["people", "images"], default="people", help="what is split")
    add("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    add("--absolute", action="store_true", help="write whole paths, not names below ROOT")
    add("--overwrite", action="store_true", help="replace lists that exist")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the lists and print what is in them."""
    from pathlib import Path

    from sphereface.faces import lists
    from sphereface.files import check_output

    if (args.validation is None) != (args.fraction is None):
        raise SphereFaceError(
            "one without the other", where="--validation and --fraction", expected="both or none"
        )
    for output in (args.output, args.validation):
        if output is not None:
            check_output(output, overwrite=args.overwrite)
    everyone = lists.find_people(args.root)
    names = {name for path in args.exclude for name in lists.read_names(path)}
    names.update(lists.CASIA_OVERLAP if args.casia else ())
    people = lists.exclude(everyone, names, args.min_images)
    parts = {args.output: people}
    if args.validation is not None:
        train, validation = lists.split(people, args.fraction, args.split_by, args.seed)
        parts = {args.output: train, args.validation: validation}
    base = Path(args.root).absolute()
    for path, part in parts.items():
        count = lists.write_list(path, part, (lambda n: str(base / n)) if args.absolute else str)
        print(f"{path}: {count} images of {len(part)} people")
    if len(people) < len(everyone):
        print(f"left out: {', '.join(_first(set(everyone) - set(people)))}")
    return 0


def _first(names: set[str], shown: int = 10) -> list[str]:
    ordered = sorted(names)
    more = [f"{len(ordered) - shown} more"] if len(ordered) > shown else []
    return ordered[:shown] + more
