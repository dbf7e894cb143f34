"""Looking at nets and models: tables, pictures and differences."""

from __future__ import annotations

from sphereface.inspection.diff import NetDiff, WeightsDiff, diff_nets, diff_weights
from sphereface.inspection.draw import draw
from sphereface.inspection.summary import Summary, summarize

__all__ = ["NetDiff", "Summary", "WeightsDiff", "diff_nets", "diff_weights", "draw", "summarize"]
