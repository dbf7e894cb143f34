"""``sphereface draw``: a picture of a net."""

from __future__ import annotations

import argparse

from sphereface.cli.net_options import add_net_options, net_or_outline
from sphereface.cli.output_options import add_output_options, required_output

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface draw``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "draw",
        help="picture of a net: SVG, PNG, PDF, HTML to zoom and search",
        description="Draws the layers of a net as boxes with the shapes of their tops. Layers that"
        " work in place are stripes of the box whose blob they change.",
    )
    add_net_options(parser)
    add_output_options(parser, "PICTURE: .svg, .png, .pdf, .html or .dot", position="picture")
    parser.add_argument(
        "--fold", action="store_true", help="draw blocks that repeat once, with their number"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the picture."""
    from sphereface.inspection import draw

    picture = required_output(args, args.prototxt)
    draw(net_or_outline(args), picture, folded=args.fold)
    print(picture)
    return 0
