"""Entry point of the command ``sphereface``.

A subcommand is a module of this package with ``add_parser(subparsers)``, which returns its parser,
and ``run(args)``, which returns the exit code. Every module is imported for the help text, so they
import what is slow inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import sphereface
from sphereface.errors import SphereFaceError

__all__ = ["COMMANDS", "main"]

# The order of the help text.
COMMANDS = (
    "train",
    "test",
    "run",
    "convert",
    "convert_imageset",
    "compute_mean",
    "port",
    "summary",
    "draw",
    "diff",
    "upgrade",
    "time",
    "detect",
    "align",
    "plot_log",
    "evaluate",
    "demo",
)

# Flags of Caffe's tools, which old scripts write with one dash.
_CAFFE_FLAGS = frozenset(
    [
        "-gpu",
        "-iterations",
        "-level",
        "-model",
        "-phase",
        "-sighup_effect",
        "-sigint_effect",
        "-snapshot",
        "-solver",
        "-stage",
        "-weights",
    ]
)

_BAD_INPUT, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141  # the last two as a shell reports the signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` when not given.

    Returns
    -------
    int
        0; 2 after bad input or an unusable file, told in one line on stderr; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else arguments
    args = _parser().parse_args([_with_two_dashes(argument) for argument in given])
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except SphereFaceError as error:
        print(f"sphereface {args.command}: {error.on_command_line()}", file=sys.stderr)
        return _BAD_INPUT
    except BrokenPipeError:
        # The reader (head, less) has left; without this the interpreter's last flush complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        if error.filename is None:
            raise
        print(f"sphereface {args.command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print(f"sphereface {args.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sphereface",
        description="SphereFace: legacy Caffe face models and A-Softmax on today's PyTorch.",
    )
    parser.add_argument(
        "--version", action="version", version=f"sphereface {sphereface.__version__}"
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f"sphereface.cli.{name}")
        command.add_parser(subparsers).set_defaults(run=command.run)
    return parser


def _with_two_dashes(argument: str) -> str:
    return f"-{argument}" if argument.partition("=")[0] in _CAFFE_FLAGS else argument
