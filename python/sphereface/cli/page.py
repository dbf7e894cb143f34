"""``sphereface page``: compare photographs in the browser."""

from __future__ import annotations

import argparse

from sphereface.cli.recognition_options import (
    add_model_options,
    add_threshold_options,
    open_analyzer,
    threshold_of,
)

__all__ = ["add_parser", "run"]

_PORT = 8017


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface page``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "page",
        help="compare photographs in the browser, on this machine",
        description="Serves a page that compares two photographs, or a photograph with a gallery,"
        " and shows boxes, cosines and a threshold to move. Photographs stay in memory; only this"
        " machine is answered unless --host says more. Ctrl-C ends it.",
    )
    add = parser.add_argument
    add("--gallery", help="what `sphereface enroll` wrote")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--name", action="append", default=[], help="what browsers elsewhere call this machine;"
        " needed with --host 0.0.0.0; may be given several times")  # fmt: skip
    add("--port", type=int, default=_PORT, help="0 for any that is free (default: %(default)s)")
    add_model_options(parser)
    add_threshold_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from sphereface.recognition import Gallery
    from sphereface.recognition.page import create_app
    from sphereface.recognition.page_server import PageServer, trusted_names

    hosts = trusted_names(args.host, args.name)
    gallery = Gallery.load(args.gallery) if args.gallery else None
    analyzer = open_analyzer(args)
    threshold = threshold_of(args, analyzer.embedder)
    server = PageServer(create_app(analyzer, threshold, gallery, hosts=hosts), args.host, args.port)
    known = threshold or "none is known, move the slider"
    print(f"model: {analyzer.embedder.label}; threshold: {known}")
    print(f"{server.url} (Ctrl-C ends it)", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        print("ended")
    return 0
