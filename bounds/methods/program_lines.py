"""What a nonlinear step contributes to a linear program: its lines, and what their prices say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.relax.base import Relaxation
from bounds.relax.elementwise import ScalarRelaxation
from bounds.relax.product import ProductRelaxation
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation

# lines of a curved step on either side
CURVED_LINES = 5


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of one step on one side: ``C`` elements, per operand slopes ``C``, intercepts ``C``."""

    element: Array
    slopes: tuple[Array, ...]
    shift: Array


def lines_of_step(relaxation: Relaxation, box: int) -> tuple[list[Lines], list[Lines]]:
    """Lines below and above a step on one box; elements without a finite line are left free."""
    if isinstance(relaxation, ReluRelaxation):
        return _relu_lines(relaxation, box)
    if isinstance(relaxation, ScalarRelaxation):
        return _scalar_lines(relaxation, box)
    assert isinstance(relaxation, ProductRelaxation)
    return _product_lines(relaxation, box)


def values_of(relaxation: Any, name: str, box: int) -> Array:
    return np.asarray(relaxation.kernels.numpy(getattr(relaxation, name)))[box]


def _lines(slopes: tuple[Array, ...], shift: Array, where: Array) -> Lines:
    finite = where & np.isfinite(shift)
    for s in slopes:
        finite = finite & np.isfinite(s)
    at = np.flatnonzero(finite)
    return Lines(at, tuple(s[at] for s in slopes), shift[at])


def without(lines: Lines, element: Array) -> Lines:
    """The lines of all other elements."""
    keep = ~np.isin(lines.element, element)
    return Lines(lines.element[keep], tuple(s[keep] for s in lines.slopes), lines.shift[keep])


def _relu_lines(relaxation: ReluRelaxation, box: int) -> tuple[list[Lines], list[Lines]]:
    lower, upper, offset, ambiguous = (
        values_of(relaxation, f, box) for f in ("lower", "upper", "offset", "ambiguous")
    )
    zero, one, ambiguous = np.zeros(len(lower)), np.ones(len(lower)), ambiguous.astype(bool)
    idle, active = ambiguous | (lower == 0), ambiguous | (lower > 0)
    return [_lines((zero,), zero, idle), _lines((one,), zero, active)], [
        _lines((upper,), offset, one.astype(bool))
    ]


def _scalar_lines(relaxation: ScalarRelaxation, box: int) -> tuple[list[Lines], list[Lines]]:
    whole = np.ones(len(values_of(relaxation, "lo", box)), dtype=bool)
    if not relaxation.sides:
        kl, ku, bl, bu = (np.asarray(relaxation.kernels.numpy(v))[box] for v in relaxation.lines)
        return [_lines((kl,), bl, whole)], [_lines((ku,), bu, whole)]
    found: list[list[Lines]] = []
    steps = relaxation.steps
    for side in relaxation.sides:
        first, rise, shift, lift = (
            np.asarray(relaxation.kernels.numpy(getattr(side, f)))[box]
            for f in ("first", "rise", "shift", "lift")
        )
        last = shift[:, -1:] + lift[:, -1:]
        shifts = np.concatenate([shift, last], axis=1)
        places = np.unique(np.rint(np.linspace(0, steps, CURVED_LINES)).astype(int))
        found.append([_lines((first + i * rise,), shifts[:, i], whole) for i in places])
    return found[0], found[1]


def _product_lines(relaxation: ProductRelaxation, box: int) -> tuple[list[Lines], list[Lines]]:
    xl, xu, yl, yu = (values_of(relaxation, f, box) for f in ("xl", "xu", "yl", "yu"))
    whole = np.ones(len(xl), dtype=bool)
    with np.errstate(invalid="ignore"):
        low = [_lines((yl, xl), -xl * yl, whole), _lines((yu, xu), -xu * yu, whole)]
        high = [_lines((yu, xl), -xl * yu, whole), _lines((yl, xu), -xu * yl, whole)]
    return low, high


def _ratio(part: Array, whole: Array, otherwise: Array) -> Array:
    used = np.abs(whole) > 0
    return np.clip(np.where(used, part / np.where(used, whole, 1), otherwise), 0, 1)


def parameters_of(
    relaxation: Relaxation, box: int, above: Array, handed: list[Array], weights: list[list[Array]]
) -> tuple[Array, ...]:
    """Parameters under which a row that arrives with ``above`` hands on what the program does."""
    if isinstance(relaxation, ReluRelaxation):
        return (_ratio(handed[0], np.maximum(above, 0), values_of(relaxation, "lower", box)),)
    half = np.full(len(above), 0.5)
    if isinstance(relaxation, ProductRelaxation):
        return tuple(_ratio(w[0], w[0] + w[1], half) for w in weights)
    assert isinstance(relaxation, ScalarRelaxation)
    out: list[Array] = []
    for i, side in enumerate(relaxation.sides):
        first, rise, start = (
            np.asarray(relaxation.kernels.numpy(getattr(side, f)))[box] for f in ("first", "rise", "start")
        )
        used = above > 0 if i == 0 else above < 0
        slope = np.where(used, handed[0] / np.where(used, above, 1), first)
        width = rise * relaxation.steps
        place = (slope - first) / np.where(width != 0, width, 1)
        out.append(np.clip(np.where(used & (width != 0), place, start), 0, 1))
    return tuple(out) or (half, half)


def _explicit(relaxation: Relaxation, box: int, parameters: tuple[Array, ...]) -> list[Array]:
    """The explicit choice of one box that has these parameters, rounded as the bounder rounds them."""
    k: Any = relaxation.kernels  # type: ignore[attr-defined]
    dom = k.array(np.array([box]))
    choice = relaxation.choose(dom, tuple(k.array(on_grid(p)[None]) for p in parameters))
    return [
        np.broadcast_to(np.asarray(k.numpy(v)), (1, len(parameters[0])))[0]
        for v in relaxation.explicit(dom, choice)
    ]


def on_grid(values: Array) -> Array:
    """Parameters as multiples of 1/128."""
    return np.rint(values * SLOPE_STEPS) / SLOPE_STEPS


def slopes_of(
    relaxation: Relaxation, box: int, parameters: tuple[Array, ...], above: Array
) -> tuple[Array, ...]:
    """Per operand the slope that a row which arrives with ``above`` uses under (rounded) parameters."""
    choice = tuple(_explicit(relaxation, box, parameters))
    operands = 2 if isinstance(relaxation, ProductRelaxation) else 1
    pairs = [relaxation.slopes(choice, i) for i in range(operands)]
    return tuple(np.where(above < 0, high, low) for low, high in pairs)


def chosen_lines(
    relaxation: Relaxation, box: int, parameters: tuple[Array, ...]
) -> tuple[list[Lines], list[Lines]]:
    """The two lines of every element under given parameters."""
    choice = _explicit(relaxation, box, parameters)
    whole = np.ones(len(parameters[0]), dtype=bool)
    if isinstance(relaxation, ReluRelaxation):
        slope, upper, offset = choice
        return [_lines((slope,), np.zeros(len(slope)), whole)], [_lines((upper,), offset, whole)]
    if isinstance(relaxation, ProductRelaxation):
        px, py, pc, qx, qy, qc = choice[2:]
        return [_lines((px, py), pc, whole)], [_lines((qx, qy), qc, whole)]
    kl, ku, bl, bu = choice[2:]
    return [_lines((kl,), bl, whole)], [_lines((ku,), bu, whole)]
