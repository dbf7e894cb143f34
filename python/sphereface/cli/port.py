"""``sphereface port``: a net as a PyTorch source file that needs this package no more."""

from __future__ import annotations

import argparse

from sphereface.cli.net_options import add_net_options, build_net
from sphereface.cli.output_options import add_output_options, output_path
from sphereface.resources import find_prototxt

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface port``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "port",
        help="a net as readable PyTorch source that stands alone",
        description="Prints, or writes to --output, a Python file that defines the net with torch"
        " alone. The weights that `sphereface convert` writes as .pt load into it.",
    )
    add_net_options(parser)
    add_output_options(parser, "the .py to write instead of printing", alias="--out")
    parser.add_argument("--class-name", default="", help="the class (default: from the net's name)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write or print the source."""
    from sphereface.convert import pytorch_source
    from sphereface.files import atomic_path

    output = output_path(args, args.prototxt)
    made_from = find_prototxt(args.prototxt).name
    text = pytorch_source(build_net(args), args.class_name, made_from)
    if output is None:
        print(text, end="")
        return 0
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {output}: {text.count(chr(10))} lines")
    return 0
