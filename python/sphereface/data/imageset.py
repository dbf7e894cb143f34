"""Image files of a list to an LMDB or a LevelDB.

Source: Caffe's tools/convert_imageset.cpp. What differs: images are read by several threads; a bad
image is an error unless told otherwise (Caffe leaves it out); the LMDB appears under its name when
it is whole; ``shuffle`` has a seed; ``gray`` with ``encoded`` is gray (Caffe copies the file).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from sphereface.data.datum import encoded_datum, raw_datum
from sphereface.data.leveldb_file import LEVELDB_FILES, LevelDbWriter, leveldb_module
from sphereface.data.order import shuffled
from sphereface.data.record_file import LMDB_FILES, lmdb_module
from sphereface.data.record_writer import RecordWriter
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_folder, check_output
from sphereface.images import (
    Color,
    ImageList,
    decode_image,
    encode_image,
    read_image_bytes,
    read_image_list,
    resize_image,
)

__all__ = ["DATABASE_FILES", "ImagesetOptions", "ImagesetReport", "convert_imageset"]

# What the folder of each kind of database holds.
DATABASE_FILES = {"lmdb": LMDB_FILES, "leveldb": LEVELDB_FILES}

_AHEAD = 64


@dataclass(frozen=True)
class ImagesetOptions:
    """The flags of convert_imageset.

    Attributes
    ----------
    gray : bool
        One channel.
    shuffle : bool
        Records in random order.
    seed : int
        Of the order.
    resize_height, resize_width : int
        Size of all images; 0 keeps theirs.
    check_size : bool
        All images must have the size of the first.
    encoded : bool
        Keep images compressed: the file's bytes where nothing changes them.
    encode_type : str
        ``"jpg"``, ``"png"``; by default the suffix of each file.
    backend : {"lmdb", "leveldb"}
        The database.
    bad_images : {"raise", "skip"}
        Whether a bad image is an error or is left out.
    exif : bool
        Turn pictures upright as EXIF tells; `encoded` keeps the files as they are.
    """

    gray: bool = False
    shuffle: bool = False
    seed: int = 0
    resize_height: int = 0
    resize_width: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    backend: Literal["lmdb", "leveldb"] = "lmdb"
    bad_images: Literal["raise", "skip"] = "raise"
    exif: bool = True

    def __post_init__(self) -> None:
        if bool(self.resize_height) != bool(self.resize_width):
            raise SphereFaceError(
                f"resize_height {self.resize_height}, resize_width {self.resize_width}",
                expected="both or neither",
            )
        if self.encode_type and not self.encoded:
            raise SphereFaceError(f"encode_type {self.encode_type}", fix="add encoded")
        if self.backend not in DATABASE_FILES:
            raise SphereFaceError(f"backend {self.backend!r}", expected='"lmdb" or "leveldb"')
        if self.bad_images not in ("raise", "skip"):
            raise SphereFaceError(f"bad_images {self.bad_images!r}", expected='"raise" or "skip"')


class _Record(NamedTuple):
    datum: bytes
    size: tuple[int, int]  # height and width of the image in it


@dataclass(frozen=True)
class ImagesetReport:
    """What was written: number of records, and what is wrong with each image left out."""

    written: int
    skipped: tuple[str, ...]


def convert_imageset(
    root_folder: str,
    list_file: str | os.PathLike[str],
    database: str | os.PathLike[str],
    options: ImagesetOptions | None = None,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    on_image: Callable[[int], object] = lambda total: None,
) -> ImagesetReport:
    """Write the images of a list as Datum records, with Caffe's keys (``00000012_name.jpg``).

    Parameters
    ----------
    root_folder : str
        Goes before each name; mind the slash.
    list_file : path
        A name and a label a line.
    database : path
        Folder to make.
    options : ImagesetOptions, optional
    workers : int, optional
        Threads; by default as many as there are cores.
    overwrite : bool
        Whether a database of that name and kind may be replaced, once the new one is whole.
    on_image : callable
        Called after each image with the number of images.

    Raises
    ------
    SphereFaceError
        A list, image or option is bad. Nothing is left behind.
    """
    options = options or ImagesetOptions()
    holds = DATABASE_FILES[options.backend]
    check_output(database, overwrite=overwrite, inputs=[list_file], holds=holds)
    entries = read_image_list(list_file)
    lmdb_module() if options.backend == "lmdb" else leveldb_module()
    with atomic_folder(database) as folder:
        return _write(folder, _records(root_folder, entries, options, workers), on_image,
                      len(entries), options)  # fmt: skip


def _records(
    root: str, entries: ImageList, options: ImagesetOptions, workers: int | None
) -> Iterator[tuple[bytes, str, _Record | SphereFaceError]]:
    """Yield key, place and record (or what is wrong) of each image, in order."""
    order = range(len(entries)) if not options.shuffle else shuffled(len(entries), options.seed)
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        waiting: deque[tuple[bytes, str, Future[_Record | SphereFaceError]]] = deque()
        try:
            for line, index in enumerate(order):
                name = entries.names[index]
                key = f"{line:08d}_{name}".encode("utf-8", "surrogateescape")
                future = pool.submit(_record, root + name, int(entries.labels[index]), options)
                waiting.append((key, entries.where(index), future))
                if len(waiting) > _AHEAD:
                    key, place, future = waiting.popleft()
                    yield key, place, future.result()
            for key, place, future in waiting:
                yield key, place, future.result()
        finally:
            for _, _, future in waiting:
                future.cancel()


def _record(path: str, label: int, options: ImagesetOptions) -> _Record | SphereFaceError:
    try:
        data = read_image_bytes(path)
        color: Color = "gray" if options.gray else "bgr"
        image = decode_image(data, color=color, exif=options.exif, where=path)
        if options.resize_height:
            image = resize_image(image, options.resize_height, options.resize_width)
        size = image.shape[:2]
        if not options.encoded:
            return _Record(raw_datum(image, label), size)
        suffix = Path(path).suffix[1:].lower()
        kind = options.encode_type or suffix
        if not kind:
            raise SphereFaceError("no suffix", where=path, fix="give encode_type")
        # The file itself, where Caffe too copies it: no change of size, colour or format.
        if not options.gray and not options.resize_height and _same_kind(suffix, kind):
            return _Record(encoded_datum(data, label), size)
        return _Record(encoded_datum(encode_image(image, kind), label), size)
    except SphereFaceError as error:
        return error


def _same_kind(suffix: str, kind: str) -> bool:
    return suffix == kind or {suffix, kind} == {"jpg", "jpeg"}


def _write(
    folder: Path,
    records: Iterator[tuple[bytes, str, _Record | SphereFaceError]],
    on_image: Callable[[int], object],
    total: int,
    options: ImagesetOptions,
) -> ImagesetReport:
    written, skipped = 0, []
    first: tuple[int, int] | None = None
    kind = RecordWriter if options.backend == "lmdb" else LevelDbWriter
    with kind(folder) as writer:
        for key, place, record in records:
            if isinstance(record, SphereFaceError):
                error = record.at(place)
                if options.bad_images == "raise":
                    raise error
                skipped.append(str(error))
            else:
                first = first or record.size
                if options.check_size and record.size != first:
                    raise SphereFaceError(
                        "an image of {} x {}".format(*record.size),
                        where=place,
                        expected="{} x {}, as the first (check_size)".format(*first),
                        fix="resize the images",
                    )
                writer.put(key, record.datum)
                written += 1
            on_image(total)
    if not written:
        raise SphereFaceError("no image could be read", fix=skipped[0])
    return ImagesetReport(written, tuple(skipped))
