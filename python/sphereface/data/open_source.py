"""From data layers to their readers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from sphereface.data.hdf5_data import HDF5Data
from sphereface.data.image_data import ImageData
from sphereface.data.lmdb_data import Data
from sphereface.data.memory_data import MemoryData
from sphereface.data.source import Batch, LoadOptions, Source
from sphereface.errors import SphereFaceError

__all__ = ["SOURCE_TYPES", "Sources", "open_source", "open_sources", "reads_data"]

SOURCE_TYPES: dict[str, type[Any]] = {
    "Data": Data,
    "HDF5Data": HDF5Data,
    "ImageData": ImageData,
    "MemoryData": MemoryData,
}

_BY_PROGRAM = 'give the net its batches by a program, or by a layer of type "Python" in its place'
# Types without a reader, and what to do.
_INSTEAD = {
    "AnnotatedData": f"its records, pictures with boxes, are not read here: {_BY_PROGRAM}",
    **dict.fromkeys(
        ("BoxData", "CPMData", "DataHeatmap", "DetectionData", "HeatmapData", "ImageGtData"),
        f"its records are of its fork: {_BY_PROGRAM}",
    ),
    "VideoData": f"clips are not read here: {_BY_PROGRAM}",
    "WindowData": "cut the windows out and list them in an ImageData layer",
}


def open_source(layer_param: Any, where: str = "", **options: Any) -> Source:
    """Open what a data layer reads.

    Parameters
    ----------
    layer_param : LayerParameter
        A layer of type Data, HDF5Data, ImageData or MemoryData, in today's form
        (`sphereface.proto.net_file.read_net` upgrades old ones).
    where : str
        Place for errors, such as ``net.prototxt:3: layer "data" (ImageData)``.
    **options
        The fields of `LoadOptions`: phase, rank, ranks, seed, workers, bad_images, exif.

    Returns
    -------
    Source

    Raises
    ------
    SphereFaceError
        The type has no reader, an option is wrong, or the data cannot be read.

    Examples
    --------
    >>> with open_source(net.layer[0], phase="TRAIN", seed=1) as source:  # doctest: +SKIP
    ...     batch = source.next_batch()
    """
    source = SOURCE_TYPES.get(layer_param.type)
    if source is None:
        raise SphereFaceError(
            f'no reader for a layer of type "{layer_param.type}"',
            where=where or f'layer "{layer_param.name}"',
            expected=", ".join(SOURCE_TYPES),
            fix=_INSTEAD.get(layer_param.type, ""),
        )
    opened: Source = source(layer_param, LoadOptions(**options), where)
    return opened


def open_sources(
    layers: Iterable[tuple[Any, str]],
    *,
    opening: Callable[..., Source] = open_source,
    **options: Any,
) -> Sources | None:
    """Open what the data layers of a net read.

    Parameters
    ----------
    layers : iterable of (LayerParameter, str)
        The layers of one phase with their places; those that read no data are passed over.
    opening : callable
        Opens one of them, as `open_source` does.
    **options
        As for `open_source`.

    Returns
    -------
    Sources or None
        None for a net without data layers.
    """
    opened: dict[str, Source] = {}
    try:
        for layer_param, where in layers:
            if reads_data(layer_param):
                opened[_free(layer_param.name, opened)] = opening(layer_param, where, **options)
    except BaseException:
        for source in opened.values():
            source.close()
        raise
    return Sources(opened) if opened else None


def reads_data(layer_param: Any) -> bool:
    """Tell whether a layer is one that a source feeds."""
    return layer_param.type in SOURCE_TYPES or layer_param.type in _INSTEAD


def _free(name: str, taken: Container[str]) -> str:
    """Return `name`; of a layer that has another's name, one that is not taken yet."""
    while name in taken:
        name += "_"
    return name


class Sources:
    """The readers of all data layers of a net, as one.

    Parameters
    ----------
    members : mapping of str to Source
        By the layers' names.
    """

    def __init__(self, members: Mapping[str, Source]) -> None:
        self.members = dict(members)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each top."""
        return {top: s for source in self.members.values() for top, s in source.shapes.items()}

    def next_batch(self) -> Batch:
        """Return the next batch of every layer."""
        return {
            top: array
            for source in self.members.values()
            for top, array in source.next_batch().items()
        }

    def state(self) -> dict[str, Any]:
        """Return the state of each layer's reader."""
        return {name: source.state() for name, source in self.members.items()}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Go on where `state` was taken.

        Layers are found by their names; those that were renamed since, in their order.

        Returns
        -------
        list of str
            What of the state could not be used, a line each.
        """
        pairs = {name: name for name in self.members if name in state}
        # Before layers were known by name, pycaffe numbered them.
        lost = sorted(state.keys() - pairs.keys(), key=list(state).index)
        new = [name for name in self.members if name not in pairs]
        pairs.update(zip(new, lost, strict=False))
        lines = [
            f'data layer "{name}" goes on where "{old}" was'
            for name, old in pairs.items()
            if name != old and not old.isdecimal()
        ]
        for name, old in pairs.items():
            lines += self.members[name].restore(state[old])
        lines += [f'data layer "{name}" starts anew' for name in new[len(lost) :]]
        lines += [f'the state of data layer "{old}" is dropped' for old in lost[len(new) :]]
        return lines

    def seek(self, batches: int) -> None:
        """Go to where `batches` batches have been read."""
        for source in self.members.values():
            source.seek(batches)

    def close(self) -> None:
        """Close all."""
        for source in self.members.values():
            source.close()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
