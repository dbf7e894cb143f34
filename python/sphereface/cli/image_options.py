"""Options for feeding images to a net."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sphereface.errors import SphereFaceError

if TYPE_CHECKING:
    from sphereface.images import Preprocessing
    from sphereface.inference import Predictor

__all__ = [
    "add_exif_option",
    "add_image_options",
    "apply_preset",
    "image_size",
    "preprocessing",
    "preprocessing_text",
    "refuse_image_options",
]


def add_image_options(parser: argparse.ArgumentParser, *, root: bool = True) -> None:
    """Add Caffe's preprocessing and what nets of other origin need.

    Without `root`, no --root, for a command that asks for the folder of its images otherwise.
    """
    add = parser.add_argument_group("images").add_argument
    add("--mean", metavar="M[,M,M]|FILE", help="mean of the pixels: .binaryproto, .npy or numbers")
    add("--scale", type=float, help="factor after the mean (default: 1)")
    add("--size", metavar="HxW|native", help="size to resize to (default: the net's input)")
    add("--color", choices=("bgr", "rgb", "gray"), help="(default: bgr)")
    add("--transpose", action="store_true", help="for nets trained from Matlab, such as MTCNN")
    add("--mirror", action="store_true", help="run the mirror images")
    add("--with-mirror", action=argparse.BooleanOptionalAction, default=None,
        help="run images and mirrors, and join their values")  # fmt: skip
    add("--preset", help="mean, scale, color and mirror of sphereface, mobilefacenet or arcface;"
        " other options win")  # fmt: skip
    if root:
        add("--root", default="", help="folder that the paths in lists are relative to")
    add_exif_option(parser)


def add_exif_option(parser: argparse.ArgumentParser) -> None:
    """Add whether pictures are turned upright."""
    parser.add_argument(
        "--exif",
        choices=("apply", "ignore"),
        default="apply",
        help="turn pictures as cameras say, or leave them as old OpenCV did (default: apply)",
    )


def apply_preset(args: argparse.Namespace) -> None:
    """Give the options that the user left out the preset's values, or Caffe's defaults."""
    values: dict[str, Any] = {"color": "bgr", "scale": 1.0, "with_mirror": False}
    if args.preset:
        from sphereface.faces.presets import find_preset

        preset = find_preset(args.preset)
        values = {**preset._asdict(), "mean": f"{preset.mean:g}"}
    for name in ("color", "mean", "scale", "with_mirror"):
        if getattr(args, name) is None:
            setattr(args, name, values.get(name))


def refuse_image_options(args: argparse.Namespace, where: str, *, exif: bool = False) -> None:
    """Raise if options for images are given with inputs at `where` that are fed as they are.

    With `exif`, --exif makes sense for them.
    """
    given = [args.mean, args.scale != 1, args.size, args.color != "bgr", args.transpose]
    given.append(args.exif != "apply" and not exif)
    if any([*given, args.mirror, args.with_mirror, args.root]):
        raise SphereFaceError(
            "options for images, together with inputs that need none",
            where=where,
            expected="no --mean, --scale and so on: these are the net's inputs as they are",
        )


def preprocessing(args: argparse.Namespace, predictor: Predictor) -> Preprocessing:
    """Return the preprocessing of the options, for a net's input size unless --size is given."""
    from sphereface.images import Preprocessing, read_mean
    from sphereface.inference import image_input

    _, size = image_input(predictor)
    height_width: tuple[int, int] | None = size[::-1] if args.transpose else size
    if args.size == "native":
        height_width = None
    elif args.size:
        height_width = image_size(args.size)
    return Preprocessing(
        size=height_width,
        color=args.color,
        mean=read_mean(args.mean, args.color) if args.mean else None,
        scale=args.scale,
        mirror=args.mirror,
        transpose=args.transpose,
        exif=args.exif == "apply",
    )


def preprocessing_text(form: Preprocessing, with_mirror: bool = False) -> str:
    """Return the line that tells what is done to each image, the defaults too."""
    return f"preprocessing: {form}" + (", and mirror images" if with_mirror else "")


def image_size(text: str) -> tuple[int, int]:
    """Return the height and width of --size.

    Raises
    ------
    SphereFaceError
        The text is another.
    """
    try:
        height, width = (int(value) for value in text.lower().split("x"))
        if min(height, width) < 1:
            raise ValueError
    except ValueError:
        raise SphereFaceError(
            f'"{text}"', where="--size", expected="HxW, such as 112x96, or native"
        ) from None
    return height, width
