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
from sphereface.inspection.boxes import Box, Diagram, Top, net_diagram
from sphereface.inspection.fold import Block, fold

__all__ = ["FORMATS", "draw", "picture"]

FORMATS = (".svg", ".png", ".pdf", ".html", ".dot")

_INK, _LINE_COLOUR, _FONT = "#222222", "#555555", "DejaVu Sans"
_BLOCK_COLOUR = "#f5f5f5"
# Where an arrow leaves a box and enters one, by the direction of all arrows.
_SIDES = {"TB": ("s", "n"), "BT": ("n", "s"), "LR": ("e", "w"), "RL": ("w", "e")}
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
    _check_format(suffix, os.fspath(path))
    diagram = net_diagram(net)
    blocks: tuple[Block, ...] = ()
    if folded:
        diagram, blocks = fold(diagram)
    data = picture(diagram, suffix[1:], blocks)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def picture(
    diagram: Diagram, kind: str, blocks: tuple[Block, ...] = (), *, rankdir: str = "TB"
) -> bytes:
    """Return the picture of a diagram.

    Parameters
    ----------
    diagram : Diagram
        Of `net_diagram`, or of `fold` with its `blocks`.
    kind : str
        One of `FORMATS`, without the dot.
    rankdir : {"TB", "BT", "LR", "RL"}
        Where the arrows go: top to bottom, ...

    Raises
    ------
    SphereFaceError
        Another kind or direction, or pygraphviz is missing.
    """
    _check_format(f".{kind}", "")
    if rankdir not in _SIDES:
        raise SphereFaceError(f'rankdir "{rankdir}"', expected=", ".join(_SIDES))
    return _render(_graph(diagram, blocks, rankdir), kind, diagram.name)


def _check_format(suffix: str, where: str) -> None:
    if suffix not in FORMATS:
        raise SphereFaceError(
            f'no pictures of type "{suffix}"',
            where=where,
            expected=f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
        )


def _graph(diagram: Diagram, blocks: tuple[Block, ...], rankdir: str) -> Any:
    graph = extras.require("pygraphviz", "draw").AGraph(directed=True, strict=False)
    text = {"fontname": _FONT, "fontcolor": _INK}
    title = _markup(f"<B>{_escaped(diagram.name)}</B>")
    graph.graph_attr.update(
        text, label=title, labelloc="t", rankdir=rankdir, nodesep="0.35", ranksep="0.4"
    )
    graph.node_attr.update(text, shape="plain", fontsize="11")
    graph.edge_attr.update(color=_LINE_COLOUR, arrowsize="0.7")
    # What a cluster is stands in its first box: arrows cross a cluster's own label.
    headings = {
        block.start: f"{block.repeats} × ({block.first} … {block.last})" for block in blocks
    }
    for index, box in enumerate(diagram.boxes):
        label = _table(box, headings.get(index, ""), beside=rankdir in ("TB", "BT"))
        graph.add_node(f"box{index}", id=f"box{index}", label=label)
    leave, enter = _SIDES[rankdir]
    for arrow in diagram.arrows:
        port = f"top{arrow.port}:" if _words(diagram.boxes[arrow.source].tops[arrow.port]) else ""
        graph.add_edge(
            f"box{arrow.source}", f"box{arrow.target}", tailport=f"{port}{leave}", headport=enter
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


def _table(box: Box, heading: str, beside: bool) -> str:
    """Return a box as Graphviz's table: a row a layer, then a cell a top, in one row or in rows."""
    span = max(len(box.tops), 1) if beside else 1
    rows = [f'<TR><TD COLSPAN="{span}"><B>{_escaped(heading)}</B></TD></TR>'] if heading else []
    for index, stripe in enumerate(box.stripes):
        name, kind = _escaped(stripe.name), f'<FONT POINT-SIZE="9">{_escaped(stripe.kind)}</FONT>'
        words = f"<B>{name}</B><BR/>{kind}" if index == 0 else f"{name}  {kind}"
        rows.append(f'<TR><TD COLSPAN="{span}" BGCOLOR="{stripe.colour}">{words}</TD></TR>')
    cells = [
        f'<TD PORT="top{port}"><FONT POINT-SIZE="9">{_escaped(_words(top))}</FONT></TD>'
        for port, top in enumerate(box.tops)
        if _words(top)
    ]
    rows += [f"<TR>{cell}</TR>" for cell in (["".join(cells)] if beside else cells) if cell]
    return _markup(
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3" BGCOLOR="white"'
        f' COLOR="{_LINE_COLOUR}">{"".join(rows)}</TABLE>'
    )


def _words(top: Top) -> str:
    return f"{top.name} {top.shape}".strip()


def _markup(text: str) -> str:
    return f"<{text}>"


def _escaped(text: str) -> str:
    # Graphviz refuses control characters, which a name in a prototxt may have.
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def _render(graph: Any, kind: str, name: str) -> bytes:
    with _without_font_warnings():
        # The layout is kept, so that the second call only paints.
        graph.layout(prog="dot")
        if kind == "png":
            graph.graph_attr["dpi"] = f"{_resolution(graph):.0f}"
        painted = graph.draw(format={"html": "svg"}.get(kind, kind), prog="nop2")
    data = painted if isinstance(painted, bytes) else str(painted).encode()
    return _page(data.decode(), name) if kind == "html" else data


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
