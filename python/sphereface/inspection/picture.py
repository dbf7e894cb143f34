"""Boxes, arrows and labels, and their files: SVG as text, PNG through matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from sphereface.errors import SphereFaceError
from sphereface.inspection.layout import Point

__all__ = ["STEM", "Box", "Label", "Picture", "Stripe", "write_png", "write_svg"]

#: How far an arrow runs straight down before it turns; its label stands there.
STEM = 16.0

_INK, _LINE_COLOUR = "#222222", "#555555"
_NAME, _SMALL = 12.0, 10.5
_RADIUS, _HEAD = 5.0, 6.0
_PIXELS_PER_INCH, _MOST_PIXELS = 96.0, 30_000


@dataclass(frozen=True)
class Stripe:
    """One layer of a box: a coloured strip with lines of text, the first in bold if several."""

    height: float
    colour: str
    lines: tuple[str, ...]


@dataclass
class Box:
    """Stripes on top of each other; x and y are the left upper corner."""

    width: float
    stripes: list[Stripe]
    x: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> float:
        """Height of all stripes."""
        return sum(stripe.height for stripe in self.stripes)


@dataclass(frozen=True)
class Label:
    """Text; x, y are its start or end on the base line."""

    x: float
    y: float
    text: str
    size: float
    anchor: str  # "start", "middle" or "end"
    bold: bool = False


@dataclass
class Picture:
    """All that is drawn, in pixels; y grows downwards. Routes are those of `Layout`."""

    width: float
    height: float
    boxes: list[Box]
    routes: list[list[Point]]
    labels: list[Label] = field(default_factory=list)


def write_svg(picture: Picture, path: Path) -> None:
    """Write an SVG file."""
    path.write_text("\n".join(_svg(picture)) + "\n", encoding="utf-8")


def _svg(picture: Picture) -> Iterator[str]:
    size = f"{picture.width:.0f} {picture.height:.0f}"
    width, height = size.split()
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    yield f' viewBox="0 0 {size}" font-family="DejaVu Sans, Verdana, sans-serif" fill="{_INK}">'
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    yield f'<g fill="none" stroke="{_LINE_COLOUR}" stroke-width="1.2">'
    for route in picture.routes:
        yield f'<path d="{" ".join(_commands(route))}"/>'
    yield f'</g><g fill="{_LINE_COLOUR}">'
    for route in picture.routes:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _head(route))
        yield f'<polygon points="{points}"/>'
    yield "</g>"
    for box in picture.boxes:
        yield from _svg_box(box)
    for label in picture.labels:
        yield _svg_text(label, halo=True)
    yield "</svg>"


def _svg_box(box: Box) -> Iterator[str]:
    outline = (
        f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        f' rx="{_RADIUS}"'
    )
    yield f'<rect {outline} fill="{box.stripes[0].colour}"/>'
    y = box.y
    for index, stripe in enumerate(box.stripes):
        if index:
            yield f'<path d="{_stripe_path(box, index, y)}" fill="{stripe.colour}"/>'
        yield from (_svg_text(label) for label in _stripe_labels(box, stripe, y))
        y += stripe.height
    yield f'<rect {outline} fill="none" stroke="{_LINE_COLOUR}"/>'


def _stripe_path(box: Box, index: int, y: float) -> str:
    """Return the outline of a lower stripe: the last has the box's round corners."""
    height, r = box.stripes[index].height, _RADIUS
    r = r if index == len(box.stripes) - 1 else 0.0
    return (
        f"M{box.x:.1f} {y:.1f} h{box.width:.1f} v{height - r:.1f} a{r} {r} 0 0 1 {-r} {r}"
        f" h{2 * r - box.width:.1f} a{r} {r} 0 0 1 {-r} {-r} z"
    )


def _svg_text(label: Label, halo: bool = False) -> str:
    weight = ' font-weight="bold"' if label.bold else ""
    outline = ' stroke="white" stroke-width="3" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{label.x:.1f}" y="{label.y:.1f}" font-size="{label.size:g}"'
        f' text-anchor="{label.anchor}"{weight}{outline}>{escape(label.text)}</text>'
    )


