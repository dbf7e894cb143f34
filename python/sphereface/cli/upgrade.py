"""``sphereface upgrade``: old prototxts, solvers and caffemodels to today's format."""

from __future__ import annotations

import argparse
from pathlib import Path

from sphereface.cli.net_options import add_layers
from sphereface.cli.output_options import add_output_options, given_output, output_path
from sphereface.errors import SphereFaceError

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface upgrade``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "upgrade",
        help="old prototxt, solver or caffemodel to today's format",
        description="Prints what has to change in a prototxt, a solver's prototxt or a binary"
        " caffemodel of an old Caffe (V0 and V1 layers, input_dim, solver_type and so on), and"
        " writes the result to OUTPUT or, with --in-place, over the input. Weights are copied"
        " byte by byte. Of a caffemodel and an OUTPUT that ends in .prototxt, the net's deploy"
        " prototxt is written.",
    )
    parser.add_argument("input", type=Path, help="the old file")
    add_output_options(parser, "the file to write", position="output")
    parser.add_argument("--in-place", action="store_true", help="replace the input, atomically")
    add_layers(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the changes and write the file."""
    from sphereface.caffe import list_layers
    from sphereface.caffe.load import net_text
    from sphereface.files import atomic_path
    from sphereface.proto.upgrade_file import upgrade_file
    from sphereface.weights import is_weights

    if args.in_place:
        if given_output(args):
            raise SphereFaceError("--in-place together with an output", expected="one of them")
        output = args.input
    else:
        output = output_path(args, args.input)
    types = frozenset(list_layers())  # layers bring their parameter messages
    if output is not None and output.suffix == ".prototxt" and is_weights(args.input):
        text = net_text(args.input)
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"written: {output}, the net of {args.input}")
        return 0
    result = upgrade_file(args.input, types)
    age = "old" if result.changes else "current"
    print(f"{args.input}: {result.kind}, {age} format")
    for change in result.changes:
        print(f"  {change}")
    if output is not None and (result.changes or not args.in_place):
        result.save(output)
        print(f"written: {output}")
    return 0
