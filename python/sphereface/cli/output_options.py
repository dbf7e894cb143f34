"""Options for what a command writes: one spelling, and asked for before the work begins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path

from sphereface.errors import SphereFaceError
from sphereface.files import check_output

__all__ = ["add_output_options", "given_output", "output_path", "required_output"]


def add_output_options(
    parser: argparse.ArgumentParser,
    text: str,
    *,
    default: str = "",
    position: str = "",
    alias: str = "",
) -> None:
    """Add --output and --overwrite.

    Parameters
    ----------
    parser : ArgumentParser
    text : str
        Help: what is written, and in which formats.
    default : str
        The output if none is given.
    position : str
        Name under which it may also stand as the last positional argument.
    alias : str
        Another flag for it, from before.
    """
    if position:
        parser.add_argument(position, nargs="?", default="", help="the same as --output")
        parser.set_defaults(output_position=position)
    flags = ["--output", alias] if alias else ["--output"]
    text += " (default: %(default)s)" if default else ""
    parser.add_argument(*flags, dest="output_flag", default=default, metavar="FILE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def given_output(args: argparse.Namespace) -> str:
    """Return what stands at the position or after --output; empty if nothing does.

    Raises
    ------
    SphereFaceError
        Both are given.
    """
    placed: str = getattr(args, getattr(args, "output_position", ""), "")
    flag: str = args.output_flag
    if placed and flag:
        raise SphereFaceError(f"{placed} and --output {flag}", expected="one output")
    return placed or flag


def output_path(
    args: argparse.Namespace, *inputs: str | os.PathLike[str], holds: Collection[str] = ()
) -> Path | None:
    """Return the output once it may be written; None if there is none.

    Parameters
    ----------
    args : Namespace
    *inputs : path-like
        What the command reads; never written over.
    holds : collection of str
        For an output that is a folder: what lies in it.

    Raises
    ------
    SphereFaceError
        It is given twice, or refused by `sphereface.files.check_output`.
    """
    name = given_output(args)
    if not name:
        return None
    check_output(name, overwrite=args.overwrite, inputs=inputs, holds=holds)
    return Path(name)


def required_output(
    args: argparse.Namespace, *inputs: str | os.PathLike[str], holds: Collection[str] = ()
) -> Path:
    """Return what `output_path` returns, for a command that must write."""
    path = output_path(args, *inputs, holds=holds)
    if path is None:
        raise SphereFaceError("no output", expected="--output FILE")
    return path
