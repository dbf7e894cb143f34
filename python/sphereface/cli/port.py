"""``sphereface port``: a net as a PyTorch source file that needs this package no more."""

from __future__ import annotations

import argparse
from pathlib import Path

from sphereface.cli.net_options import add_net_options, build_net, prototxt_file

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface port``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "port",
        help="a net as readable PyTorch source that stands alone",
        description="Prints, or writes to --out, a Python file that defines the net with torch"
        " alone. The weights that `sphereface convert` writes as .pt load into it.",
    )
    add_net_options(parser)
    parser.add_argument("--out", type=Path, metavar="PY", help="the file to write")
    parser.add_argument("--class-name", default="", help="the class (default: from the net's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write or print the source."""
    from sphereface.convert import pytorch_source
    from sphereface.errors import SphereFaceError
    from sphereface.files import atomic_path

    if args.out is not None and args.out.exists() and not args.overwrite:
        raise SphereFaceError("the file exists", where=str(args.out), fix="pass --overwrite")
    made_from = prototxt_file(args.prototxt).name
    text = pytorch_source(build_net(args), args.class_name, made_from)
    if args.out is None:
        print(text, end="")
        return 0
    with atomic_path(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {args.out}: {text.count(chr(10))} lines")
    return 0
