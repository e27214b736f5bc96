"""Writes docs/reference/activations.md and its pictures; a test fails when they are behind.

Run it as ``python scripts/docs_catalogue.py`` from the repository root, with the package installed. The
output depends on nothing but the catalogue and the relaxations.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from bounds.evaluate_scalar import evaluate_expression
from bounds.relax.branch_points import branch_point
from bounds.relax.catalogue import CATALOGUE, LAYERS, Activation
from bounds.relax.scalar import scalar_function

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "activations.md"
PICTURES = PAGE.with_suffix("")

WIDTH, HEIGHT, MARGIN = 320, 200, 14
SAMPLES = 160

HEAD = """# Activation functions

*Made by `scripts/docs_catalogue.py` from `bounds/relax/catalogue.py`; edit that, then run it again.*

Every function below goes through one engine (`bounds/relax/scalar.py`), which knows only its formula. Being
in this table buys a function its tests, not its support: what is not listed is analysed and bounded in the
same way. [Add an activation](../dev/add-an-activation.md) says how to list one.

The pictures show the function, the lower and the upper line on the interval (they are the tightest in its
middle; slopes are parameters that the search improves), and the branching point: where a split leaves the
least area between lines. How these areas compare with those of other methods is measured in
[relaxation areas](../../benchmarks/results/relaxation_areas.md).
"""

LAYERS_HEAD = """## Layers of several inputs

They are made of primitives, most of them of the functions above:

| layer | formula | becomes | source |
|---|---|---|---|
"""

STYLE = (
    "svg{color:#1f2328;background:#fff}.f{stroke:currentColor;stroke-width:2;fill:none}"
    ".a{stroke:#8c959f;stroke-width:.7}.l{stroke:#0969da}.u{stroke:#bc4c00}.l,.u{stroke-width:1.6}"
    ".g{fill:#0969da;opacity:.1}.b{stroke:#8250df;stroke-width:1.2;stroke-dasharray:4 3}"
    "text{font:11px sans-serif;fill:currentColor}"
    "@media(prefers-color-scheme:dark){svg{color:#e6edf3;background:#0d1117}.a{stroke:#6e7681}.l{stroke:#4493f8}"
    ".u{stroke:#f0883e}.g{fill:#4493f8}.b{stroke:#ab7df8}}"
)


class Frame:
    """Maps the plane to the picture."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    def __call__(self, x: float, y: float) -> str:
        return f"{self.across(x)} {self.up(y)}"

    def across(self, x: float) -> str:
        """Horizontal position."""
        return _short(MARGIN + (WIDTH - 2 * MARGIN) * (x - self.x[0]) / (self.x[1] - self.x[0]))

    def up(self, y: float) -> str:
        """Vertical position; the lowest strip is for text."""
        return _short(HEIGHT - 2 * MARGIN - (HEIGHT - 3 * MARGIN) * (y - self.y[0]) / (self.y[1] - self.y[0]))


