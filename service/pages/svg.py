"""Charts as SVG text: drawn with ``currentColor`` and classes of the style sheet, titled and described.

Every chart has a table of the same numbers beside it (:class:`Chart`), so nothing is in the picture alone.
No ``style`` attributes: the policy of content forbids them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from markupsafe import Markup, escape

_WIDTH: Final = 520
_HEIGHT: Final = 250
_LEFT: Final = 58
_RIGHT: Final = 14
_TOP: Final = 14
_BOTTOM: Final = 42
_ROWS: Final = 24
_POINTS: Final = 400
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Series:
    """A line: its name, its points by ascending x, and which of the sheet's colours (1 to 4) it has.

    ``step`` says what holds between two points: "" a straight line, "left" the left one's value, "right" the
    right one's. A bound is drawn as what is proved, never as what would be likely.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1
    step: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture and the numbers in it: ``head`` names the columns of ``rows``."""

    picture: Markup
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Axes:
    """What the axes say, and which y must be visible; ``mark`` draws a line across, with words."""

    title: str
    x: str
    y: str
    y_from: float | None = None
    y_to: float | None = None
    mark: tuple[float, str] | None = None
    percent: bool = False


def lines(name: str, series: Sequence[Series], axes: Axes) -> Chart | None:
    """A chart of lines; None without any finite point.

    Args:
        name: unique in the page, part of ids.
        series: the lines.
        axes: the words and limits.
    """
    kept = [Series(s.name, _finite(s.points), s.colour, s.step) for s in series]
    kept = [s for s in kept if s.points]
    if not kept:
        return None
    frame = _Frame.around(kept, axes)
    parts = [*_grid(frame, axes), *_mark(frame, axes)]
    for s in kept:
        parts.append(_line(frame, s))
        if len(s.points) == 1:
            x, y = s.points[0]
            parts.append(
                f'<circle class="dot-{s.colour}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4"/>'
            )
    picture = _wrap(name, axes.title, _described(kept, axes), _WIDTH, _HEIGHT, parts)
    legend = tuple((s.colour, s.name) for s in kept) if len(kept) > 1 else ()
    return Chart(picture, axes.title, (axes.x, *(s.name for s in kept)), _table(kept, axes), legend)


def bars(
    name: str, title: str, values: Sequence[tuple[str, float, int]], say: Callable[[float], str]
) -> Chart | None:
    """Horizontal bars: (name, value, colour). Negative values go to the left of a common zero."""
    shown = [(n, v, c) for n, v, c in values if math.isfinite(v)]
    if not shown:
        return None
    low, high = min(0.0, *(v for _, v, _ in shown)), max(0.0, *(v for _, v, _ in shown))
    span = (high - low) or 1.0
    left, right, row = 130, 84, 26
    width = _WIDTH - left - right
    zero = left + width * -low / span
    parts: list[str] = []
    for i, (label, value, colour) in enumerate(shown):
        y = 6 + i * row
        x = left + width * (min(value, 0.0) - low) / span
        long = max(width * abs(value) / span, 1.0)
        parts += [
            _text(left - 10, y + 15, _cut(label, 17), anchor="end"),
            f'<rect class="bar-{colour}" x="{x:.1f}" y="{y}" width="{long:.1f}" height="18" rx="3"/>',
            _text(left + width + 10, y + 15, say(value)),
        ]
    height = 12 + row * len(shown)
    parts.append(f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="2" y2="{height - 4}"/>')
    told = "; ".join(f"{n} {say(v)}" for n, v, _ in shown[:12])
    rows = tuple((n, say(v)) for n, v, _ in shown)
    return Chart(_wrap(name, title, told, _WIDTH, height, parts), title, ("", "value"), rows)


def number(value: float) -> str:
    """Four digits, as people write them; a minus that is one."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "not a number"
    if value and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.3g}"
    else:
        text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


