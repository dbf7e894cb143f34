"""The Split layers that Caffe puts behind every blob with several readers.

Source: Caffe's insert_splits.cpp. Nets of `sphereface.caffe` need none; here they are seen, in
``net.layers``, ``net.blobs`` and saved models, and partial backward passes read their diffs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["insert_splits"]

Top = tuple[int, int]  # index of a layer, index of one of its tops


def insert_splits(net: Any) -> tuple[Any, list[int]]:
    """Give every blob of a NetParameter one reader.

    Parameters
    ----------
    net : NetParameter
        Upgraded and filtered; it stays as it is.

    Returns
    -------
    net : NetParameter
        With Split layers named as Caffe names them, ``data_input_0_split``.
    origin : list of int
        For each of its layers the index in the given net; -1 for a Split that was added.
    """
    sources, readers = _connections(net)
    result = type(net)()
    result.CopyFrom(net)
    del result.layer[:]
    origin: list[int] = []
    given: Counter[Top] = Counter()  # how many tops of a Split are taken
    for index, layer in enumerate(net.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        origin.append(index)
        for position, source in enumerate(sources[index]):
            if source is not None and readers[source] > 1:
                base = _split_name(net, source)
                copy.bottom[position] = f"{base}_{given[source]}"
                given[source] += 1
        for position, name in enumerate(layer.top):
            top = (index, position)
            if readers[top] < 2:
                continue
            base = _split_name(net, top)
            split = result.layer.add(name=base, type="Split", bottom=[name])
            split.top.extend(f"{base}_{number}" for number in range(readers[top]))
            origin.append(-1)
            weight = _loss_weight(layer, position)
            if weight:
                # The loss is the Split's first top; the layer's own top gets that diff from it.
                split.loss_weight.extend([weight] + [0.0] * (readers[top] - 1))
                copy.ClearField("loss_weight")
                given[top] += 1
    return result, origin


def _connections(net: Any) -> tuple[list[list[Top | None]], Counter[Top]]:
    """Return the source of each bottom of each layer, and the number of readers of each top."""
    writer: dict[str, Top] = {}
    sources: list[list[Top | None]] = []
    readers: Counter[Top] = Counter()
    for index, layer in enumerate(net.layer):
        # A bottom without a source is left for the graph to refuse.
        sources.append([writer.get(name) for name in layer.bottom])
        readers.update(source for source in sources[-1] if source is not None)
        for position, name in enumerate(layer.top):
            writer[name] = (index, position)
            if _loss_weight(layer, position):
                readers[index, position] += 1
    return sources, readers


def _loss_weight(layer: Any, position: int) -> float:
    return layer.loss_weight[position] if position < len(layer.loss_weight) else 0.0


def _split_name(net: Any, top: Top) -> str:
    layer = net.layer[top[0]]
    return f"{layer.top[top[1]]}_{layer.name}_{top[1]}_split"
