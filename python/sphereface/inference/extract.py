"""Features of many records into a file, streamed.

Source: Caffe's tools/extract_features.cpp. What differs: any source and any sink, images decoded
ahead of the net, and every record exactly once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sphereface.errors import SphereFaceError
from sphereface.inference.forward import results
from sphereface.inference.predictor import Predictor
from sphereface.inference.records import Records
from sphereface.inference.sinks import check_sink, open_sink

__all__ = ["Extracted", "extract"]


@dataclass(frozen=True)
class Extracted:
    """What was written: number of records, and values a record of each blob."""

    records: int
    widths: dict[str, int]


def extract(
    predictor: Predictor,
    records: Records,
    output: str | os.PathLike[str],
    blobs: Sequence[str] = (),
    *,
    batch: int = 16,
) -> Extracted:
    """Write blobs of a net for all records.

    Parameters
    ----------
    predictor : Predictor
        The net.
    records : Records
        `ImageRecords`, `DatumRecords`, `ArrayRecords`, `DataRecords`, or anything like them.
    output : path
        ``.npz``: ``path`` and ``features`` (n x d; several blobs under their names); ``.npy``, with
        the names in ``.paths.txt``; ``.h5``; ``.mat``; ``.lmdb``, as Caffe wrote it. It appears
        whole or not at all.
    blobs : sequence of str
        Blobs wanted; without any, the net's outputs. A blob of more axes is one row a record.
    batch : int
        Records at a time.

    Raises
    ------
    SphereFaceError
        The suffix is unknown, a record is bad, or a blob has no row for each record.

    Examples
    --------
    >>> files = list_images(["photos"])  # doctest: +SKIP
    >>> form = Preprocessing(size=(112, 96), mean=np.array([127.5]), scale=1 / 128)
    >>> extract(Predictor(net), ImageRecords(files, "data", form), "f.npz")  # doctest: +SKIP
    """
    wanted = tuple(blobs) or predictor.net.outputs
    check_sink(Path(output), wanted)
    if not records.count:
        raise SphereFaceError("no records", where=os.fspath(output), expected="at least one")
    written, widths = 0, {}
    with open_sink(Path(output), wanted) as sink:
        for names, found in results(predictor, records, blobs, batch=batch):
            for name, array in found.items():
                if not array.ndim or len(array) != len(names):
                    raise SphereFaceError(
                        f'blob "{name}" of shape {array.shape} for {len(names)} records',
                        expected="a blob with a row for each",
                    )
                widths[name] = array[0].size
            sink.write(names, found)
            written += len(names)
    return Extracted(written, widths)
