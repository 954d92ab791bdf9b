"""A picture of replicas over time, as SVG; the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT, _MARGIN = 380, 150, 40
_POINTS = 360
"""So many points of a line are drawn."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One load."""

    title: str
    """What stands above it."""
    seconds: float
    """How long it lasts."""
    needed: Sequence[float]
    """How many replicas the load needs, over time."""
    replicas: Sequence[int]
    """How many there were."""


def draw(panels: Sequence[Panel]) -> str:
    """The panels in two columns."""
    rows = -(-len(panels) // 2)
    width, height = 2 * (_WIDTH + _MARGIN) + 20, rows * (_HEIGHT + 60) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<path d="M45 18h24" stroke="#c44" fill="none"/><text x="75" y="22">replicas that the load needs</text>',
        '<path d="M265 18h24" stroke="#247" stroke-width="2" fill="none"/><text x="295" y="22">replicas</text>',
    ]
    for index, panel in enumerate(panels):
        left = _MARGIN + index % 2 * (_WIDTH + _MARGIN)
        top = 60 + index // 2 * (_HEIGHT + 60)
        parts += _panel(panel, left, top)
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, left: int, top: int) -> list[str]:
    most = max(*panel.needed, *panel.replicas)
    span = f"{panel.seconds / 3600:g} h" if panel.seconds >= 7200 else f"{panel.seconds / 60:g} min"
    return [
        f'<text x="{left}" y="{top - 8}" font-weight="bold">{panel.title}</text>',
        f'<path d="M{left} {top}v{_HEIGHT}h{_WIDTH}" stroke="#999" fill="none"/>',
        f'<text x="{left - 6}" y="{top + 8}" text-anchor="end">{most:.0f}</text>',
        f'<text x="{left - 6}" y="{top + _HEIGHT}" text-anchor="end">0</text>',
        f'<text x="{left + _WIDTH}" y="{top + _HEIGHT + 14}" text-anchor="end">{span}</text>',
        f'<path d="{_line(panel.needed, most, left, top)}" stroke="#c44" fill="none"/>',
        f'<path d="{_line(panel.replicas, most, left, top)}" stroke="#247" stroke-width="2" fill="none"/>',
    ]


def _line(values: Sequence[float], most: float, left: int, top: int) -> str:
    step = max(1, len(values) // _POINTS)
    points = [
        f"{left + index / len(values) * _WIDTH:.1f} {top + _HEIGHT * (1 - values[index] / most):.1f}"
        for index in range(0, len(values), step)
    ]
    return "M" + "L".join(points)
