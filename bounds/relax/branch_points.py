"""Where to split an interval, for every scalar function: the point with the least relaxation area afterwards.

Shi et al. 2024 (GenBaB, arXiv:2405.21063): for a function f and ``[l, u]`` take the p for which the areas
between lower and upper line on ``[l, p]`` and ``[p, u]`` add up to the least. Here

* a few functions have a closed form;
* otherwise a table over (l, u) on a grid is made once per function, from the areas of all grid intervals, and
  looked up by bilinear interpolation; outside the grid the midpoint is taken;
* kinks and jumps inside the interval compete with the table's point, by the area that really results.

A branching point is a guess about effort: every point between l and u is sound. Tables are kept on disk, in
the folder named by ``SUREBOUND_CACHE_DIR`` or the platform's cache folder; a file that cannot be read, or
is not what was written, is made again, and without a folder to write to everything works, only slower.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bounds.expression import Expr, Fn, X, call, nodes
from bounds.graph import Array
from bounds.relax.scalar import ScalarFunction, scalar_function

VERSION = 1  # of the tables' contents: raise it when the algorithm or the area of a relaxation changes
WINDOW = 8.0  # the grid covers [-WINDOW, WINDOW]
CELLS = 128
STEP = 2 * WINDOW / CELLS
EDGE = 2.0**-6  # points stay this share of the width away from the ends
FAR = 1024.0  # kinks beyond are not looked for
NEAR_KINKS = 3  # on either side of the table's point

_MAGIC = b"surebound-branch-points\n"
_TIE = 2.0**-16  # a better point must be better by about this share of the area
_JUMPY = 0.25  # neighbouring entries further apart (in widths) are not averaged

# a parabola's areas are cubes of the widths; flat pieces have a kink and no other point
MIDPOINT = frozenset({X**2, X * X})
AT_ZERO = frozenset(
    {call(Fn.ABS, X), call(Fn.RELU, X), call(Fn.STEP, X), call(Fn.STRICT, X), call(Fn.SIGN, X)}
)


def branch_point(function: ScalarFunction, lo: Any, hi: Any) -> Array:
    """Points to split at.

    Args:
        function: f.
        lo, hi: ends of intervals, any broadcastable shapes, may be infinite.

    Returns:
        Float64 points of the common shape, strictly between ``lo`` and ``hi`` wherever a float is.
    """
    lo, hi = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(lo, hi))
    shape = lo.shape
    lo, hi = lo.ravel(), hi.ravel()
    middle = _middle(lo, hi)
    point = middle.copy()
    e = function.expression
    if e in AT_ZERO:
        point = np.zeros_like(middle)
    elif e not in MIDPOINT:
        usable = np.isfinite(lo) & np.isfinite(hi) & (lo < hi)
        if usable.any():
            l, u, m = lo[usable], hi[usable], middle[usable]
            inside = (l >= -WINDOW) & (u <= WINDOW) & (u - l >= 2 * STEP)
            found = m.copy()
            if inside.any():
                found[inside] = _interpolate(_table(e), l[inside], u[inside])
            found = np.where(np.isfinite(found), found, m)
            point[usable] = _with_kinks(function, l, u, found)
    good = (point > lo) & (point < hi)
    return np.where(good, point, middle).reshape(shape)


def split_area(function: ScalarFunction, lo: Array, point: Array, hi: Array) -> Array:
    """Total area of the two children's relaxations, ``n``; infinite where one has no bound."""
    return _area(function, lo, point) + _area(function, point, hi)


def _area(function: ScalarFunction, lo: Array, hi: Array) -> Array:
    """Area between the lines that are best in the middle; the integral of a line is its value there."""
    middle = lo / 2 + hi / 2
    kl, ku = function.supporting(lo, hi, middle)
    bl, bu = function.intercepts(lo, hi, kl, ku)
    with np.errstate(all="ignore"):
        area = (hi - lo) * ((ku - kl) * middle + (bu - bl))
    return np.where(np.isnan(area), np.inf, np.maximum(area, 0.0))


def _middle(lo: Array, hi: Array) -> Array:
    """Midpoints; of unbounded intervals 0 or a point well inside."""
    with np.errstate(all="ignore"):
        middle = lo / 2 + hi / 2
        middle = np.where(np.isneginf(lo), np.minimum(2 * hi, hi / 2) - 1, middle)
        middle = np.where(np.isposinf(hi), np.maximum(2 * lo, lo / 2) + 1, middle)
        return np.where((lo < 0) & (hi > 0) & np.isinf(lo - hi), 0.0, middle)


def _with_kinks(function: ScalarFunction, lo: Array, hi: Array, point: Array) -> Array:
    """``point`` or a kink between the ends, whichever leaves the least area."""
    reach = float(max(abs(lo).max(), abs(hi).max(), WINDOW))
    kinks = _kinks(function.expression, min(2.0 ** math.ceil(math.log2(reach)), FAR))
    if not kinks.size:
        return point
    rank = np.searchsorted(kinks, point)
    best, least = point, None
    for offset in range(-NEAR_KINKS, NEAR_KINKS):
        candidate = kinks[np.clip(rank + offset, 0, kinks.size - 1)]
        rows = np.flatnonzero((candidate > lo) & (candidate < hi))
        if not rows.size:
            continue
        if least is None:
            least, best = np.full(lo.shape, np.nan), point.copy()
        new = rows[np.isnan(least[rows])]
        least[new] = split_area(function, lo[new], point[new], hi[new])
        area = split_area(function, lo[rows], candidate[rows], hi[rows])
        better = area < least[rows] * (1 - _TIE)
        best[rows[better]], least[rows[better]] = candidate[rows[better]], area[better]
    return best


