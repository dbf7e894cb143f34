"""The boxes of pictures, for ``sphereface run`` with a net that ends in DetectionOutput."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphereface.cli.image_options import preprocessing, preprocessing_text
from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.images import ImageFile
    from sphereface.inference import Predictor

__all__ = ["add_box_options", "print_boxes", "refuse_box_options"]


def add_box_options(parser: argparse.ArgumentParser) -> None:
    """Add what concerns boxes only."""
    add = parser.add_argument_group("boxes, of nets that end in DetectionOutput").add_argument
    add("--labels", metavar="FILE", help="names of the classes: a label map, or a name a line")
    add("--draw", metavar="FOLDER", help="write the pictures with their boxes there, as .png")
    add("--min-score", type=float, default=0.0, metavar="S",
        help="leave out boxes of a lower score (default: %(default)s)")  # fmt: skip


def refuse_box_options(args: argparse.Namespace) -> None:
    """Raise if an option for boxes is given where there are none."""
    for name in ("labels", "draw", "min_score"):
        if getattr(args, name):
            raise SphereFaceError(
                "no boxes to tell",
                where=f"--{name.replace('_', '-')}",
                expected="pictures, and a net that ends in DetectionOutput",
            )


def print_boxes(args: argparse.Namespace, predictor: Predictor, output: Path | None) -> None:
    """Find the boxes of all pictures; print them, or write them to `output`; draw them if told."""
    import numpy as np

    from sphereface.images import MAX_PIXELS, list_images, read_image, write_image
    from sphereface.inference import BoxFinder, detection_blob, read_labels
    from sphereface.inference.save import save_blobs
    from sphereface.inspection.draw_boxes import draw_boxes, label_text
    from sphereface.progress import Progress

    if args.with_mirror:
        raise SphereFaceError("--with-mirror", expected="pictures as they are, for boxes")
    labels = read_labels(args.labels) if args.labels else {}
    form = preprocessing(args, predictor)
    finder = BoxFinder(predictor, form, least=args.min_score)
    files = list_images(args.inputs, args.root)
    drawn = _drawn(args, files)
    print(preprocessing_text(form), file=sys.stderr)
    rows = []
    with Progress(len(files), "running") as progress:
        for begin in range(0, len(files), args.batch):
            part = files[begin : begin + args.batch]
            images = [
                read_image(file.path, color=form.color, exif=form.exif, max_pixels=MAX_PIXELS)
                for file in part
            ]
            for number, (file, boxes) in enumerate(zip(part, finder(images), strict=True), begin):
                rows += [[number, box.label, box.score, *box.corners] for box in boxes]
                if drawn:
                    picture = read_image(file.path, exif=form.exif)
                    write_image(drawn[number], draw_boxes(picture, boxes, labels))
                if not output:
                    print(f"{file.path}: {len(boxes)} boxes" if boxes else f"{file.path}: no boxes")
                    for box in boxes:
                        corners = " ".join(f"{value:.1f}" for value in box.corners)
                        print(f"  {label_text(box, labels)} {corners}")
            progress.update(len(part))
    if output:
        found = np.array(rows, np.float32).reshape(-1, 7)
        blob = detection_blob(predictor.net)
        save_blobs(output, {str(blob): found}, [file.path for file in files])
        print(f"{blob} {found.shape} -> {output}")
    if drawn:
        print(f"{len(drawn)} pictures -> {args.draw}", file=sys.stderr)


def _drawn(args: argparse.Namespace, files: list[ImageFile]) -> list[Path]:
    """Return where each picture is drawn, once all may be written; nothing without --draw."""
    from sphereface.files import check_output

    if not args.draw:
        return []
    folder = Path(args.draw)
    names = [Path(file.name.lstrip("/")).with_suffix(".png") for file in files]
    paths = [folder / (name if ".." not in name.parts else name.name) for name in names]
    if len(set(paths)) < len(paths):
        raise SphereFaceError(
            "pictures of one name", where="--draw", expected="names that differ without suffix"
        )
    folder.mkdir(exist_ok=True)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_output(path, overwrite=args.overwrite, inputs=[file.path for file in files])
    return paths
