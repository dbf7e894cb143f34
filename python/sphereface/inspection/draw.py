"""A net as a picture: layers as boxes, the shapes of their tops in them, arrows between them.

Graphviz lays it out; pygraphviz brings it along, so that no ``dot`` need be installed. A folded
picture shows repeated blocks once. The HTML form is the SVG with zoom and search in a single file.
"""

from __future__ import annotations

import contextlib
import html
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from sphereface import extras
from sphereface.caffe import Net
from sphereface.caffe.outline import Outline
from sphereface.errors import SphereFaceError
from sphereface.files import atomic_path
from sphereface.inspection.boxes import Box, Diagram, net_diagram
from sphereface.inspection.fold import Block, fold

__all__ = ["FORMATS", "draw"]

FORMATS = (".svg", ".png", ".pdf", ".html", ".dot")

_INK, _LINE_COLOUR, _FONT = "#222222", "#555555", "DejaVu Sans"
_BLOCK_COLOUR = "#f5f5f5"
_POINTS_PER_INCH, _DOTS_PER_INCH, _MOST_PIXELS = 72.0, 144.0, 30_000


def draw(net: Net | Outline, path: str | os.PathLike[str], *, folded: bool = False) -> None:
    """Write a picture of a net, atomically.

    Parameters
    ----------
    net : Net or Outline
        The net, with shapes for the input sizes that it was built for; an outline has no shapes.
    path : path-like
        ``.svg``, ``.png``, ``.pdf``, ``.html`` (to zoom and search in a browser) or ``.dot``.
    folded : bool
        Draw blocks that come three times or more in a row once, with their number.

    Raises
    ------
    SphereFaceError
        Another suffix, or pygraphviz is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise SphereFaceError(
            f'no pictures of type "{suffix}"',
            where=os.fspath(path),
            expected=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
        )
    diagram = net_diagram(net)
    blocks: tuple[Block, ...] = ()
    if folded:
        diagram, blocks = fold(diagram)
    data = _render(_graph(diagram, blocks), suffix, diagram.name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _graph(diagram: Diagram, blocks: tuple[Block, ...]) -> Any:
    graph = extras.require("pygraphviz", "draw").AGraph(directed=True, strict=False)
    text = {"fontname": _FONT, "fontcolor": _INK}
    title = _markup(f"<B>{_escaped(diagram.name)}</B>")
    graph.graph_attr.update(text, label=title, labelloc="t", nodesep="0.35", ranksep="0.4")
    graph.node_attr.update(text, shape="plain", fontsize="11")
    graph.edge_attr.update(color=_LINE_COLOUR, arrowsize="0.7")
    # What a cluster is stands in its first box: arrows cross a cluster's own label.
    headings = {
        block.start: f"{block.repeats} × ({block.first} … {block.last})" for block in blocks
    }
    for index, box in enumerate(diagram.boxes):
        label = _table(box, headings.get(index, ""))
        graph.add_node(f"box{index}", id=f"box{index}", label=label)
    for arrow in diagram.arrows:
        graph.add_edge(
            f"box{arrow.source}", f"box{arrow.target}", tailport=f"top{arrow.port}:s", headport="n"
        )
    for number, block in enumerate(blocks):
        graph.add_subgraph(
            [f"box{index}" for index in range(block.start, block.stop)],
            name=f"cluster{number}",
            label="",
            style="dashed,rounded,filled",
            fillcolor=_BLOCK_COLOUR,
            color=_LINE_COLOUR,
        )
    return graph


def _table(box: Box, heading: str) -> str:
    """Return a box as Graphviz's table: a row a layer, and a last one with a cell a top."""
    span = max(len(box.tops), 1)
    rows = [f'<TR><TD COLSPAN="{span}"><B>{_escaped(heading)}</B></TD></TR>'] if heading else []
    for index, stripe in enumerate(box.stripes):
        name, kind = _escaped(stripe.name), f'<FONT POINT-SIZE="9">{_escaped(stripe.kind)}</FONT>'
        words = f"<B>{name}</B><BR/>{kind}" if index == 0 else f"{name}  {kind}"
        rows.append(f'<TR><TD COLSPAN="{span}" BGCOLOR="{stripe.colour}">{words}</TD></TR>')
    cells = "".join(
        f'<TD PORT="top{port}"><FONT POINT-SIZE="9">'
        f"{_escaped(f'{top.name} {top.shape}'.strip())}</FONT></TD>"
        for port, top in enumerate(box.tops)
    )
    if cells:
        rows.append(f"<TR>{cells}</TR>")
    return _markup(
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3" BGCOLOR="white"'
        f' COLOR="{_LINE_COLOUR}">{"".join(rows)}</TABLE>'
    )


def _markup(text: str) -> str:
    return f"<{text}>"


def _escaped(text: str) -> str:
    # Graphviz refuses control characters, which a name in a prototxt may have.
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def _render(graph: Any, suffix: str, name: str) -> bytes:
    with _without_font_warnings():
        # The layout is kept, so that the second call only paints.
        graph.layout(prog="dot")
        if suffix == ".png":
            graph.graph_attr["dpi"] = f"{_resolution(graph):.0f}"
        kind = {".html": "svg"}.get(suffix, suffix[1:])
        painted = graph.draw(format=kind, prog="nop2")
    data = painted if isinstance(painted, bytes) else str(painted).encode()
    return _page(data.decode(), name) if suffix == ".html" else data


def _resolution(graph: Any) -> float:
    """Return dots per inch: less than usual where a side would exceed what PNG readers take."""
    _, _, width, height = map(float, graph.graph_attr["bb"].split(","))
    return min(_DOTS_PER_INCH, _MOST_PIXELS * _POINTS_PER_INCH / max(width, height, 1.0))


@contextlib.contextmanager
def _without_font_warnings() -> Iterator[None]:
    """Drop what fontconfig says on stderr of system files newer than itself; pass on the rest."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines():
                if not line.startswith("Fontconfig "):
                    sys.stderr.write(f"{line}\n")


def _page(svg: str, name: str) -> bytes:
    template = resources.files("sphereface.inspection").joinpath("viewer.html").read_text("utf-8")
    start = svg.index("<svg")  # without the XML declaration, which HTML does not have
    page = template.replace("{{title}}", html.escape(name)).replace("{{svg}}", svg[start:])
    return page.encode()
