"""Fills .gpu/ with what a bare machine lacks: wheels, a part of LFW, the commit.

    python tools/gpu/pack.py [--lfw ../shared/lfw] [--out .gpu]

The wheels are for Python 3.12 on x86-64. The pictures are all those of LFW's first fold and, of
people who are not in it, as many as fit, those with the most pictures first; columns 8 to 103 of
112 make them 112 x 96.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEELS = ("lmdb==3.0.0", "liger-kernel==0.8.5", "cut-cross-entropy==25.1.1")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PICTURES_AT_MOST = 20 * 10**6  # bytes of the archive
PACK_AT_MOST = 40 * 10**6
BLOCK = 512  # of a tar archive

Pair = tuple[str, str]  # names of two pictures


def first_fold(text: str) -> list[tuple[Pair, bool]]:
    """Return the pairs of the first fold of LFW's pairs.txt, and whether they are of one person."""
    lines = [line.split("\t") for line in text.splitlines()]
    per_kind = int(lines[0][1])
    pairs = []
    for fields in lines[1 : 1 + 2 * per_kind]:
        same = len(fields) == 3
        left, right = (fields[0], fields[1]), (fields[0 if same else 2], fields[-1])
        names = tuple(
            f"{person}/{person}_{int(number):04d}.jpg" for person, number in (left, right)
        )
        pairs.append(((names[0], names[1]), same))
    return pairs


def chosen(names: list[str], held_out: set[str]) -> Iterator[str]:
    """Yield the held-out pictures, then those of the other people, most pictures first."""
    yield from sorted(held_out)
    people = defaultdict(list)
    for name in sorted(names):
        people[name.partition("/")[0]].append(name)
    for name in held_out:
        people.pop(name.partition("/")[0], None)
    for person in sorted(people, key=lambda person: (-len(people[person]), person)):
        if len(people[person]) > 1:
            yield from people[person]


def cut(picture: bytes) -> bytes:
    """Return a 112 x 112 JPEG's columns 8 to 103 as a JPEG."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None or pixels.shape != (112, 112, 3):
        sys.exit("a picture of the archive is not 112 x 112; expected LFW aligned to 112 x 112")
    return cv2.imencode(".jpg", pixels[:, 8:104], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def pack_pictures(lfw: Path, out: Path) -> dict[str, int]:
    """Write lfw.tar and fold.json; return how many pictures of which kind."""
    pairs = first_fold((lfw / "pairs.txt").read_text())
    held_out = {name for (both, _) in pairs for name in both}
    count = {"held out": 0, "for training": 0}
    size = 2 * BLOCK
    with tarfile.open(lfw / "lfw-112x112.tar") as source, tarfile.open(out / "lfw.tar", "w") as to:
        members = {m.name.partition("/")[2]: m for m in source.getmembers() if m.isfile()}
        for name in chosen(list(members), held_out):
            stream = source.extractfile(members[name])
            assert stream is not None
            data = cut(stream.read())
            size += BLOCK + -(-len(data) // BLOCK) * BLOCK
            if size > PICTURES_AT_MOST - 20 * BLOCK:  # tar fills its last record
                break
            info = tarfile.TarInfo(name)
            info.size = len(data)
            to.addfile(info, io.BytesIO(data))
            count["held out" if name in held_out else "for training"] += 1
    (out / "fold.json").write_text(json.dumps(pairs))
    return count


def pack_wheels(out: Path) -> None:
    """Download the wheels."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, "-d", str(out / "wheels"), *WHEELS], check=True)


def manifest(out: Path) -> dict[str, object]:
    """Return the commit, and size and SHA-256 of every file."""
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {
        "commit": commit,
        "files": {
            str(path.relative_to(out)): {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        },
    }


def main() -> None:
    """Fill the folder beside its name, then take its place."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lfw", type=Path, default=ROOT.parent / "shared" / "lfw")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu")
    args = parser.parse_args()
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        pack_wheels(part)
        if (args.lfw / "lfw-112x112.tar").exists():
            print(", ".join(f"{n} {kind}" for kind, n in pack_pictures(args.lfw, part).items()))
        else:
            print(f"{args.lfw} has no lfw-112x112.tar; packed without pictures", file=sys.stderr)
        content = manifest(part)
        size = sum(entry["bytes"] for entry in content["files"].values())  # type: ignore[attr-defined]
        if size > PACK_AT_MOST:
            sys.exit(f"the pack has {size} bytes; expected at most {PACK_AT_MOST}")
        (part / "manifest.json").write_text(json.dumps(content, indent=1) + "\n")
        shutil.rmtree(args.out, ignore_errors=True)
        part.rename(args.out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{args.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
