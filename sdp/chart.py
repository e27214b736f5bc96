"""Line charts, dots and bars as SVG text: no scripts, no dependency, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 640.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 150.0, 34.0, 50.0
COLOURS = ("#1668b8", "#c7511f", "#2d8a4e", "#8a4fbf", "#a8851a", "#c03a6b", "#4d4d4d", "#1a9a9a")


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name; ``kind`` is "line", "dots" or "bars" (x: the bar's middle)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False


def svg(charts: Sequence[Chart]) -> str:
    """All panels below one another, as a whole file."""
    height = HEIGHT * max(len(charts), 1)
    body = "".join(
        f'<g transform="translate(0,{i * HEIGHT:g})">{_panel(chart)}</g>' for i, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" '
        f'font-family="sans-serif" font-size="12" role="img">'
        f'<rect width="{WIDTH:g}" height="{height:g}" fill="white"/>{body}</svg>\n'
    )


def _panel(chart: Chart) -> str:
    xs = [v for s in chart.series for v in s.x]
    bars = any(s.kind == "bars" for s in chart.series)
    ys = [v for s in chart.series for v in s.y] + ([0.0] if bars and not chart.log_y else [])
    across, up = _Axis(xs, chart.log_x, LEFT, WIDTH - RIGHT), _Axis(ys, chart.log_y, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{LEFT:g}" y="20" font-weight="bold">{escape(chart.title)}</text>']
    for value in across.ticks():
        x = across.at(value)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP:g}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM:g}" stroke="#e4e4e4"/>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16:g}" text-anchor="middle">{value:.4g}</text>'
        )
    for value in up.ticks():
        y = up.at(value)
        parts.append(
            f'<line x1="{LEFT:g}" y1="{y:.1f}" x2="{WIDTH - RIGHT:g}" y2="{y:.1f}" stroke="#e4e4e4"/>'
            f'<text x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{HEIGHT - 12:g}" text-anchor="middle">{escape(chart.x_label)}</text>'
        f'<text transform="translate(14,{HEIGHT / 2:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>"
    )
    for i, one in enumerate(chart.series):
        colour = COLOURS[i % len(COLOURS)]
        parts.append(_marks(one, across, up, colour))
        y = TOP + 12 + 16 * i
        parts.append(
            f'<rect x="{WIDTH - RIGHT + 12:g}" y="{y - 8:g}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{WIDTH - RIGHT + 27:g}" y="{y + 1:g}">{escape(one.name)}</text>'
        )
    return "".join(parts)


def _marks(series: Series, across: _Axis, up: _Axis, colour: str) -> str:
    points = [
        (across.at(x), up.at(y))
        for x, y in zip(series.x, series.y, strict=True)
        if across.shows(x) and up.shows(y)
    ]
    if series.kind == "bars":
        gaps = [b[0] - a[0] for a, b in pairwise(points)]
        wide = max(1.0, 0.8 * min(gaps, default=20.0))
        base = HEIGHT - BOTTOM
        return "".join(
            f'<rect x="{x - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(base - y, 0):.1f}" '
            f'fill="{colour}" fill-opacity="0.55"/>'
            for x, y in points
        )
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    if series.kind == "dots" or len(points) < 2:
        return dots
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>{dots}'


class _Axis:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], log: bool, first: float, last: float) -> None:
        self.log, self.first, self.last = log, first, last
        known = [v for v in values if self.shows(v)] or [1.0]
        low, high = self._to(min(known)), self._to(max(known))
        if high - low < 1e-12 * max(abs(low), abs(high), 1e-12):
            low, high = low - 0.5, high + 0.5
        pad = 0.04 * (high - low)
        self.low, self.high = (low - pad if low != 0 or log else 0.0), high + pad

    def shows(self, value: float) -> bool:
        """Whether a value has a place."""
        return math.isfinite(value) and (not self.log or value > 0)

    def _to(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def at(self, value: float) -> float:
        """The pixel."""
        share = (self._to(value) - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """A few round values."""
        span = self.high - self.low
        if self.log and span >= 1.5:
            step = max(1, math.ceil(span / 7))
            return [10.0**e for e in range(math.ceil(self.low), math.floor(self.high) + 1, step)]
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        raw = (high - low) / 5
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
        found: list[float] = []
        value = math.ceil(low / step) * step
        while value <= high + 1e-9 * step:
            found.append(0.0 if abs(value) < 1e-9 * step else value)
            value += step
        return found
