"""What released nets expect of their crops and pixels, by name.

Source: evaluation.m of SphereFace; insightface's recognition code for ArcFace and MobileFaceNet,
whose converted caffemodels take (pixel - 128) / 128. Most wrong accuracies come from another colour
order, mean or template than a net was trained with.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, NamedTuple

from sphereface.errors import SphereFaceError, nearest
from sphereface.faces.aligned_folder import sidecar_meta
from sphereface.faces.templates import TEMPLATES, Template

__all__ = ["PRESETS", "Preset", "check_crops", "find_preset"]


class Preset(NamedTuple):
    """A net's preparation.

    Parameters
    ----------
    name : str
    color : {"bgr", "rgb"}
    mean, scale : float
        The net sees (pixel - mean) * scale.
    with_mirror : bool
        Whether the features of image and mirror are joined.
    family : {"", "arcface-"}
        How the names of its templates begin.
    """

    name: str
    color: Literal["bgr", "rgb"]
    mean: float
    scale: float
    with_mirror: bool
    family: Literal["", "arcface-"]

    def template(self, height: int, width: int) -> Template:
        """Return the template of a net's input size.

        Raises
        ------
        SphereFaceError
            There is none of that size.
        """
        name = f"{self.family}{height}x{width}"
        if name not in TEMPLATES:
            sizes = [known for known in TEMPLATES if known.startswith(self.family or "1")]
            raise SphereFaceError(
                f"no template of {height}x{width}",
                where=f'preset "{self.name}"',
                expected=", ".join(sizes),
            )
        return TEMPLATES[name]


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("sphereface", "bgr", 127.5, 1 / 128, True, ""),
        Preset("mobilefacenet", "rgb", 128.0, 1 / 128, False, "arcface-"),
        Preset("arcface", "rgb", 127.5, 1 / 127.5, False, "arcface-"),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises
    ------
    SphereFaceError
        There is none of that name.
    """
    if name not in PRESETS:
        raise SphereFaceError(
            f'no preset "{name}"',
            expected=f"one of {', '.join(PRESETS)}",
            fix=nearest(name, PRESETS),
        )
    return PRESETS[name]


def check_crops(folder: str | os.PathLike[str], preset: Preset, height: int, width: int) -> None:
    """Refuse crops that ``sphereface align`` made for another kind of net.

    Parameters
    ----------
    folder : path
        Crops; anything else, and crops of other origin, pass.
    preset : Preset
    height, width : int
        The net's input.

    Raises
    ------
    SphereFaceError
        The crops are on another template.
    """
    sidecar = sidecar_meta(Path(folder))
    if not sidecar.is_file():
        return
    made = json.loads(sidecar.read_text())["template"]["name"]
    wanted = preset.template(height, width).name
    if made != wanted:
        raise SphereFaceError(
            f"crops on template {made}",
            where=os.fspath(folder),
            expected=f'{wanted}, of preset "{preset.name}" and an input of {height}x{width}',
            fix=f"align with --template {wanted}, or give the preset's values one by one",
        )
