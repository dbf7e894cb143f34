"""A net as a table without sizes, for one whose data cannot be read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sphereface.caffe.outline import Outline

__all__ = ["OutlineRow", "OutlineTable", "outline_table"]


@dataclass(frozen=True)
class OutlineRow:
    """One layer: its name and type, and the names of its blobs."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


@dataclass(frozen=True)
class OutlineTable:
    """All layers of a net; ``print(table)`` is the table."""

    name: str
    phase: str
    layers: tuple[OutlineRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [("layer", "type", "bottoms", "tops")]
        rows += [(x.name, x.type, ", ".join(x.bottoms), ", ".join(x.tops)) for x in self.layers]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        total = f"{self.name or 'unnamed net'}, phase {self.phase}: {len(self.layers)} layers"
        return "\n".join([*lines, "", f"{total}, sizes unknown"])


def outline_table(outline: Outline) -> OutlineTable:
    """Return the table of an outline."""
    rows = tuple(
        OutlineRow(node.name, node.type, tuple(node.param.bottom), tuple(node.param.top))
        for node in outline.graph.nodes
    )
    return OutlineTable(outline.name, outline.phase, rows)
