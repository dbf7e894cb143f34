"""Entry point of the command ``sphereface``.

A subcommand is a module of this package with ``add_parser(subparsers)``, which returns its parser,
and ``run(args)``, which returns the exit code. Every module is imported for the help text, so they
import what is slow inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sphereface
from sphereface.allocator import tune_allocator
from sphereface.errors import SphereFaceError, nearest

__all__ = ["COMMANDS", "main"]

# The order of the help text.
COMMANDS = (
    "train",
    "test",
    "run",
    "extract",
    "convert",
    "convert_imageset",
    "compute_mean",
    "port",
    "prune",
    "summary",
    "draw",
    "diff",
    "upgrade",
    "time",
    "detect",
    "align",
    "list",
    "get",
    "check_dataset",
    "enroll",
    "identify",
    "verify",
    "calibrate",
    "page",
    "plot_log",
    "evaluate",
    "unpack",
    "demo",
    "demo_faces",
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

# A bug as BSD's sysexits.h has it; the last two as a shell reports the signals.
_BAD_INPUT, _BUG, _INTERRUPTED, _BROKEN_PIPE = 2, 70, 130, 141

# What torch's allocator for the CPU says; a GPU's has an exception of its own.
_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` when not given.

    Returns
    -------
    int
        0; 2 after bad input, an unusable file or with too little memory, told on stderr in one
        line, or a line a problem of a file; 70 after a bug of this program; 130 after Ctrl-C.
    """
    _open_standard_streams()
    if arguments is None:  # the process is the command's, not a program's
        tune_allocator()
    warnings.formatwarning = _warning_line
    given = sys.argv[1:] if arguments is None else arguments
    args = _parsed([_with_two_dashes(argument) for argument in given])
    try:
        _load_layers(getattr(args, "layers", ()))
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_broken_streams()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print(f"sphereface {args.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        if args.traceback:
            traceback.print_exc()
        text, code = _told(error)
        print(f"sphereface {args.command}: {text}", file=sys.stderr)
    return code


def _open_standard_streams() -> None:
    """Give a process that was started with closed streams null ones.

    Otherwise the next file that is opened gets such a stream's number, and what a library writes
    to stderr lands in it.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, "w" if number else "r"))


def _silence_broken_streams() -> None:
    """Point the streams whose reader (head, less) has left nowhere.

    Without it, the interpreter's last flush complains.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _load_layers(files: Sequence[str]) -> None:
    if files:
        from sphereface.caffe import load_layers

        for file in files:
            load_layers(file)


def _told(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code for an error."""
    if isinstance(error, SphereFaceError):
        return str(error.on_command_line()), _BAD_INPUT
    if _is_out_of_memory(error):
        what = str(error).split("\n")[0].split("(")[0].strip().rstrip(".") or "too little memory"
        return f"out of memory: {what}; a smaller batch or image needs less", _BAD_INPUT
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror}", _BAD_INPUT
    what = ": ".join(filter(None, (type(error).__name__, str(error).split("\n")[0])))
    *_, frame = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"this is a bug: {what} ({where}); --traceback shows more to report", _BUG


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # not imported for the sake of an error
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or _CPU_OUT_OF_MEMORY in str(error)


def _warning_line(message: Warning | str, *place: object, **more: object) -> str:
    return f"warning: {message}\n"


class _Version(argparse.Action):
    """Unlike argparse's own, looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"sphereface {sphereface.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sphereface",
        description="SphereFace: legacy Caffe face models and A-Softmax on today's PyTorch.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f"sphereface.cli.{name}")
        added = command.add_parser(subparsers)
        added.set_defaults(run=command.run, parser=added)
        added.add_argument(
            "--traceback", action="store_true", help="with an error, show where it arose"
        )
    return parser


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse; `more` are words that argparse leaves because options stand between them.

    It gives positional arguments that may be missing only what stands together. A command whose
    arguments may be missing has `more` among its defaults and looks there.
    """
    parser = _parser()
    args, more = parser.parse_known_args(arguments)
    if more and (not hasattr(args, "more") or any(word.startswith("-") for word in more)):
        known = re.findall(r"(?<!\S)--?[\w-]+", args.parser.format_help())
        hint = next(filter(None, (nearest(word, known) for word in more)), "")
        args.parser.error(f"unrecognized arguments: {' '.join(more)}{'; ' * bool(hint)}{hint}")
    args.more = more
    return args


def _with_two_dashes(argument: str) -> str:
    return f"-{argument}" if argument.partition("=")[0] in _CAFFE_FLAGS else argument
