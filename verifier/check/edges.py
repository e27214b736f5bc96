"""Upper lines of rectifiers with a slope for every edge.

A rectifier ``h = relu(z)`` of which z is an affine function of one node x, its *base* (the input or a
nonlinear node), may be bounded from above by ``h <= a . x + c`` with any a, provided that c is at least ``-a
. x`` and at least ``z - a . x`` everywhere on the box of x. The certificate states ``a_i = t_i w_i`` by the
numbers t; w and c are found here. Shapes: ``P`` lines, ``n`` elements of the base, ``R`` rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from verifier.check.arithmetic import Arithmetic
from verifier.check.network import Array, Kind, Network
from verifier.check.nonlinear import SLOPE_UNIT
from verifier.check.reader import reject
from verifier.check.state import Layout, Rows, State, dot, unbounded


@dataclass(frozen=True, slots=True)
class Stated:
    """What a certificate says: of which evidence and rectified element (P,), and the slopes t by line.

    Attributes:
        row, neuron: (P,) row and number of the rectified element.
        start, slopes: line p has the slopes ``slopes[start[p]:start[p + 1]]``, in 128ths.
    """

    row: Array
    neuron: Array
    start: Array
    slopes: Array


@dataclass(frozen=True, slots=True)
class Lines:
    """``h[element] <= a . x + c`` of one rectifier node in rows ``row`` (P,), x being node ``base``.

    Attributes:
        a: (P, n) exactly these numbers; c: (P,) rounded upwards; size: (P,) at least ``|a| . |x|``.
    """

    base: int
    row: Array
    element: Array
    a: Array
    c: Array
    size: Array


def base_of(network: Network, i: int) -> int | None:
    """The only node that the operand of rectifier i is made of by affine nodes; None if there are several."""
    todo, found = set(network.nodes[i].operands), set[int]()
    while todo:
        k = todo.pop()
        if network.nodes[k].kind is Kind.AFFINE:
            todo |= {source for source, _ in network.nodes[k].terms}
        else:
            found.add(k)
    return found.pop() if len(found) == 1 else None


def read_stated(layout: Layout, arrays: Mapping[str, Array]) -> Stated:
    """The arrays, checked; raises CertificateRejected."""
    row, neuron = (arrays[name].astype(np.int64) for name in ("edge_ev", "edge_neuron"))
    slopes, total = arrays["edge_slopes"], layout.total[Kind.RELU]
    if np.any(row[1:] < row[:-1]) or np.any(row < 0) or np.any(row >= len(arrays["ev_node"])):
        reject("edges", "edge_ev is not ascending, or names no evidence")
    if np.any(neuron < 0) or np.any(neuron >= total):
        reject("edges", "edge_neuron names no rectified element")
    if len(np.unique(row * total + neuron)) != len(row):
        reject("edges", "a rectified element has two lines in one row")
    if np.any(slopes > SLOPE_UNIT):
        reject("edges", "edge_slopes is out of range")
    length = np.zeros(total, np.int64)
    for i in layout.network.of(Kind.RELU):
        base = base_of(layout.network, i)
        part = slice(layout.start[i], layout.start[i] + layout.network.nodes[i].size)
        length[part] = -1 if base is None else layout.network.nodes[base].size
    if np.any(length[neuron] < 0):
        reject("edges", "the operand of a rectified element with a line is made of several nodes")
    start = np.cumsum([0, *length[neuron].tolist()])
    if start[-1] != len(slopes):
        reject("edges", f"{len(slopes)} slopes where {start[-1]} are expected")
    return Stated(row, neuron, start, slopes)


def among(stated: Stated, evidence: Array) -> Stated | None:
    """Those of some evidence, whose rows are positions in it then; None if there are none."""
    first, last = (np.searchsorted(stated.row, evidence, side=side) for side in ("left", "right"))
    count = last - first
    if not count.any():
        return None
    row = np.repeat(np.arange(len(evidence)), count)
    mine = np.arange(len(row)) + np.repeat(first - (np.cumsum(count) - count), count)
    parts = [stated.slopes[stated.start[p] : stated.start[p + 1]] for p in mine.tolist()]
    start = np.cumsum([0, *(len(p) for p in parts)])
    return Stated(row, stated.neuron[mine], start, np.concatenate(parts))


def line(to: Arithmetic, state: State, base: int, z: Rows, t: Array) -> tuple[Array, Array, Array]:
    """Coefficients, constants and sizes of lines with slopes ``t`` (P, n).

    Args:
        to, state: arithmetic, and the block of boxes.
        base: the node x.
        z: rows (P) that bound ``-z`` from below: ``-z >= A . x + k - e`` on the boxes.
        t: in the arithmetic's numbers.

    Soundness: a is whatever ``t w`` is computed to be, with w = -A. Then ``-a . x`` is at most the sum of the
    larger of its terms at both ends, and so is ``z - a . x <= (w - a) . x - k + e``. Sums of n products of
    differences are off by less than ``gamma(n + 2)`` times the sum of magnitudes. A base without bounds has c
    infinite or NaN.
    """
    low, high, mag = (v[base][z.box] for v in (state.low, state.high, state.mag))
    weight = -z.parts[base]
    a = t * weight
    rest, n = weight - a, a.shape[1]
    idle = -(dot(np.minimum(a, 0), high) + dot(np.maximum(a, 0), low))
    active = dot(np.maximum(rest, 0), high) + dot(np.minimum(rest, 0), low) - z.constant
    size = dot(np.abs(a), mag)
    if to.exact:
        return a, np.maximum(idle, active + z.error), size
    sums = size + dot(np.abs(weight), mag) + np.abs(z.constant)
    floor = 4 * state.floor[base] + to.tiny
    idle = idle + (to.gamma(n + 2) * size + floor) * to.slack
    active = active + (z.error + to.gamma(n + 2) * sums + floor) * to.slack
    c = np.maximum(idle, active)
    c = c + 8 * to.u * (np.abs(c) + z.error)
    lost = (unbounded(low) | unbounded(high)).any(axis=1)
    return a, np.where(lost, np.inf, c), size


def take_over(to: Arithmetic, state: State, rows: Rows, lines: Lines, a: Array) -> tuple[Array, Array]:
    """Moves the negative coefficients (R, n) of elements with lines to these: ``g h >= g (a . x + c)``.

    Returns:
        The other coefficients, and those of the base (R, n); constant and error of the rows are updated.
    """
    at = lines.row, lines.element
    g = np.minimum(a[at], 0)
    a = a.copy()
    a[at] = np.maximum(a[at], 0)
    part = np.zeros((len(rows.box), state.low[lines.base].shape[1]), to.dtype)
    np.add.at(part, lines.row, g[:, None] * lines.a)
    # an unused line may have no constant
    terms = np.where(np.asarray(g != 0, bool), g, 0) * np.where(np.asarray(g != 0, bool), lines.c, 0)
    total, size = rows.constant * 0, rows.constant * 0
    np.add.at(total, lines.row, terms)
    rows.constant = rows.constant + total
    if not to.exact:
        np.add.at(size, lines.row, np.abs(terms) - g * lines.size)
        most = int(np.bincount(lines.row, minlength=1).max())
        spent = to.gamma(most) * size * to.slack + (most + 1) * (to.tiny + state.floor[lines.base])
        rows.error = rows.error + spent + 2 * to.u * np.abs(rows.constant)
    return a, part
