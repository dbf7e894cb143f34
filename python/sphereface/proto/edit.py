"""Numbers of layers changed in the text of a prototxt, all other text left as it is.

Source: none; a message written anew loses comments, order and spelling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sphereface.proto._text_tree import Block, Entry, Value, parse_tree

__all__ = ["LayerNumbers", "with_numbers"]

LayerNumbers = Mapping[tuple[str, str], tuple[Sequence[int], Sequence[int]]]
"""(parameter message, field) to the values that it has and those that it gets."""


def with_numbers(text: str, source: str, changes: Mapping[str, LayerNumbers]) -> str | None:
    """Return `text` with other numbers in its layers.

    Parameters
    ----------
    text, source : str
        A net's prototxt of the V1 or the present format, and its name for errors.
    changes : mapping
        Layer to what changes there: ``{"conv1": {("convolution_param", "num_output"): ([64],
        [48])}}``. A name may stand for several layers, those of TRAIN and of TEST. A field that a
        layer does not have stays absent.

    Returns
    -------
    str or None
        None if a layer is not there, or not with its options in a message of their own (V0).

    Raises
    ------
    SphereFaceError
        A field has other values than those that are to change.
    """
    tree = parse_tree(text, source)
    pieces: list[tuple[int, int, str]] = []
    found = set()
    for entry, layer in _blocks(tree.root, ("layer", "layers")):
        name = layer.first("name")
        for (message, field), (old, new) in changes.get(name, {}).items():
            for outer, block in _blocks(layer, (message,)):
                found.add(name)
                values = [v for e in block.entries if e.name == field for v in e.values]
                numbers = [v for v in values if isinstance(v, Value)]
                if not numbers:
                    continue
                if [_number(v.text) for v in numbers] != list(old):
                    raise tree.error(
                        f"{field} {', '.join(v.text for v in numbers)}",
                        numbers[0].offset,
                        [entry, outer],
                        expected=f"{', '.join(map(str, old))}, as the other layer of this name has",
                    )
                pieces += [
                    (v.offset, v.offset + len(v.text), str(n))
                    for v, n in zip(numbers, new, strict=True)
                ]
    if found != changes.keys():
        return None
    for start, end, number in sorted(pieces, reverse=True):
        text = text[:start] + number + text[end:]
    return text


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _blocks(parent: Block, names: Sequence[str]) -> Iterator[tuple[Entry, Block]]:
    for entry in parent.entries:
        if entry.name in names:
            for value in entry.values:
                if isinstance(value, Block):
                    yield entry, value