@dataclass(frozen=True, slots=True)
class _Frame:
    """From numbers to places."""

    x0: float
    x1: float
    y0: float
    y1: float

    @staticmethod
    def around(series: Sequence[Series], axes: Axes) -> _Frame:
        xs = [x for s in series for x, _ in s.points]
        ys = [y for s in series for _, y in s.points]
        ys += [v for v in (axes.y_from, axes.y_to) if v is not None]
        if axes.mark is not None:
            ys.append(axes.mark[0])
        x0, x1 = min(0.0, *xs), max(xs)
        y0, y1 = min(ys), max(ys)
        if axes.y_from is None and y1 > y0:
            y0 -= 0.06 * (y1 - y0)
        if axes.y_to is None:
            y1 += 0.06 * (y1 - y0) or 1.0
        return _Frame(x0, x1 if x1 > x0 else x0 + 1.0, y0, y1 if y1 > y0 else y0 + 1.0)

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - self.y0) / (self.y1 - self.y0)


def _grid(frame: _Frame, axes: Axes) -> list[str]:
    parts: list[str] = []
    for value in ticks(frame.y0, frame.y1, 4):
        y = frame.y(value)
        words = f"{value:.0%}" if axes.percent else number(value)
        parts += [
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            _text(_LEFT - 8, y + 4, words, anchor="end"),
        ]
    for value in ticks(frame.x0, frame.x1, 5):
        parts.append(_text(frame.x(value), _HEIGHT - _BOTTOM + 18, number(value), anchor="middle"))
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, axes.x, anchor="end", extra="soft"))
    return parts


def _mark(frame: _Frame, axes: Axes) -> list[str]:
    if axes.mark is None:
        return []
    y = frame.y(axes.mark[0])
    below = y < _TOP + 22
    return [
        f'<line class="mark" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
        _text(_WIDTH - _RIGHT, y + (15 if below else -6), axes.mark[1], anchor="end", extra="soft"),
    ]


def _line(frame: _Frame, s: Series) -> str:
    places = [(frame.x(x), frame.y(y)) for x, y in thinned(s.points, _POINTS)]
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    for x, y in places[1:]:
        way = {"left": f"H{x:.1f}V{y:.1f}", "right": f"V{y:.1f}H{x:.1f}"}
        path += way.get(s.step, f"L{x:.1f} {y:.1f}")
    return f'<path class="line-{s.colour}" d="{path}"/>'


def _table(series: Sequence[Series], axes: Axes) -> tuple[tuple[str, ...], ...]:
    xs = sorted({x for s in series for x, _ in s.points})
    maps = [dict(s.points) for s in series]

    def cell(value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:.1%}" if axes.percent else number(value)

    return tuple((number(x), *(cell(m.get(x)) for m in maps)) for x in thinned(xs, _ROWS))


def _described(series: Sequence[Series], axes: Axes) -> str:
    told = [
        f"{s.name} goes from {number(s.points[0][1])} at {number(s.points[0][0])}"
        f" to {number(s.points[-1][1])} at {number(s.points[-1][0])}"
        for s in series
    ]
    return f"{axes.y} over {axes.x}. " + "; ".join(told)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between two limits, about ``most`` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if power * f >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step if i else 0.0 for i in range(first, last + 1)]


def thinned(values: Sequence[T], most: int) -> list[T]:
    """Evenly chosen values, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: float, y: float, words: str, *, anchor: str = "start", extra: str = "") -> str:
    kind = f' class="{extra}"' if extra else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def _wrap(name: str, title: str, told: str, width: int, height: int, parts: Sequence[str]) -> Markup:
    text = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{escape(name)}-title {escape(name)}-desc">'
        f'<title id="{escape(name)}-title">{escape(title)}</title>'
        f'<desc id="{escape(name)}-desc">{escape(told)}</desc>{"".join(parts)}</svg>'
    )
    return Markup(text)  # noqa: S704 - every text in it was escaped above
