"""Draws the pictures of docs/explanation/branch-and-bound.md from real bounds; a test redraws them.

Run it as ``python docs/gen_branch_and_bound.py`` from the repository root, with the package installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bounds.domain import Objectives
from bounds.evaluate import evaluate
from bounds.graph import Graph
from bounds.io.onnx import load
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.numerics import FLOAT64

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "explanation" / "images"
MODEL = ROOT / "examples" / "models" / "pendulum.onnx"

ANGLES = (-0.5, 0.5)  # rad; the angular velocity goes from LEFT to RIGHT, and only its range is split here
LEFT, RIGHT = -2.0, 2.0
LIMIT = -1.08  # Nm: is the torque above it everywhere?
WIDTH, HEIGHT, X0, Y0, PLOT_W, PLOT_H = 640, 300, 60, 20, 560, 220
LOW, HIGH = -2.2, 1.2  # Nm
STYLE = """
svg { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --grid: #d0d7de; --closed: #2a7f62;
  --open: #b3470f; --curve: #3257a8; background: var(--paper); }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --paper: #0d1117; --grid: #30363d;
  --closed: #4cc38a; --open: #f0883e; --curve: #79a8ff; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); } .paper { fill: var(--paper); }
.grid { stroke: var(--grid); fill: none; } .curve { stroke: var(--curve); fill: none; stroke-width: 2.5; }
.limit { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 6 4; }
.closed { stroke: var(--closed); stroke-width: 3; } .open { stroke: var(--open); stroke-width: 3; }
.edge { stroke: var(--grid); stroke-dasharray: 2 3; }
"""


@dataclass(frozen=True)
class Part:
    """An interval of velocities, and the proved lower bound of the torque on it."""

    lo: float
    hi: float
    lower: float

    @property
    def closed(self) -> bool:
        """Whether the bound settles it. A NaN would not."""
        return self.lower > LIMIT


def bounded(graph: Graph, intervals: list[tuple[float, float]]) -> list[Part]:
    """Bounds each interval by itself, rigorously, as the engine does."""
    one = np.ones((1, 1))
    none = np.zeros((1, graph.input_size))

    def exact() -> tuple[Any, Any, Any]:
        return tuple(_fractions(v) for v in (one, none, np.zeros(1)))  # pyright: ignore[reportReturnType]

    objectives = Objectives(one, none, np.zeros(1), np.zeros(1, dtype=bool), np.array([0, 1]), False, exact)
    lo = np.array([[ANGLES[0], left] for left, _ in intervals])
    hi = np.array([[ANGLES[1], right] for _, right in intervals])
    found = BoxBounder(graph, objectives, FLOAT64, BounderOptions()).bound(
        lo, hi, np.ones((len(lo), 1), dtype=bool)
    )
    return [Part(a, b, float(v)) for (a, b), v in zip(intervals, found.lower[:, 0], strict=True)]


def _fractions(values: Any) -> Any:
    out = np.empty(values.shape, dtype=object)
    out.reshape(-1)[:] = [Fraction(float(v)) for v in values.reshape(-1)]
    return out


def rounds() -> list[list[Part]]:
    """Branch and bound, one round after another, until nothing is open."""
    graph = load(MODEL).graph
    parts = bounded(graph, [(LEFT, RIGHT)])
    every = [parts]
    while not all(p.closed for p in parts) and len(every) < 9:
        halves = [
            half
            for p in parts
            if not p.closed
            for half in ((p.lo, (p.lo + p.hi) / 2), ((p.lo + p.hi) / 2, p.hi))
        ]
        parts = sorted([p for p in parts if p.closed] + bounded(graph, halves), key=lambda p: p.lo)
        every.append(parts)
    return every


def curve() -> list[tuple[float, float]]:
    """What is to be bounded: the least torque of sampled angles."""
    graph = load(MODEL).graph
    velocities, angles = np.linspace(LEFT, RIGHT, 161), np.linspace(*ANGLES, 41)
    found = []
    for v in velocities:
        points = np.stack([angles, np.full_like(angles, v)], axis=1)
        found.append((float(v), float(np.asarray(evaluate(graph, points)).min())))
    return found


def _x(velocity: float) -> float:
    return X0 + (velocity - LEFT) / (RIGHT - LEFT) * PLOT_W


def _y(torque: float) -> float:
    return Y0 + (HIGH - min(max(torque, LOW), HIGH)) / (HIGH - LOW) * PLOT_H


def draw(parts: list[Part], title: str) -> str:
    """One round: the function, the limit, and a bar for each part's bound."""
    still = sum(not p.closed for p in parts)
    told = f"{len(parts)} parts, {still} of them open" if still else f"{len(parts)} parts, all of them closed"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title desc"><title id="title">{title}: {told}</title>',
        '<desc id="desc">The torque over the angular velocity, a dashed limit, and for each part a bar at '
        "its proved lower bound; a part whose bar is above the limit is closed.</desc>",
        f'<style>{STYLE}</style><rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
    ]
    for tick in (-2, -1, 0, 1):
        out.append(
            f'<line class="grid" x1="{X0}" x2="{X0 + PLOT_W}" y1="{_y(tick):.1f}" y2="{_y(tick):.1f}"/>'
        )
        out.append(f'<text x="{X0 - 8}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
        out.append(f'<text x="{_x(tick):.1f}" y="{Y0 + PLOT_H + 20}" text-anchor="middle">{tick}</text>')
    out += [
        f'<line class="edge" x1="{_x(p.lo):.1f}" x2="{_x(p.lo):.1f}" y1="{Y0}" y2="{Y0 + PLOT_H}"/>'
        for p in parts[1:]
    ]
    path = " ".join(f"{_x(v):.1f},{_y(t):.1f}" for v, t in curve())
    out.append(f'<polyline class="curve" points="{path}"/>')
    out.append(
        f'<line class="limit" x1="{X0}" x2="{X0 + PLOT_W}" y1="{_y(LIMIT):.1f}" y2="{_y(LIMIT):.1f}"/>'
    )
    for p in parts:
        kind, at = ("closed" if p.closed else "open"), f"{_y(p.lower):.1f}"
        ends = f'x1="{_x(p.lo) + 1:.1f}" x2="{_x(p.hi) - 1:.1f}"'
        out.append(f'<line class="{kind}" {ends} y1="{at}" y2="{at}"/>')
    axis = Y0 + PLOT_H + 42
    out.append(f'<text x="{X0}" y="{axis}">angular velocity in rad/s; torque in Nm; {told}</text></svg>')
    return "\n".join(out) + "\n"


def pictures() -> dict[str, str]:
    """File name -> picture."""
    every = rounds()
    chosen = {"start": 0, "middle": len(every) // 2, "end": len(every) - 1}
    return {
        f"branch-and-bound-{name}.svg": draw(every[k], f"Round {k} of branch and bound")
        for name, k in chosen.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
