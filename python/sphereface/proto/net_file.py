"""A net's prototxt, ready to be built: read, upgraded, filtered, with the lines of its layers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sphereface.proto.state_rules import filter_net, kept_layers
from sphereface.proto.text import load_text, parse
from sphereface.proto.upgrade import upgrade_net

__all__ = ["NetFile", "read_net"]


@dataclass(frozen=True)
class NetFile:
    """A NetParameter in today's form and where it came from.

    Attributes
    ----------
    net : Message
        NetParameter with ``layer`` only.
    source : str
        File name for errors.
    lines : tuple of int
        Line of each layer of `net` in the file; 0 for one that an upgrade added.
    changes : tuple of str
        Upgrades that were made.
    """

    net: Any
    source: str
    lines: tuple[int, ...]
    changes: tuple[str, ...]

    def where(self, index: int) -> str:
        """Return ``net.prototxt:41: layer "conv1_1" (Convolution)`` for layer `index`."""
        layer = self.net.layer[index]
        line = f":{self.lines[index]}" if self.lines[index] else ""
        return f'{self.source}{line}: layer "{layer.name}" ({layer.type})'


def read_net(
    prototxt: str | os.PathLike[str],
    phase: str | int | None = None,
    level: int = 0,
    stages: Iterable[str] = (),
) -> NetFile:
    """Read a net from a path or text, upgrade it and keep the layers of a phase.

    Parameters
    ----------
    prototxt : path or str
        A path, or the text itself.
    phase : {"TRAIN", "TEST"}, optional
        Without it all layers are kept.
    level, stages : int, iterable of str
        Further parts of the state; see `filter_net`.

    Raises
    ------
    SphereFaceError
        The text is wrong, with its place; or the net cannot be upgraded.
    """
    text, source = load_text(prototxt)
    located = parse(text, "NetParameter", source)
    upgraded = upgrade_net(located.message, source)
    lines = [located.layer_lines[i] if i >= 0 else 0 for i in upgraded.origin]
    net = upgraded.message
    if phase is not None:
        stages = tuple(stages)
        filtered = filter_net(net, phase, level, stages)
        net.state.CopyFrom(filtered.state)
        lines = [lines[i] for i in kept_layers(net)]
        net = filtered
    return NetFile(net, source, tuple(lines), upgraded.changes)
