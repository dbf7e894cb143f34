"""The packed pictures as lists for ImageData: people to train on, and one fold's pairs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import NamedTuple

from sphereface.faces.datasets.unpack import unpack as unpack_archive

__all__ = ["Pictures", "unpack"]


class Pictures(NamedTuple):
    """List files, the number of people to train on, and the pairs as indices into `held_out`."""

    train: Path
    people: int
    held_out: list[Path]
    left: list[int]
    right: list[int]
    same: list[bool]


def unpack(pack: Path, folder: Path) -> Pictures:
    """Unpack the archive into `folder` and write ``train.txt`` there."""
    with tarfile.open(pack / "lfw.tar") as archive:
        names = archive.getnames()
    unpack_archive(pack / "lfw.tar", folder)
    pairs = json.loads((pack / "fold.json").read_text())
    held = sorted({name for both, _ in pairs for name in both})
    index = {name: i for i, name in enumerate(held)}
    training = [name for name in names if name not in index]
    people = {person: i for i, person in enumerate(sorted({n.split("/")[0] for n in training}))}
    train = folder / "train.txt"
    train.write_text("".join(f"{folder / n} {people[n.split('/')[0]]}\n" for n in training))
    left, right = ([index[both[side]] for both, _ in pairs] for side in (0, 1))
    held_out = [folder / name for name in held]
    return Pictures(train, len(people), held_out, left, right, [same for _, same in pairs])
