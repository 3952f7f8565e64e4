"""Curves as SVG, written by hand: readable on light and dark pages, no dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 640, 360, 56, 20, 44, 190
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
DASHES = ("", "6 3", "2 2")

Points = Sequence[tuple[float, float]]


def lines(
    curves: Mapping[str, Points], *, title: str, x: str, y: str, low: float | None = None, high: float | None = None
) -> str:
    """One curve a name, with a legend in the order of the last values. Axes begin and end at the data, or as given."""
    every = [point for points in curves.values() for point in points]
    left, right = min(p[0] for p in every), max(p[0] for p in every)
    bottom = min(p[1] for p in every) if low is None else low
    top = max(p[1] for p in every) if high is None else high
    wide, tall = WIDTH - LEFT - LEGEND, HEIGHT - TOP - BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - left) / ((right - left) or 1)
        return LEFT + wide * across, TOP + tall * (1 - (point[1] - bottom) / ((top - bottom) or 1))

    parts = [*_frame(title, x, y, wide, tall), *_ticks((left, right), (bottom, top), at)]
    order = sorted(curves, key=lambda name: -curves[name][-1][1])
    for place, name in enumerate(order):
        style = (
            f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-dasharray="{DASHES[place // len(COLOURS) % len(DASHES)]}"'
        )
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(at, curves[name]))
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="1.6" {style}/>')
        row = TOP + 6 + place * min(14.0, tall / len(order))
        edge = LEFT + wide + 12
        parts.append(f'<line x1="{edge}" x2="{edge + 18}" y1="{row:.1f}" y2="{row:.1f}" stroke-width="1.6" {style}/>')
        parts.append(f'<text x="{edge + 23}" y="{row + 3.5:.1f}">{escape(name)}</text>')
    return "\n".join([_HEAD, *parts, "</svg>"]) + "\n"


_HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="10" '
    f'fill="#222">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
)


def _frame(title: str, x: str, y: str, wide: float, tall: float) -> list[str]:
    middle = TOP + tall / 2
    return [
        f'<text x="{LEFT}" y="13" font-size="12" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{LEFT},{TOP} V{TOP + tall} H{LEFT + wide}" fill="none" stroke="#222"/>',
        f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>',
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y)}</text>',
    ]


def _ticks(across: tuple[float, float], up: tuple[float, float], at: object) -> list[str]:
    assert callable(at)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        value = up[0] + share * (up[1] - up[0])
        (px, py) = at((across[0], value))
        (far, _) = at((across[1], value))
        parts.append(f'<line x1="{px}" x2="{far}" y1="{py:.1f}" y2="{py:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{px - 5}" y="{py + 3.5:.1f}" text-anchor="end">{value:.2g}</text>')
        value = across[0] + share * (across[1] - across[0])
        (px, py) = at((value, up[0]))
        parts.append(f'<text x="{px:.1f}" y="{py + 14:.1f}" text-anchor="middle">{value:.4g}</text>')
    return parts