@lru_cache(maxsize=1024)
def _kinks(e: Expr, reach: float) -> Array:
    """Where one smooth piece meets another, ascending, at least on ``[-reach, reach]``.

    At a jump the child that holds the value and not its side's limit pays for the jump; the floats on
    either side are listed too, so that it can be the smaller child.
    """
    partition = scalar_function(e).segments(-reach, reach)
    places: list[float] = []
    for left, right, box in zip(partition.segments, partition.segments[1:], partition.boxes, strict=False):
        if left.expr is not right.expr:
            at = box.lo / 2 + box.hi / 2
            places.append(at)
            if box.before[1] < box.after[0] or box.after[1] < box.before[0]:
                places += [float(np.nextafter(at, -np.inf)), float(np.nextafter(at, np.inf))]
    return np.unique(places)


# --- the table ---


def _interpolate(table: Array, lo: Array, hi: Array) -> Array:
    """Points from those of the four nearest entries that exist; NaN where none does."""
    x, y = (np.clip((v + WINDOW) / STEP, 0, CELLS) for v in (lo, hi))
    i, j = (np.minimum(v.astype(np.intp), CELLS - 1) for v in (x, y))
    s, t = x - i, y - j
    corners = np.stack([table[i, j], table[i + 1, j], table[i, j + 1], table[i + 1, j + 1]])
    weights = np.stack([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t])
    missing = np.isnan(corners)
    weights, corners = np.where(missing, 0.0, weights), np.where(missing, 0.0, corners)
    nearest = np.take_along_axis(corners, weights.argmax(0)[None], 0)[0]
    corners = np.where(missing, nearest, corners)
    width = hi - lo
    with np.errstate(all="ignore"):
        point = (weights * corners).sum(0) / weights.sum(0)  # NaN where all are missing
    # where the best point leaps from one place to another, their mean would be neither
    point = np.where(np.ptp(corners, axis=0) > _JUMPY * width, nearest, point)
    point = np.where(weights.sum(0) > 0, point, np.nan)
    return np.clip(point, lo + EDGE * width, hi - EDGE * width)


def build_table(function: ScalarFunction) -> Array:
    """Best points of all grid intervals.

    Returns:
        ``(CELLS + 1, CELLS + 1)``: entry (i, j) is the point for the interval from grid point i to grid
        point j; NaN for ``j <= i + 1`` (nothing between) and where the function has no bound.
    """
    grid = np.linspace(-WINDOW, WINDOW, CELLS + 1)
    first, last = np.triu_indices(CELLS + 1, 1)
    area = np.full((CELLS + 1, CELLS + 1), np.inf)
    area[first, last] = _area(function, grid[first], grid[last])
    table = np.full(area.shape, np.nan)
    for i in range(CELLS - 1):
        for j in range(i + 2, CELLS + 1):
            inner = np.arange(i + 1, j)
            total = area[i, inner] + area[inner, j]
            if not np.isfinite(area[i, j]) or not np.isfinite(total).all():
                continue
            # among equals the one nearest the middle, of two such the left one: the same on every machine
            total = total + _TIE * area[i, j] * (abs(2 * inner - i - j) + (inner - i) / 8) / (j - i)
            k = int(total.argmin())
            shift = _vertex(total[k - 1], total[k], total[k + 1]) if 0 < k < inner.size - 1 else 0.0
            middle_is_as_good = total[k] >= total[inner.size // 2]
            table[i, j] = (grid[i] + grid[j]) / 2 if middle_is_as_good else grid[inner[k]] + shift * STEP
    return table


def _vertex(before: float, here: float, after: float) -> float:
    """Minimum of the parabola through three values, in steps from the middle one."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0


@lru_cache(maxsize=256)
def _table(e: Expr) -> Array:
    path = cache_folder() / "branch-points" / f"{key(e)}.bin"
    table = read_table(path)
    if table is None:
        table = build_table(scalar_function(e)).astype(np.float32)
        write_table(path, table)
    return table.astype(np.float64)


# --- the cache ---


def key(e: Expr) -> str:
    """A name for the table of ``e``: equal expressions and only they have equal names, on every machine."""
    index: dict[Expr, int] = {}
    lines = [f"{VERSION} {WINDOW} {CELLS}"]
    for part in nodes(e):
        index[part] = len(index)
        lines.append(f"{part.fn.name} {' '.join(str(index[a]) for a in part.args)} {float(part.value).hex()}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """``SUREBOUND_CACHE_DIR``, or ``surebound`` in the platform's cache folder; it need not exist."""
    chosen = os.environ.get("SUREBOUND_CACHE_DIR", "")
    if chosen:
        return Path(chosen)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (never raises, unlike Path.home)
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "surebound"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "") or home / "AppData" / "Local") / "surebound" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME", "") or home / ".cache") / "surebound"


def read_table(path: Path) -> Array | None:
    """A table from disk; None if there is none or it is not exactly what :func:`write_table` wrote."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    size = 4 * (CELLS + 1) ** 2
    if len(data) != head + size or not data.startswith(_MAGIC):
        return None
    if hashlib.sha256(data[head:]).digest() != data[len(_MAGIC) : head]:
        return None
    return np.frombuffer(data, dtype="<f4", offset=head).reshape(CELLS + 1, CELLS + 1)


def write_table(path: Path, table: Array) -> None:
    """Writes it so that readers see all of it or nothing; where that is impossible, nothing happens."""
    body = np.ascontiguousarray(table, dtype="<f4").tobytes()
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(temporary, path)  # noqa: PTH105
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
