"""``sphereface get``: data sets and models from where their owners keep them."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface get``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "get",
        help="fetch a data set or a model",
        description="Fetches what others keep and license: LFW, MTCNN's weights, the released"
        " SphereFace-20. Hashes are checked; a broken download is continued. Without NAME: what"
        " there is.",
    )
    add = parser.add_argument
    add("name", nargs="?", help="lfw, mtcnn, sphereface20 and so on")
    add("--output", type=Path, help="folder to put it in (default: the cache, where others look)")
    add("--sha256", default="", help="of a file whose hash nobody has published")
    return parser


def run(args: argparse.Namespace) -> int:
    """Fetch, or list what there is."""
    from sphereface.faces.datasets.cache import cache_folder
    from sphereface.faces.datasets.catalogue import CATALOGUE
    from sphereface.faces.datasets.get import find_set, get

    if args.name is None:
        for entry in CATALOGUE.values():
            print(f"{entry.name}: {entry.what}\n    licence: {entry.licence}")
        print(f"kept in {cache_folder('NAME')}")
        return 0
    entry = find_set(args.name)
    print(f"{entry.what}\nlicence: {entry.licence}")
    for file in get(entry, args.output, args.sha256):
        known = "" if file.cached else ", fetched"
        print(f"{file.path}: sha256 {file.sha256}{known}")
    return 0
