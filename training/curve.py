"""Accuracy against radius as a small SVG picture: certified from below, attacked from above."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_W, _H, _LEFT, _TOP, _PLOT_W, _PLOT_H = 520, 340, 60, 24, 420, 250
_COLOURS: Final = {
    "certified": ("#1a7f37", "certified by the constant"),
    "branched": ("#0969da", "proved by branch and bound"),
    "attacked": ("#bc4c00", "under attack"),
}


def write_curve(path: Path, report: Mapping[str, Any]) -> None:
    """Draws every map of radius to accuracy that the report has (``branched`` where somebody added it)."""
    radii = sorted(float(r) for r in report["certified"])
    most = max(radii, default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_W}" height="{_H}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="white"/>',
    ]
    for i in range(6):
        y = _TOP + _PLOT_H * (1 - i / 5)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_W}" y1="{y:g}" y2="{y:g}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{20 * i} %</text>')
    for r in [0.0, *radii]:
        x = _LEFT + _PLOT_W * r / most
        parts.append(f'<text x="{x:g}" y="{_TOP + _PLOT_H + 18}" text-anchor="middle">{r:g}</text>')
    label = f"radius ({'L2' if report['norm'] == '2' else 'L-infinity'})"
    parts.append(
        f'<text x="{_LEFT + _PLOT_W / 2:g}" y="{_TOP + _PLOT_H + 36}" text-anchor="middle">{label}</text>'
    )
    for number, (name, (colour, text)) in enumerate(_COLOURS.items()):
        values: Mapping[str, float] = report.get(name) or {}
        if not values:
            continue
        points = [(0.0, float(report["clean"])), *sorted((float(r), v) for r, v in values.items())]
        places = " ".join(
            f"{_LEFT + _PLOT_W * r / most:.1f},{_TOP + _PLOT_H * (1 - v):.1f}" for r, v in points
        )
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_LEFT + 8}" y="{_TOP + _PLOT_H - 44 + 16 * number}" fill="{colour}">{text}</text>'
        )
    parts.append("</svg>\n")
    path.write_text("\n".join(parts), encoding="utf-8")
