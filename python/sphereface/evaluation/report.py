"""Results as one HTML file: tables, pictures inside, no network, light or dark as the reader's.

Everything that a file or a person is called is escaped by jinja2.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from sphereface.evaluation.tables import Table
from sphereface.extras import require
from sphereface.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "write_report"]


@dataclass(frozen=True)
class Section:
    """One protocol's part.

    Attributes
    ----------
    title : str
    tables : sequence of Table
    figures : mapping of str to matplotlib.figure.Figure
        By caption.
    """

    title: str
    tables: Sequence[Table]
    figures: Mapping[str, Figure]


def write_report(
    path: str | os.PathLike[str],
    title: str,
    sections: Sequence[Section],
    record: Mapping[str, Any],
) -> None:
    """Write the report.

    Parameters
    ----------
    path : path-like
    title : str
    sections : sequence of Section
    record : mapping
        As `sphereface.evaluation.run_record.run_record` returns.
    """
    jinja2 = require("jinja2", "evaluation")
    source = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    ).from_string(source)
    filled = [
        {
            "title": section.title,
            "tables": section.tables,
            "pictures": [
                {"caption": caption, "base64": _png(figure)}
                for caption, figure in section.figures.items()
            ],
        }
        for section in sections
    ]
    text = template.render(title=title, sections=filled, record=record)
    with atomic_path(path) as temporary:
        # A name that is no UTF-8 is shown with its bytes escaped.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
