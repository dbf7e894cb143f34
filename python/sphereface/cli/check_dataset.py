"""``sphereface check-dataset``: what a folder of people holds, and what is wrong with it."""

from __future__ import annotations

import argparse

__all__ = ["add_parser", "run"]

_SHOWN = 20


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface check-dataset``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check-dataset",
        help="count people and pictures, find unreadable ones and people of a test set",
        description="Looks at every picture of ROOT/IDENTITY/IMAGE. Exits with 1 if a picture"
        " cannot be read, a person is in --others, or the counts are not those of --known.",
    )
    add = parser.add_argument
    add("root", help="the folder of people")
    add("--known", default="", help="compare with casia (CASIA-WebFace), imdb (IMDb-Face) or lfw")
    add(
        "--others",
        action="append",
        default=[],
        help="file with people of a test set: names, LFW's people or pairs; repeats",
    )
    add("--decode", action="store_true", help="decode every picture, not its header only")
    add("--json", help="write the whole report here")
    add("--overwrite", action="store_true", help="replace the report if it exists")
    return parser


def run(args: argparse.Namespace) -> int:
    """Check and print; the report has all names, the terminal the first."""
    import json
    from dataclasses import asdict

    from sphereface.faces.datasets.check import check_dataset
    from sphereface.faces.lists import read_names
    from sphereface.files import atomic_path, check_output

    if args.json:
        check_output(args.json, overwrite=args.overwrite)
    others = {name for path in args.others for name in read_names(path)}
    report = check_dataset(args.root, args.known, others, decode=args.decode)
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=1) + "\n")
    print(f"{report.people:,} people, {report.images:,} pictures")
    print(f"{report.smallest} to {report.largest} pictures a person; {report.single} have one")
    for remark in report.remarks:
        print(remark)
    bad = [f"{name}: {reason}" for name, reason in report.unreadable.items()]
    _print("pictures cannot be read", bad)
    _print("people are in --others", report.overlap)
    return int(bool(report.remarks or report.unreadable or report.overlap))


def _print(what: str, names: list[str]) -> None:
    if names:
        print(f"{len(names)} {what}:")
        for name in names[:_SHOWN]:
            print(f"  {name}")
        if len(names) > _SHOWN:
            print(f"  and {len(names) - _SHOWN} more (--json has all)")