def _stripe_labels(box: Box, stripe: Stripe, y: float) -> Iterator[Label]:
    first_of_box = stripe is box.stripes[0]
    step = 15.0
    start = y + (stripe.height - step * len(stripe.lines)) / 2 + 0.75 * step
    for place, text in enumerate(stripe.lines):
        name = first_of_box and place == 0
        size = _NAME if name else _SMALL
        yield Label(box.x + box.width / 2, start + step * place, text, size, "middle", bold=name)


def _curves(route: Sequence[Point]) -> Iterator[tuple[Point, ...]]:
    """Yield cubic curves (three points each) between ranks and lines (one point) along them."""
    for index, (start, end) in enumerate(pairwise(route)):
        if index % 2:
            yield (end,)
            continue
        if index == 0:
            start = start[0], start[1] + STEM
            yield (start,)
        middle = (start[1] + end[1]) / 2
        yield (start[0], middle), (end[0], middle), end


def _shortened(route: Sequence[Point]) -> list[Point]:
    """Return the route with its end drawn back to the arrow head's base."""
    return [*route[:-1], (route[-1][0], route[-1][1] - _HEAD)]


def _commands(route: Sequence[Point]) -> Iterator[str]:
    yield f"M{route[0][0]:.1f} {route[0][1]:.1f}"
    for points in _curves(_shortened(route)):
        letter = "C" if len(points) == 3 else "L"
        yield letter + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _head(route: Sequence[Point]) -> list[Point]:
    x, y = route[-1]
    return [(x, y), (x - 0.55 * _HEAD, y - 1.3 * _HEAD), (x + 0.55 * _HEAD, y - 1.3 * _HEAD)]


def write_png(picture: Picture, path: Path) -> None:
    """Write a PNG file of twice the resolution, less for a picture of giant size."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise SphereFaceError(
            "matplotlib is not installed", where=str(path), fix="pip install matplotlib, or .svg"
        ) from None
    scale = min(2.0, _MOST_PIXELS / max(picture.width, picture.height))
    inches = picture.width / _PIXELS_PER_INCH, picture.height / _PIXELS_PER_INCH
    figure = Figure(figsize=inches, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.axis("off")
    _paint(picture, axes)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=scale * _PIXELS_PER_INCH)


def _paint(picture: Picture, axes: Any) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
    from matplotlib.path import Path as Curve

    for route in picture.routes:
        points, codes = [route[0]], [Curve.MOVETO]
        for piece in _curves(_shortened(route)):
            points += piece
            codes += [Curve.CURVE4 if len(piece) == 3 else Curve.LINETO] * len(piece)
        line = PathPatch(Curve(points, codes), facecolor="none", edgecolor=_LINE_COLOUR, lw=0.9)
        axes.add_patch(line)
        axes.add_patch(Polygon(_head(route), closed=True, color=_LINE_COLOUR, lw=0))
    for box in picture.boxes:
        shape: dict[str, Any] = {
            "xy": (box.x, box.y),
            "width": box.width,
            "height": box.height,
            "boxstyle": f"round,pad=0,rounding_size={_RADIUS}",
        }
        outline = FancyBboxPatch(**shape, facecolor="none", edgecolor=_LINE_COLOUR, lw=0.75)
        axes.add_patch(outline)
        y = box.y
        for stripe in box.stripes:
            strip = Rectangle((box.x, y), box.width, stripe.height, color=stripe.colour, lw=0)
            axes.add_patch(strip)
            strip.set_clip_path(outline)
            for label in _stripe_labels(box, stripe, y):
                _paint_text(axes, label)
            y += stripe.height
        axes.add_patch(FancyBboxPatch(**shape, facecolor="none", edgecolor=_LINE_COLOUR, lw=0.75))
    for label in picture.labels:
        _paint_text(axes, label, halo=True)


def _paint_text(axes: Any, label: Label, halo: bool = False) -> None:
    from matplotlib.patheffects import withStroke

    axes.text(
        label.x,
        label.y,
        label.text,
        fontsize=label.size * 72 / _PIXELS_PER_INCH,
        fontweight="bold" if label.bold else "normal",
        ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
        va="baseline",
        color=_INK,
        parse_math=False,
        path_effects=[withStroke(linewidth=2, foreground="white")] if halo else None,
    )
