"""LFW's people apart: who trains, who verifies, and the pairs of these."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from sphereface.errors import SphereFaceError
from sphereface.evaluation import read_pairs, verification_pairs
from sphereface.files import atomic_path
from sphereface.progress import Progress

FOLD, LEAST_IMAGES = 1, 5
# A person of 71 images makes 2,485 pairs of one person: a third of all.
MOST_VERIFIED_IMAGES = 20
FOLDS, PER_FOLD = 10, 300
HEIGHT, WIDTH = 112, 96
PAIRS = {"drawn": "pairs_drawn.txt", "official": "pairs_official.txt"}


def pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield PERSON/IMAGE.jpg and the file's bytes, of the .tar or the folders in `folder`."""
    archives = sorted(folder.glob("*.tar"))
    if not archives:
        for path in sorted([*folder.glob("*/*.jpg"), *folder.glob("*/*.png")]):
            yield f"{path.parent.name}/{path.name}", path.read_bytes()
        return
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield "/".join(PurePosixPath(member.name).parts[-2:]), file.read()


def prepare(source: Path, work: Path, size: tuple[int, int]) -> None:
    """Write the faces as (height, width), the training list and the lists of pairs; once."""
    if (work / "train.txt").exists():
        return
    official = read_pairs(source / "pairs.txt")
    own = np.flatnonzero(official.fold == FOLD)
    verified = {Path(side[i]).parent.name for side in (official.left, official.right) for i in own}
    images = {name: data for name, data in pictures(source) if "/" in name}
    if not images:
        raise SphereFaceError("no faces", where=str(source), expected="PERSON/IMAGE.jpg or a .tar")
    counts = Counter(name.partition("/")[0] for name in images)
    trained = {p for p in counts if counts[p] >= LEAST_IMAGES and p not in verified}
    names = {
        "train": [name for name in sorted(images) if name.partition("/")[0] in trained],
        "verify": [name for name in sorted(images) if name.partition("/")[0] in verified],
    }
    with Progress(sum(map(len, names.values())), "faces") as progress:
        for kind, chosen in names.items():
            for name in chosen:
                path = work / kind / Path(name).with_suffix(".png")
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), _face(images[name], name, size))
                progress.update()
    write_lines(work / PAIRS["drawn"], _drawn(names["verify"]))
    write_lines(
        work / PAIRS["official"],
        [
            f"{official.left[i]}.png {official.right[i]}.png {int(official.same[i])}"
            for i in _dealt(own, official.same[own])
        ],
    )
    write_lines(work / "verify.txt", [f"{Path(n).with_suffix('.png')} 0" for n in names["verify"]])
    label = {person: number for number, person in enumerate(sorted(trained))}
    lines = [f"{Path(n).with_suffix('.png')} {label[n.partition('/')[0]]}" for n in names["train"]]
    write_lines(work / "train.txt", lines)


def _face(data: bytes, name: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape[0] != HEIGHT or image.shape[1] not in (WIDTH, HEIGHT):
        raise SphereFaceError(
            f"a picture of {'no known kind' if image is None else image.shape[:2]}",
            where=name,
            expected=f"a face aligned to {HEIGHT} x {WIDTH} or {HEIGHT} x {HEIGHT}",
            fix="cut them out with sphereface detect and sphereface align",
        )
    left = (image.shape[1] - WIDTH) // 2
    face = image[:, left : left + WIDTH]
    return cv2.resize(face, size[::-1], interpolation=cv2.INTER_AREA)


def _drawn(names: Sequence[str]) -> list[str]:
    """Return lines of up to 6,000 pairs, as many of one person as of two, in ten folds."""
    seen: Counter[str] = Counter()
    kept = []
    for name in names:
        person = name.partition("/")[0]
        seen[person] += 1
        if seen[person] <= MOST_VERIFIED_IMAGES:
            kept.append(name)
    people = np.unique([name.partition("/")[0] for name in kept], return_inverse=True)[1]
    counts = np.bincount(people)
    per_fold = min(PER_FOLD, int((counts * (counts - 1)).sum()) // 2 // FOLDS)
    if per_fold < PER_FOLD:
        print(f"only {per_fold * FOLDS} pairs of one person in ten folds, not {PER_FOLD * FOLDS}")
    pairs = verification_pairs(people, per_fold, FOLDS)
    files = [str(Path(name).with_suffix(".png")) for name in kept]
    return [
        f"{files[one]} {files[two]} {int(same)}"
        for one, two, same in zip(pairs.left, pairs.right, pairs.same, strict=True)
    ]


def _dealt(rows: NDArray[np.int64], same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rows so that each tenth of them has a tenth of both kinds."""
    kinds = [rows[same], rows[~same]]
    parts = [[np.array_split(kind, FOLDS)[fold] for kind in kinds] for fold in range(FOLDS)]
    return np.concatenate([np.concatenate(part) for part in parts])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
