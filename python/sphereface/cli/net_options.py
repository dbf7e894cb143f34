"""Options that several commands share: which net, in which state, for which input sizes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sphereface.errors import SphereFaceError
from sphereface.resources import find_prototxt

if TYPE_CHECKING:
    from sphereface.caffe import DataOptions, Net, OpenNet
    from sphereface.caffe.outline import Outline

__all__ = [
    "add_allow_python",
    "add_files",
    "add_layers",
    "add_net_options",
    "build_net",
    "input_shapes",
    "net_or_outline",
    "opened_net",
    "settle_files",
    "stages",
]


def add_net_options(
    parser: argparse.ArgumentParser, *, files: bool = False, phase: str = ""
) -> None:
    """Add the prototxt, --phase, --level, --stage, --input-shape, --layers and --allow-python.

    With `files` the prototxt and the weights are taken as Caffe's tools take them; see `add_files`.
    `phase` tells the default phase of a command that finds it itself, of a None; else it is TEST.
    """
    if files:
        add_files(parser)
    else:
        parser.add_argument(
            "prototxt",
            help="the net: a file, or the name of a packaged one (sphereface_20_deploy); a"
            " caffemodel alone is enough",
        )
    parser.add_argument(
        "--phase",
        type=str.upper,
        choices=("TRAIN", "TEST"),
        default=None if phase else "TEST",
        help=f"which layers are kept (default: {phase or 'TEST'})",
    )
    parser.add_argument(
        "--level", type=int, default=0, help="level of the net state (default: %(default)s)"
    )
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        help="stage of the net state; several with commas, or repeated",
    )
    add_layers(parser)
    add_allow_python(parser)
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="BLOB=N,C,H,W",
        help="shape of an input instead of the file's; may be repeated",
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the prototxt and the weights, by position or as Caffe's tools take them.

    `settle_files` finds out which are meant.
    """
    parser.set_defaults(more=[])
    add = parser.add_argument
    add("prototxt", nargs="?", help="the net: a file, or the name of a packaged one")
    add("weights", nargs="?", help="the weights")
    add("--model", metavar="PROTOTXT", help="the net, as Caffe's tools take it")
    add("--weights", dest="weights_flag", metavar="FILE", help="the weights, likewise")


def settle_files(args: argparse.Namespace, *, weights_needed: bool) -> None:
    """Set ``prototxt`` and ``weights`` (None where left out) of the options of `add_files`.

    Raises
    ------
    SphereFaceError
        One is missing, or is there twice.
    """
    placed = [name for name in (args.prototxt, args.weights, *args.more) if name is not None]
    flags = {"prototxt": args.model, "weights": args.weights_flag}
    for name, flag in flags.items():
        setattr(args, name, flag or (placed.pop(0) if placed else None))
    if placed:
        raise SphereFaceError(
            f'"{placed[0]}" is one file too many', expected="the net and the weights, each once"
        )
    for name, flag in (("prototxt", "--model"), ("weights", "--weights")):
        if getattr(args, name) is None and (name == "prototxt" or weights_needed):
            raise SphereFaceError(f"no {name}", expected=f"{name.upper()} or {flag} FILE")


def add_layers(parser: argparse.ArgumentParser) -> None:
    """Add --layers; `main` loads the files."""
    parser.add_argument(
        "--layers",
        action="append",
        default=[],
        metavar="FILE.py",
        help="Python file that registers layer types of your own; its code is run; may be repeated",
    )


def add_allow_python(parser: argparse.ArgumentParser) -> None:
    """Add --allow-python."""
    parser.add_argument(
        "--allow-python",
        action="append",
        default=[],
        metavar="MODULE",
        help="module that Python layers may import, and so run; may be repeated",
    )


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


def stages(given: list[str]) -> tuple[str, ...]:
    """Return the stages of ``["a", "b,c"]``; Caffe's tools take them with commas."""
    return tuple(name for text in given for name in text.split(",") if name)


def opened_net(
    args: argparse.Namespace,
    *,
    weights: str | None = None,
    data: DataOptions | None = None,
    fill: bool | None = None,
) -> OpenNet:
    """Return the net of the options, and its data if asked for.

    Parameters
    ----------
    args : Namespace
        With the options of `add_net_options`.
    weights, data, fill
        As for `sphereface.caffe.open_net`.
    """
    from sphereface.caffe import open_net

    return open_net(
        find_prototxt(args.prototxt),
        phase=args.phase,
        level=args.level,
        stages=stages(args.stage),
        weights=weights,
        input_shapes=input_shapes(args.input_shape),
        data=data,
        allow_python=args.allow_python,
        fill=fill,
    )


def build_net(args: argparse.Namespace) -> Net:
    """Return the net of the options, with all parameters zero."""
    return opened_net(args, fill=False).net


def net_or_outline(args: argparse.Namespace) -> Net | Outline:
    """Return the net of the options to look at, though data that tell its sizes cannot be read.

    Sizes are then guessed, and without any the outline is returned; stderr says which.
    """
    from sphereface.caffe import open_net
    from sphereface.caffe.layer import UnknownShapeError
    from sphereface.caffe.load import load_graph
    from sphereface.caffe.outline import Outline, likely_input_shapes

    graph = load_graph(find_prototxt(args.prototxt), args.phase, args.level, stages(args.stage))
    given = input_shapes(args.input_shape)
    likely = likely_input_shapes(graph, args.phase)
    for shapes in (given, {**likely, **given}):
        try:
            net = open_net(
                graph,
                phase=args.phase,
                input_shapes=shapes,
                allow_python=args.allow_python,
                fill=False,
            ).net
        except UnknownShapeError as error:
            reason = error.on_command_line()
            continue
        except SphereFaceError:
            if shapes is given:
                raise
            break  # what was guessed does not fit
        for name in shapes.keys() - given.keys():
            size = "x".join(map(str, shapes[name]))
            print(f"note: {name} taken for {size}, coloured: {reason.problem}", file=sys.stderr)
        return net
    print(f"note: shown without sizes: {reason}", file=sys.stderr)
    return Outline(graph, args.phase)
