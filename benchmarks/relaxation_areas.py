"""Area between the two lines: surebound, composition of primitives, auto_LiRPA.

For every row of the catalogue: random sub-intervals of [-4, 4] (cut to the function's domain) of width 1 to
4, and on each the area between lower and upper line. ``ours`` fuses the formula into one function;
``composition`` is described in ``_composition.py``; ``auto_LiRPA`` is CROWN on a network that consists of
the function alone, in float64, with the library's own operator where it has one.

    ./scripts/bench relaxation_areas [--intervals 300] [--seed 0]

auto_LiRPA is a column only where the library is installed with PyTorch. The run fails (exit code 1) where
ours is not at least as tight as the better of the others, or where one of FACTORS is missed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import numpy as np
from _common import described, provenance, write
from _composition import Array, Composition

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr
from bounds.relax.catalogue import CATALOGUE, Activation
from bounds.relax.scalar import scalar_function

WINDOW, WIDTHS = (-4.0, 4.0), (1.0, 4.0)
# relative: our lines are rounded outwards, the others are not rounded at all
SLACK = 1e-6
ROUNDING = 2.0**-40
SLOPE_ROUNDING = 2.0**-24
# at least this much smaller than composition, in mean area
FACTORS = {"silu": 2.0, "mish": 2.0, "gelu-tanh": 2.0, "golu": 2.0, "pade": 2.0}


def intervals(row: Activation, count: int, seed: int) -> tuple[Array, Array]:
    """``count`` intervals inside the window and the domain (a margin of 0.05 at open ends)."""
    rng = np.random.default_rng([seed, *row.name.encode()])
    low = max(WINDOW[0], row.domain[0] + (0.05 if np.isfinite(row.domain[0]) else 0))
    high = min(WINDOW[1], row.domain[1] - (0.05 if np.isfinite(row.domain[1]) else 0))
    span = high - low
    widths = rng.uniform(min(WIDTHS[0], span / 4), min(WIDTHS[1], span), count)
    l = low + rng.uniform(0, 1, count) * (span - widths)
    return l, l + widths


def our_area(e: Expr, l: Array, u: Array) -> tuple[Array, Array]:
    """Area between the engine's lines that are best in the middle, ``n``, and what rounding slopes costs.

    A slope is a float32 number, off by at most 2^-24 of itself; over a width w that moves the line's other
    end by at most that times w, for each of the two lines.
    """
    f = scalar_function(e)
    kl, ku = f.supporting(l, u, (l + u) / 2)
    bl, bu = f.intercepts(l, u, kl, ku)
    area = (u - l) * ((ku - kl) * (l + u) / 2 + bu - bl)
    return area, (abs(kl) + abs(ku)) * SLOPE_ROUNDING * (u - l) ** 2


def measure(row: Activation, count: int, seed: int, lirpa: Any) -> dict[str, Any]:
    """Areas of one row as means, where ours is looser, and why a column is empty."""
    l, u = intervals(row, count, seed)
    ours, rounding = our_area(row.expression, l, u)
    columns = {"composition": Composition(l, u).area(row.expression)}
    out: dict[str, Any] = {"name": row.name, "ours": float(ours.mean())}
    if lirpa is not None:
        spellings, out["auto_lirpa_says"] = lirpa.lines(row, l, u)
        if spellings:
            # lines that do not hold are no bounds: such an interval has none
            held = [np.where(_holds(row, l, u, s), s.area(l, u), np.inf) for s in spellings]
            columns["auto_lirpa"] = np.min(held, axis=0)
    for name, areas in columns.items():
        finite = np.isfinite(areas)
        if finite.any():
            theirs, same = float(areas[finite].mean()), float(ours[finite].mean())
            # no ratio where only intervals are left on which the function is affine
            ratio = theirs / same if same > SLACK else None
            out[name] = {"share": float(finite.mean()), "mean": theirs, "ratio": ratio}
    best = np.min(list(columns.values()), axis=0)
    # where the function is affine the area is rounding only: compare with the values' size
    size = abs(evaluate_expression(row.expression, l)) + abs(evaluate_expression(row.expression, u)) + 1
    loose = ~(ours <= best * (1 + SLACK) + rounding + ROUNDING * size * (u - l))
    out["loose_count"] = int(loose.sum())
    out["loose"] = [
        {"l": float(l[i]), "u": float(u[i]), "ours": float(ours[i]), "best": float(best[i])}
        for i in np.flatnonzero(loose)[:5]
    ]
    return out


def _holds(row: Activation, l: Array, u: Array, theirs: Any) -> Array:
    """Intervals on which the other's lines hold at 201 points (up to rounding), ``n``."""
    t = np.linspace(0, 1, 201)[:, None]
    z = l + t * (u - l)
    y = evaluate_expression(row.expression, z)
    margin = 1e-6 * (1 + abs(y))
    return np.all(
        (theirs.kl * z + theirs.bl <= y + margin) & (y <= theirs.ku * z + theirs.bu + margin), axis=0
    )


def table(rows: list[dict[str, Any]], record: dict[str, Any]) -> str:
    """The Markdown page."""
    out = [
        "# Area between lower and upper line",
        "",
        "Mean area over random sub-intervals of [-4, 4] (cut to the domain) of width 1 to 4; smaller is",
        "tighter. A ratio is the other's mean area divided by ours, both over the intervals on which the",
        "other has a finite bound that holds at 201 points; the share of these is given where it is not all.",
        "`-`: no bound at all.",
        "auto_LiRPA is CROWN (no optimised parameters), the tighter of up to two spellings of each function.",
        "What exactly is compared: `benchmarks/relaxation_areas.py`.",
        "",
        "| function | ours | composition | ratio | auto_LiRPA | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = [r["name"], format(r["ours"], ".4g"), *_cells(r, "composition"), *_cells(r, "auto_lirpa")]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join([*out, "", described(record), f"auto_LiRPA {record['auto_lirpa']}", ""])


def _cells(row: dict[str, Any], column: str) -> tuple[str, str]:
    found = row.get(column)
    if found is None:
        return "-", "-"
    share = "" if found["share"] == 1 else f" ({100 * found['share']:.0f} %)"
    return f"{found['mean']:.4g}{share}", "-" if found["ratio"] is None else f"{found['ratio']:.2f}"


def failures(rows: list[dict[str, Any]]) -> list[str]:
    """What the run must not show."""
    out = [
        f"{r['name']}: looser on {r['loose_count']} intervals, e.g. {r['loose'][0]}"
        for r in rows
        if r["loose"]
    ]
    for r in rows:
        factor, found = FACTORS.get(r["name"]), r.get("composition")
        if factor is not None and found is not None and not found["ratio"] >= factor:
            out.append(f"{r['name']}: composition is only {found['ratio']:.3f} times as large")
    return out


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--intervals", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of rows")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import _lirpa_areas as lirpa
    except ModuleNotFoundError as missing:
        print(f"without auto_LiRPA: {missing}", file=sys.stderr)
        lirpa = None
    rows: list[dict[str, Any]] = []
    for row in CATALOGUE:
        if not options.only or row.name in options.only:
            rows.append(measure(row, options.intervals, options.seed, lirpa))
            print({k: v for k, v in rows[-1].items() if k != "loose"}, file=sys.stderr, flush=True)
    record = provenance(intervals=options.intervals, seed=options.seed)
    record["auto_lirpa"] = lirpa.VERSION if lirpa is not None else None
    record["rows"] = rows
    text = table(rows, record)
    if options.dry_run or options.only:
        print(text)
    else:
        write("relaxation_areas", record, text)
    bad = failures(rows)
    print("\n".join(bad), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