def _short(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def picture(row: Activation) -> str:
    """The SVG of one function."""
    f = scalar_function(row.expression)
    l, u = (np.array([v]) for v in row.interval)
    kl, ku = f.supporting(l, u, (l + u) / 2)
    bl, bu = f.intercepts(l, u, kl, ku)
    p = float(branch_point(f, l, u)[0])
    a, b = row.interval
    low_ends, high_ends = (
        [float(k[0] * end + c[0]) for end in row.interval] for k, c in ((kl, bl), (ku, bu))
    )
    curves = strokes(row)
    heights = [y for curve in curves for _, y in curve] + [*low_ends, *high_ends]
    frame = Frame((a, b), (min(heights), max(heights)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(row.name)}: {escape(row.formula)}</title><style>{STYLE}</style>",
        *_axes(frame),
        f'<path class="g" d="M{frame(a, low_ends[0])}L{frame(b, low_ends[1])}L{frame(b, high_ends[1])}'
        f'L{frame(a, high_ends[0])}Z"/>',
        f'<path class="b" d="M{frame.across(p)} {MARGIN}V{HEIGHT - 2 * MARGIN}"/>',
        f'<path class="l" d="M{frame(a, low_ends[0])}L{frame(b, low_ends[1])}"/>',
        f'<path class="u" d="M{frame(a, high_ends[0])}L{frame(b, high_ends[1])}"/>',
        *(f'<path class="f" d="M{"L".join(frame(x, y) for x, y in curve)}"/>' for curve in curves),
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">[{a:g}, {b:g}]</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}" text-anchor="end">split at {_place(p)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place(p: float) -> str:
    text = f"{p:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _axes(frame: Frame) -> list[str]:
    out = []
    if frame.x[0] < 0 < frame.x[1]:
        out.append(f'<path class="a" d="M{frame.across(0)} {MARGIN}V{HEIGHT - 2 * MARGIN}"/>')
    if frame.y[0] < 0 < frame.y[1]:
        out.append(f'<path class="a" d="M{MARGIN} {frame.up(0)}H{WIDTH - MARGIN}"/>')
    return out


def strokes(row: Activation) -> list[list[tuple[float, float]]]:
    """The graph as pieces without jumps; points on a straight line are left out."""
    x = np.linspace(*row.interval, SAMPLES * 8 + 1)
    y = evaluate_expression(row.expression, x)
    slope = abs(np.diff(y))
    # a jump is a step of one sample that is far larger than its neighbours'
    around = np.maximum(np.append(slope[1:], 0), np.append(0, slope[:-1]))
    jumps = np.flatnonzero((slope > 20 * around) & (slope > 0.02 * np.ptp(y))) + 1
    out = []
    for piece in np.split(np.arange(x.size), jumps):
        keep = piece[(piece % 8 == 0) | (piece == piece[0]) | (piece == piece[-1])]
        out.append(_without_straight(x[keep], y[keep], float(np.ptp(y))))
    return out


def _without_straight(x: Any, y: Any, height: float) -> list[tuple[float, float]]:
    kept = [0]
    for i in range(1, len(x) - 1):
        j = kept[-1]
        chord = y[j] + (y[i + 1] - y[j]) / (x[i + 1] - x[j]) * (x[j + 1 : i + 1] - x[j])
        if np.max(abs(chord - y[j + 1 : i + 1])) > height / 2000:
            kept.append(i)
    kept += [len(x) - 1] if len(x) > 1 else []
    return [(float(x[i]), float(y[i])) for i in kept]


def render() -> dict[Path, str]:
    """Every file of the page with its text."""
    files: dict[Path, str] = {}
    rows = ["## Functions of one variable", "", "| | function |", "|---|---|"]
    for row in CATALOGUE:
        path = PICTURES / f"{row.name}.svg"
        files[path] = picture(row)
        image = f'<img src="{PICTURES.name}/{path.name}" width="260" alt="{row.name} with its relaxation">'
        facts = (
            f"**{row.name}**<br>{_cell(row.formula)}<br>PyTorch: `{_code(row.pytorch)}`"
            f"<br>ONNX: {_cell(row.onnx)}<br>Source: {_source(row.source)}"
        )
        rows.append(f"| {image} | {facts} |")
    layers = [
        f"| {x.name} | {_cell(x.formula)} | {_cell(x.lowering)} | {_source(x.source)} |" for x in LAYERS
    ]
    files[PAGE] = "\n".join([HEAD, *rows, "", LAYERS_HEAD + "\n".join(layers), ""])
    return files


def _cell(text: str) -> str:
    return _code(text).replace("*", "\\*")


def _code(text: str) -> str:
    return text.replace("|", "\\|")


def _source(text: str) -> str:
    head, found, number = text.partition("arXiv:")
    return f"{head}[arXiv:{number}](https://arxiv.org/abs/{number})" if found else text


def main() -> int:
    """Writes the files; tables of branching points go to a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SUREBOUND_CACHE_DIR", folder)
        files = render()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for stale in set(PICTURES.glob("*.svg")) - set(files):
        stale.unlink()
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
