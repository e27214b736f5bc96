"""A run as a picture: bound and closed share over time, and the tree of splits. One SVG file, no scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from verifier.report.model import Cell, Report, Sample

_WIDTH, _LEFT, _RIGHT = 860, 70, 60
_PLOT_TOP, _PLOT_HEIGHT = 70, 200
_TREE_TOP, _ROW = 350, 14
_STYLE = """
svg { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --grid: #d0d7de; --closed: #2a7f62;
  --open: #c4541a; --bound: #3257a8; --split: #8c959f; background: var(--paper); }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --paper: #0d1117; --grid: #30363d;
  --closed: #4cc38a; --open: #f0883e; --bound: #79a8ff; --split: #6e7681; } }
text { font: 12px system-ui, sans-serif; fill: var(--ink); } .title { font-size: 15px; font-weight: 600; }
.grid { stroke: var(--grid); fill: none; } .bound { stroke: var(--bound); fill: none; stroke-width: 2; }
.share { stroke: var(--closed); fill: none; stroke-width: 2; stroke-dasharray: 6 3; }
.closed { fill: var(--closed); } .open { fill: var(--open); } .split { fill: var(--split); }
rect { stroke: var(--paper); stroke-width: 0.5; } .paper { fill: var(--paper); }
.boundtext { fill: var(--bound); } .sharetext { fill: var(--closed); }
"""


def svg(report: Report) -> str:
    """The picture of a report that has one."""
    picture = report.picture
    samples = () if picture is None else picture.samples
    cells = () if picture is None else picture.cells
    depth = max((c.depth for c in cells), default=0)
    height = _TREE_TOP + _ROW * (depth + 1) + 50
    title = f"{report.status.value}: {report.stats.domains} subproblems in {report.stats.seconds:.2f} s"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="title desc" width="{_WIDTH}" height="{height}">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(_description(report))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        _text(_LEFT, 24, title, "title"),
        _text(_LEFT, 42, f"{report.model}, {report.property}"),
        *_plot(samples),
        *_tree(cells, 0 if picture is None else picture.nodes, depth),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _description(report: Report) -> str:
    bound = "none" if report.lower_bound is None else f"{report.lower_bound:.6g}"
    return f"{report.closed_fraction:.2%} of the search is closed; worst open lower bound: {bound}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'


def _plot(samples: Sequence[Sample]) -> list[str]:
    """Lower bound (left axis) and closed share (right axis) over seconds."""
    bottom, width = _PLOT_TOP + _PLOT_HEIGHT, _WIDTH - _LEFT - _RIGHT
    parts = [f'<rect class="grid" x="{_LEFT}" y="{_PLOT_TOP}" width="{width}" height="{_PLOT_HEIGHT}"/>']
    last = max((s.seconds for s in samples), default=0.0) or 1.0
    bounds = [s.lower_bound for s in samples if s.lower_bound is not None and math.isfinite(s.lower_bound)]
    low, high = min(bounds, default=-1.0), max([0.0, *bounds])
    span = (high - low) or 1.0

    def across(s: Sample) -> float:
        return _LEFT + width * s.seconds / last

    def line(points: list[tuple[float, float]], kind: str) -> str:
        return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'

    rising = [
        (across(s), bottom - _PLOT_HEIGHT * (s.lower_bound - low) / span)
        for s in samples
        if s.lower_bound is not None and math.isfinite(s.lower_bound)
    ]
    share = [(across(s), bottom - _PLOT_HEIGHT * s.closed_fraction) for s in samples]
    parts += [
        line(rising, "bound"),
        line(share, "share"),
        _text(_LEFT - 6, _PLOT_TOP + 4, f"{high:.3g}", "boundtext", "end"),
        _text(_LEFT - 6, bottom, f"{low:.3g}", "boundtext", "end"),
        _text(_WIDTH - _RIGHT + 6, _PLOT_TOP + 4, "100 %", "sharetext"),
        _text(_WIDTH - _RIGHT + 6, bottom, "0 %", "sharetext"),
        _text(_LEFT, bottom + 18, "0 s"),
        _text(_WIDTH - _RIGHT, bottom + 18, f"{last:.3g} s", "", "end"),
        _text(_LEFT, _PLOT_TOP - 8, "worst open lower bound (line, left)", "boundtext"),
        _text(_WIDTH - _RIGHT, _PLOT_TOP - 8, "closed share (dashes, right)", "sharetext", "end"),
    ]
    return parts


def _tree(cells: Sequence[Cell], nodes: int, depth: int) -> list[str]:
    """The tree from its roots down; a node's children share its width."""
    width = _WIDTH - _LEFT - _RIGHT
    heading = f"search tree: {nodes} nodes; green: closed, orange: open, grey: split and not closed yet"
    parts = [_text(_LEFT, _TREE_TOP - 12, heading)]
    for c in cells:
        kind = "closed" if c.closed else "split" if c.split else "open"
        x, y = _LEFT + width * c.left, _TREE_TOP + _ROW * c.depth
        parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{y}" width="{width * c.width:.2f}" height="{_ROW}"/>'
        )
    parts.append(_text(_LEFT, _TREE_TOP + _ROW * (depth + 1) + 20, "each level is one split deeper"))
    return parts
