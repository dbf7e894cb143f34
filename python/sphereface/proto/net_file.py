"""A net's prototxt, ready to be built: read, upgraded, filtered, with the lines of its layers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sphereface.errors import SphereFaceError, raise_problems
from sphereface.proto.crop_offsets import tell_of_crops
from sphereface.proto.source import load_text
from sphereface.proto.state_rules import filter_net, kept_layers, state_text
from sphereface.proto.text import Located, parse_net, write
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
    problems : tuple of SphereFaceError
        What is wrong with the text, for whoever builds the net to raise with what he finds.
    unread : tuple of int
        Layers of `net`, of unknown types, with fields that could not be understood.
    whole : NetFile, optional
        The file with the layers of all states, where `net` has those of one.
    """

    net: Any
    source: str
    lines: tuple[int, ...]
    changes: tuple[str, ...]
    problems: tuple[SphereFaceError, ...] = ()
    unread: tuple[int, ...] = ()
    whole: NetFile | None = None

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
        kept = kept_layers(whole)
        lines = tuple(self.lines[index] for index in kept)
        unread = tuple(new for new, index in enumerate(kept) if index in self.unread)
        return replace(self, net=net, lines=lines, unread=unread, whole=self)

    def why_missing(self, blob: str) -> str:
        """Return why no layer of `net` makes `blob` before it is read, if the file tells."""
        for index, layer in enumerate(self.net.layer):
            if blob in layer.top:
                return f"{self.where(index)} makes it, but stands later"
        for index, layer in enumerate(self.whole.net.layer if self.whole else ()):
            if blob in layer.top:
                word = "include" if layer.include else "exclude"
                rules = " ".join(
                    f"{word} {{ {' '.join(write(rule).split())} }}"
                    for rule in layer.include or layer.exclude
                )
                place = self.whole.where(index) if self.whole else ""
                return f"{place} makes it, which {state_text(self.net.state)} leaves out: {rules}"
        return ""

    def checked(self) -> NetFile:
        """Return the file if all of it was understood, for those who do not build the net.

        Raises
        ------
        SphereFaceError
            What is wrong, all of it.
        """
        unknown = [
            SphereFaceError(
                f'unknown layer type "{self.net.layer[index].type}", with fields of its own',
                where=self.where(index),
                fix="register the type",
            )
            for index in self.unread
        ]
        raise_problems([*self.problems, *unknown], self.source)
        return self


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


def net_of_text(text: str, source: str, types: Collection[str] | None = None) -> NetFile:
    """Return the net of a text that is known to be one.

    Parameters
    ----------
    text, source : str
        The text, and its name for errors.
    types : collection of str, optional
        The layer types that are known, from one who will build the net or ask `NetFile.checked`:
        what is wrong with the text is then left in `NetFile.problems`, and fields that layers of
        other types bring are left out.

    Raises
    ------
    SphereFaceError
        What is wrong with the text; or the net cannot be upgraded.
    """
    located = parse_net(text, source, types)
    try:
        file = _net_file(located)
    except SphereFaceError as error:
        if located.problems:  # of which it may be a consequence
            raise_problems(located.problems, source)
        raise error from None
    tell_of_crops(file.net, source)
    return file.checked() if types is None else file


def net_of_message(net: Any) -> NetFile:
    """Return what `read_net` would of a file that holds the NetParameter `net`."""
    return _net_file(Located(net, "", ()))


def _net_file(located: Located) -> NetFile:
    upgraded = upgrade_net(located.message, located.source)
    given = located.layer_lines
    return NetFile(
        upgraded.message,
        located.source,
        tuple(given[i] if given and i >= 0 else 0 for i in upgraded.origin),
        upgraded.changes,
        located.problems,
        tuple(new for new, old in enumerate(upgraded.origin) if old in located.unread),
    )
