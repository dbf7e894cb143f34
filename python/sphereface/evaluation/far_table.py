"""Operating points as a table."""

from __future__ import annotations

from collections.abc import Sequence

from sphereface.evaluation.far import OperatingPoint
from sphereface.evaluation.tables import Table, percent, percent_range

__all__ = ["far_table"]


def far_table(
    points: Sequence[OperatingPoint], intervals: Sequence[tuple[float, float]] = ()
) -> Table:
    """Return TAR@FAR as a table."""
    rows = []
    for index, point in enumerate(points):
        if not point.measurable:
            rows.append([f"{point.target:g}", "not measurable", "-", "-", "-", ""])
            continue
        low, high = intervals[index] if intervals else (point.low, point.high)
        rows.append(
            [
                f"{point.target:g}",
                percent(point.tar),
                percent_range(low, high),
                f"{point.far:g}",
                f"{point.threshold:.4f}",
                "few impostors" if point.few else "",
            ]
        )
    notes = [
        f"{points[0].impostors:,} impostor and {points[0].genuine:,} genuine pairs; rule"
        f" {points[0].rule}; 95 % intervals"
        + (" over identities" if intervals else " for independent pairs (Wilson)")
    ]
    header = ["FAR", "TAR", "interval", "achieved", "threshold", ""]
    return Table("", header, rows, notes=notes)
