"""Data: the records of an LMDB or a LevelDB, in the order of their keys, or shuffled.

Source: Caffe's data_layer.cpp; ``shuffle`` is NVIDIA's and Intel's: an order of its own each epoch,
as that of ImageData. What differs: a record that cannot be decoded, or lies in a damaged page, is
named; a ``backend`` that the source is not is told, not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sphereface.data.datum import datum_image
from sphereface.data.image_source import ImageSource
from sphereface.data.leveldb_file import LevelDbFile
from sphereface.data.order import Samples
from sphereface.data.record_file import RecordFile
from sphereface.data.source import LoadOptions

__all__ = ["Data"]


class Data(ImageSource):
    """Reader of a Data layer.

    Parameters
    ----------
    layer_param : LayerParameter
        With ``data_param`` and ``transform_param``.
    options : LoadOptions
    where : str
        Place for errors.

    Attributes
    ----------
    records : RecordFile or LevelDbFile

    Raises
    ------
    SphereFaceError
        Options that exclude each other, or a database that cannot be read.
    """

    labels_in_memory = False

    def __init__(self, layer_param: Any, options: LoadOptions, where: str = "") -> None:
        super().__init__(layer_param, options, where)
        param = layer_param.data_param
        # Older nets say in data_param what force_color says since.
        forced = True if param.force_encoded_color else None
        self._color = forced if self._transform.color is None else self._transform.color
        self.records = self._open(param)
        self._start(
            self.records.size, param.batch_size, shuffle=param.shuffle, rand_skip=param.rand_skip
        )

    def _open(self, param: Any) -> RecordFile | LevelDbFile:
        if param.backend == param.LMDB:
            return RecordFile(param.source, self.where)
        if Path(param.source, "data.mdb").exists():
            raise self.error(
                "backend: LEVELDB" if param.HasField("backend") else "no backend: LEVELDB",
                "backend: LMDB",
                f'"{param.source}" is an LMDB: say so',
            )
        return LevelDbFile(param.source, self.where)

    def labels(self) -> Iterator[tuple[int, str]]:
        """Yield each record's label and place; this reads the whole file."""
        for index, (_, datum) in enumerate(self.records):
            yield datum.label, self.records.place(index)

    def record_name(self, index: int) -> str:
        """Return the key."""
        return self.records.record(index).key.decode("utf-8", "surrogateescape")

    def close(self) -> None:
        """End the threads and close the database."""
        super().close()
        self.records.close()

    def _read(self, key: Any) -> tuple[NDArray[Any], int]:
        record = self.records.record(key)
        for number, damage in enumerate(self.records.damage):
            self._skip(-1 - number, damage)
        datum = self.records.datum(record)
        image = datum_image(datum, self._color, exif=self.options.exif)
        return image, datum.label

    def _keys(self, samples: Samples) -> list[int]:
        keys: list[int] = samples.indices.tolist()
        return keys

    def _place(self, key: Any) -> str:
        return self.records.place(key)

    def _first_key(self) -> int:
        return 0

    def _key_after(self, key: Any) -> int:
        after: int = (key + 1) % self.records.size
        return after
