"""``sphereface verify``: are two faces one person's."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from sphereface.cli.recognition_options import (
    add_model_options,
    add_threshold_options,
    open_analyzer,
    threshold_of,
)
from sphereface.files import atomic_path, check_output

if TYPE_CHECKING:
    from sphereface.faces import Face, FaceAnalyzer

__all__ = ["add_parser", "run"]

_SAME, _DIFFERENT, _NO_DECISION = 0, 1, 2


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the options of ``sphereface verify``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "verify",
        help="tell whether two pictures show one person",
        description="Compares the largest face of each. The exit code is 0 for the same person, 1"
        " for two, 2 where there is no decision: no face, no threshold, or bad input.",
    )
    add = parser.add_argument
    add("first", help="a picture")
    add("second", help="another")
    add("--json", default="", metavar="FILE", help="write score, threshold and same there")
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    add_model_options(parser)
    add_threshold_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare; print score, threshold and verdict."""
    if args.json:
        check_output(args.json, overwrite=args.overwrite, inputs=[args.first, args.second])
    analyzer = open_analyzer(args)
    threshold = threshold_of(args, analyzer.embedder)
    faces = [_face(path, analyzer) for path in (args.first, args.second)]
    told: dict[str, Any] = {
        "model": analyzer.embedder.label,
        "threshold": threshold and threshold.value,
        "origin": threshold and threshold.origin,
        "score": None,
        "same": None,
    }
    if all(face is not None for face in faces):
        one, two = faces
        told["score"] = round(float(one.embedding @ two.embedding), 6)  # type: ignore[union-attr,operator]
        told["same"] = threshold and told["score"] >= threshold.value
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(told, indent=2) + "\n")
    print(f"model: {told['model']}")
    if told["score"] is None:
        return _NO_DECISION
    if threshold is None:
        print(f"cosine {told['score']:.4f}; no decision without --calibration or --threshold")
        return _NO_DECISION
    verdict = "the same person" if told["same"] else "two people"
    print(f"cosine {told['score']:.4f}, threshold {threshold}: {verdict}")
    return _SAME if told["same"] else _DIFFERENT


def _face(path: str, analyzer: FaceAnalyzer) -> Face | None:
    from sphereface.faces.selection import select
    from sphereface.images import read_image

    image = read_image(path, color="rgb")
    faces = analyzer.get(image)
    if not faces:
        print(f"{path}: no face found")
        return None
    if len(faces) > 1:
        print(f"{path}: {len(faces)} faces, the largest is compared")
    return select(faces, "largest", *image.shape[:2])[0]
