"""Options that several commands share: which net, in which state, for which input sizes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sphereface.errors import SphereFaceError, nearest
from sphereface.resources import prototxt_names, prototxt_path

if TYPE_CHECKING:
    from sphereface.caffe import Net

__all__ = ["add_net_options", "build_net", "input_shapes", "prototxt_file"]


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """Add the prototxt, --phase, --level, --stage and --input-shape."""
    parser.add_argument(
        "prototxt",
        help="the net: a file, or the name of a packaged one (sphereface_20_deploy); a caffemodel"
        " alone is enough",
    )
    parser.add_argument(
        "--phase",
        type=str.upper,
        choices=("TRAIN", "TEST"),
        default="TEST",
        help="which layers are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--level", type=int, default=0, help="level of the net state (default: %(default)s)"
    )
    parser.add_argument(
        "--stage", action="append", default=[], help="stage of the net state; may be repeated"
    )
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="BLOB=N,C,H,W",
        help="shape of an input instead of the file's; may be repeated",
    )


def prototxt_file(name: str) -> Path:
    """Return the path of `name`, which is a file or the name of a packaged prototxt.

    Raises
    ------
    SphereFaceError
        It is neither, but is close to the name of a packaged one.
    """
    path = Path(name)
    if path.exists():
        return path
    names = prototxt_names()
    if name.removesuffix(".prototxt") in names:
        return prototxt_path(name)
    if name.isidentifier() and (fix := nearest(name, names)):
        raise SphereFaceError("no such file and no packaged net", where=name, fix=fix)
    return path


def input_shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of ``["data=1,3,112,96"]`` by blob name.

    Raises
    ------
    SphereFaceError
        One is not written so, or a size is not positive.
    """
    shapes = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise SphereFaceError(
                f'"{text}"', where="--input-shape", expected="BLOB=N,C,H,W with positive sizes"
            )
        shapes[name] = shape
    return shapes


def build_net(args: argparse.Namespace) -> Net:
    """Return the net of the options, with all parameters zero."""
    from sphereface.caffe import Net
    from sphereface.caffe.load import load_graph

    graph = load_graph(prototxt_file(args.prototxt), args.phase, args.level, args.stage)
    shapes = input_shapes(args.input_shape)
    return Net(graph, phase=args.phase, input_shapes=shapes, fill=False)
