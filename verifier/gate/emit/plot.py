"""The pictures of the HTML report, as SVG text: colours come from the page, so that both themes work."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from verifier.gate.report import CurvePoint

WIDTH, HEIGHT = 560.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 36.0, 14.0, 40.0


def curve(points: Sequence[CurvePoint], name: str) -> str:
    """Certified accuracy by radius: the band between what is proved and what can at most be."""
    most = max((p.value for p in points), default=1.0) or 1.0

    def at(value: float, share: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * value / most
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    upper = [at(p.value, p.upper) for p in points]
    lower = [at(p.value, p.lower) for p in points]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *reversed(lower)])
    told = "; ".join(f"radius {p.radius}: {p.lower:.3f} to {p.upper:.3f}" for p in points)
    parts = [_grid(), f'<polygon class="band" points="{band}"/>']
    for kind, line in (("upper", upper), ("lower", lower)):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        dots = "".join(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in line)
        parts.append(f'<polyline class="{kind}" points="{path}"/>{dots}')
    last = -1e9
    for point, (x, _) in zip(points, lower, strict=True):
        if x - last >= 44:
            last = x
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 22:g}" text-anchor="middle">{escape(point.radius)}</text>'
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{HEIGHT - 4:g}" text-anchor="middle">radius</text>')
    return _svg(name, "Certified accuracy by radius, proved and at most", told, "".join(parts), HEIGHT)


def bars(rows: Sequence[tuple[str, float]], name: str, title: str) -> str:
    """Horizontal bars with their numbers, in seconds."""
    most = max((v for _, v in rows), default=1.0) or 1.0
    high, left = 26.0, 170.0
    parts: list[str] = []
    for i, (label, value) in enumerate(rows):
        y = i * high
        wide = (WIDTH - left - 70) * value / most
        parts.append(
            f'<text x="{left - 8:g}" y="{y + 17:g}" text-anchor="end">{escape(_short(label))}</text>'
            f'<rect class="bar" x="{left:g}" y="{y + 5:g}" width="{max(wide, 1):.1f}" height="16" rx="3"/>'
            f'<text x="{left + wide + 8:.1f}" y="{y + 17:g}">{value:.2f} s</text>'
        )
    told = "; ".join(f"{label}: {value:.2f} seconds" for label, value in rows)
    return _svg(name, title, told, "".join(parts), high * max(len(rows), 1))


def _grid() -> str:
    parts: list[str] = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
        parts.append(
            f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>'
        )
    return "".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"


def _svg(name: str, title: str, told: str, body: str, height: float) -> str:
    """A figure that screen readers can read; ``name`` must be unique in the page."""
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(told)}</desc>{body}</svg>'
    )
