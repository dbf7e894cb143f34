"""``sphereface identify``: who is in pictures, a video or before a camera."""

from __future__ import annotations

import argparse
import time

from sphereface.cli.recognition_options import (
    add_model_options,
    add_threshold_options,
    needed_threshold,
    open_analyzer,
)
from sphereface.errors import SphereFaceError

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface identify``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "identify",
        help="name the people of a gallery in pictures, a video or a camera",
        description="Writes the pictures or the video with boxes and names, a colour a person, and"
        " identities.jsonl with a line a picture or frame. Faces below the threshold are unknown."
        " A video loses its sound; Ctrl-C ends it with what there is.",
    )
    add = parser.add_argument
    add("input", nargs="+", help="pictures, folders, lists; or one video file; or camera:0")
    add("--gallery", required=True, help="what `sphereface enroll` wrote")
    add("--output", required=True, metavar="DIR", help="folder for what is written")
    add("--every", type=int, default=1, metavar="N",
        help="look at every Nth frame of a video (default: 1)")  # fmt: skip
    add("--smooth", type=float, default=0.0, metavar="W", help="weight of a face's past frames of a"
        " video, 0 to less than 1 (default: %(default)s)")  # fmt: skip
    add("--faiss", action="store_true", help="search by FAISS; for very large galleries")
    add("--overwrite", action="store_true", help="replace results in DIR")
    add_model_options(parser)
    add_threshold_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Identify and print how many and how fast."""
    from sphereface.images import list_images
    from sphereface.recognition import Gallery
    from sphereface.recognition.identification import (
        RESULTS,
        Identifier,
        identify_pictures,
        identify_video,
    )
    from sphereface.recognition.video import is_video

    gallery = Gallery.load(args.gallery)
    if args.faiss:
        gallery.use_faiss()
    videos = [name for name in args.input if is_video(name)]
    if not videos and (args.every != 1 or args.smooth):
        raise SphereFaceError("--every or --smooth with pictures", expected="with a video")
    if videos and len(args.input) > 1:
        raise SphereFaceError(f"{len(args.input)} inputs with {videos[0]}", expected="one video")
    analyzer = open_analyzer(args)
    threshold = needed_threshold(args, analyzer.embedder)
    identifier = Identifier(analyzer, gallery, threshold)
    print(f"model: {analyzer.embedder.label}; threshold {threshold}")
    began = time.monotonic()
    if videos:
        done = identify_video(
            videos[0], identifier, args.output, every=args.every, smooth=args.smooth,
            overwrite=args.overwrite,
        )  # fmt: skip
    else:
        files = list_images(args.input)
        done = identify_pictures(files, identifier, args.output, overwrite=args.overwrite)
    seconds = time.monotonic() - began
    kind = "frames" if videos else "pictures"
    print(
        f"{done.faces} faces in {done.pictures} {kind}, {done.strangers} of them unknown; "
        f"{done.pictures / max(seconds, 1e-9):.1f} {kind}/s -> {args.output} ({RESULTS})"
    )
    for path, why in done.failures.items():
        print(f"  left out: {path}: {why}")
    return 0
