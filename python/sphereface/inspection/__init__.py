"""Looking at nets and models: tables, pictures and differences."""

from __future__ import annotations

from sphereface.inspection.diff import NetDiff, WeightsDiff, diff_nets, diff_weights
from sphereface.inspection.draw import draw
from sphereface.inspection.outline_table import OutlineTable, outline_table
from sphereface.inspection.summary import Summary, summarize

__all__ = [
    "NetDiff",
    "OutlineTable",
    "Summary",
    "WeightsDiff",
    "diff_nets",
    "diff_weights",
    "draw",
    "outline_table",
    "summarize",
]
