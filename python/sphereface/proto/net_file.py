"""A net's prototxt, ready to be built: read, upgraded, filtered, with the lines of its layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sphereface.proto.state_rules import filter_net, kept_layers
from sphereface.proto.text import load_text, parse
from sphereface.proto.upgrade import upgrade_net

__all__ = ["NetFile", "net_of_message", "net_of_text", "read_net"]


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
        place = f"{self.source}{line}: " if self.source else ""
        return f'{place}layer "{layer.name}" ({layer.type})'

    def kept(self, phase: str | int, level: int = 0, stages: Iterable[str] = ()) -> NetFile:
        """Return the net of a phase, level and stages; see `filter_net`."""
        net = filter_net(self.net, phase, level, stages)
        whole = type(self.net)()
        whole.CopyFrom(self.net)
        whole.state.CopyFrom(net.state)
        lines = tuple(self.lines[index] for index in kept_layers(whole))
        return replace(self, net=net, lines=lines)


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
    file = net_of_text(*load_text(prototxt))
    return file if phase is None else file.kept(phase, level, stages)


def net_of_text(text: str, source: str) -> NetFile:
    """Return the net of a text that is known to be one; `source` is its name for errors."""
    located = parse(text, "NetParameter", source)
    return _net_file(located.message, source, located.layer_lines)


def net_of_message(net: Any) -> NetFile:
    """Return what `read_net` would of a file that holds the NetParameter `net`."""
    return _net_file(net, "", ())


def _net_file(message: Any, source: str, layer_lines: Sequence[int]) -> NetFile:
    upgraded = upgrade_net(message, source)
    lines = [layer_lines[i] if layer_lines and i >= 0 else 0 for i in upgraded.origin]
    return NetFile(upgraded.message, source, tuple(lines), upgraded.changes)
