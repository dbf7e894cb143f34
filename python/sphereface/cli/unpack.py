"""``sphereface unpack``: insightface's .bin pack of pairs as pictures and a list."""

from __future__ import annotations

import argparse

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface unpack``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "unpack",
        help="insightface's .bin pack of pairs -> pictures and pairs.txt",
        description="Writes the pictures of a pack (lfw.bin, cfp_fp.bin, agedb_30.bin ...) and"
        " pairs.txt into a new folder. A pack is a pickle; this reads it without running anything"
        " that it names.",
    )
    parser.add_argument("pack", help="the .bin file")
    parser.add_argument("folder", help="a new folder")
    return parser


def run(args: argparse.Namespace) -> int:
    """Convert the pack, print what came of it."""
    from sphereface.evaluation.bin_pack import convert_pack

    pairs = convert_pack(args.pack, args.folder)
    print(f"{pairs} pairs -> {args.folder}/pairs.txt")
    return 0
