"""The options that every step's script takes."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["options"]


def options(description: str | None) -> argparse.Namespace:
    """Parse ``--device``, ``--pack`` and ``--rehearse``."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pack", type=Path, default=Path(".gpu"))
    parser.add_argument("--rehearse", action="store_true", help="tiny, to show that it runs")
    return parser.parse_args()
