"""Facets of rectifiers' hulls as cuts of a linear program, found where its optimum violates them.

A cut says ``h <= a . x + c`` of one rectified element (:mod:`bounds.methods.edge_slopes`). It depends on the
anchor's box only, so every subproblem of the anchor may use it. What the program pays for an element's cuts
(and for its chord) becomes one line: a mixture of lines is a line, and its constant is computed anew,
rigorously, by whoever uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.graph import Array
from bounds.methods.edge_slopes import EdgeStep, box_of, edge_steps
from bounds.methods.tape import Tape
from bounds.plan import InputStep
from bounds.relax.relu import SLOPE_STEPS

# a facet is added where the optimum lies above it by more than this (relative to the operand's width)
_VIOLATED = 2.0**-13
# a cut that no program paid for in so many programs in a row is forgotten
_IDLE = 40
# prices below this share of what arrives are noise of the solver
_NOISE = 2.0**-20


@dataclass(slots=True)
class _Layer:
    """One step's neurons in float64, and its cuts: ``C`` elements, slopes and coefficients ``C n``, constants
    ``C``, and when they were last paid for."""

    step: EdgeStep
    weights: Array
    lo: Array
    hi: Array
    top: Array
    bias: Array
    element: Array
    t: Array
    a: Array
    c: Array
    last: Array

    def line(self, element: Array, t: Array) -> tuple[Array, Array]:
        """Coefficients and constants of the lines with slopes t."""
        w = self.weights[element]
        a = t * w
        rest = w - a
        idle = -(np.minimum(a, 0) @ self.hi + np.maximum(a, 0) @ self.lo)
        active = np.maximum(rest, 0) @ self.hi + np.minimum(rest, 0) @ self.lo + self.bias[element]
        return a, np.maximum(idle, active)

    def keep(self, mask: Array) -> None:
        for name in ("element", "t", "a", "c", "last"):
            setattr(self, name, getattr(self, name)[mask])


@dataclass(frozen=True, slots=True)
class Cuts:
    """Lines of single elements in one program: ``index`` of the nonlinear step, ``element``, slopes t."""

    index: int
    element: Array
    t: Array
    a: Array
    c: Array


class HullCuts:
    """The cuts of all subproblems of an anchor.

    Args:
        anchor: a tape of one box.
    """

    def __init__(self, anchor: Tape) -> None:
        self.plan, self.programs = anchor.plan, 0
        self.layers: dict[int, _Layer] = {}
        k = anchor.kernels
        for index, step in edge_steps(anchor.plan).items():
            lo, hi = (np.asarray(k.numpy(v))[0].astype(np.float64) for v in box_of(anchor, step.slot))
            weights = np.asarray(k.numpy(step.dense.weight)).astype(np.float64)
            bias = np.zeros(len(weights))
            if step.dense.bias is not None:
                bias = np.asarray(k.numpy(step.dense.bias)).astype(np.float64)
            if not (np.all(np.isfinite(lo)) and np.all(np.isfinite(hi))):
                continue
            top = np.maximum(weights, 0) @ hi + np.minimum(weights, 0) @ lo + bias
            none, empty = np.zeros(0), np.zeros((0, weights.shape[1]))
            self.layers[index] = _Layer(
                step, weights, lo, hi, top, bias, none.astype(np.int64), empty, empty, none, none
            )

    def current(self, open_: dict[int, Array]) -> list[Cuts]:
        """Cuts of the elements that are open (``n`` bool by index of the step)."""
        self.programs += 1
        out: list[Cuts] = []
        for index, layer in self.layers.items():
            layer.keep(layer.last > self.programs - _IDLE)
            use = np.flatnonzero(open_[index][layer.element])
            if len(use):
                parts = (layer.element, layer.t, layer.a, layer.c)
                out.append(Cuts(index, *(v[use] for v in parts)))
        return out

    def fixed(self, lines: list[tuple[int, Array]]) -> list[Cuts]:
        """The lines with given slopes (neuron, t in 1/128) as cuts."""
        out: list[Cuts] = []
        for index, layer in self.layers.items():
            first, size = layer.step.relu.offset, layer.step.relu.size
            mine = [(n - first, t) for n, t in lines if first <= n < first + size]
            if mine:
                element = np.array([n for n, _ in mine], dtype=np.int64)
                t = np.stack([t for _, t in mine]).astype(np.float64) / SLOPE_STEPS
                out.append(Cuts(index, element, t, *layer.line(element, t)))
        return out

    def separate(self, open_: dict[int, Array], at: dict[int, Array]) -> int:
        """Adds the facets that a program's optimum violates; how many.

        Args:
            open_: as for :meth:`current`.
            at: values of the slots of steps and of what they are made of.
        """
        found = 0
        for index, layer in self.layers.items():
            element = np.flatnonzero(open_[index])
            if not len(element):
                continue
            x, h = np.clip(at[layer.step.slot], layer.lo, layer.hi), at[layer.step.relu.slot][element]
            t, value = facets(layer.weights[element], layer.lo, layer.hi, layer.top[element], x)
            far = h - value > _VIOLATED * np.abs(layer.top[element])
            if not far.any():
                continue
            element, t = element[far], t[far]
            new = (element, t, *layer.line(element, t), np.full(len(element), self.programs))
            for name, part in zip(("element", "t", "a", "c", "last"), new, strict=True):
                setattr(layer, name, np.concatenate([getattr(layer, name), part]))
            found += len(element)
        return found

    def paid(self, cuts: Cuts, price: Array) -> None:
        """Notes which cuts of a program were worth something."""
        layer = self.layers[cuts.index]
        for e, t in zip(cuts.element[price > 0].tolist(), cuts.t[price > 0], strict=True):
            mine = (layer.element == e) & (layer.t == t).all(axis=1)
            layer.last[mine] = self.programs

    def mixed(
        self, cuts: Cuts, price: Array, above: Array, chord: Array, slope: Array
    ) -> list[tuple[int, Array]]:
        """One line for each element whose upper line the program pays for mostly by cuts.

        Args:
            cuts, price: of one step.
            above: ``n`` what arrives at the step's value.
            chord, slope: ``n`` what is paid for the ordinary upper line, and its slope.

        Returns:
            Elements and slopes in 1/128.
        """
        size, width = len(above), cuts.t.shape[1]
        total, sums = np.zeros(size), np.zeros((size, width))
        np.add.at(total, cuts.element, price)
        np.add.at(sums, cuts.element, price[:, None] * cuts.t)
        used = (above < 0) & (total > _NOISE * np.abs(above))
        if not isinstance(self.plan.steps[self.plan.producer[self.layers[cuts.index].step.slot]], InputStep):
            # a chord over an interval that was bounded backwards is more than a line with equal slopes
            used &= total >= chord
        chosen = np.flatnonzero(used)
        t = (sums[chosen] + (chord * slope)[chosen, None]) / (total + chord)[chosen, None]
        grid = np.rint(np.clip(t, 0, 1) * SLOPE_STEPS).astype(np.uint8)
        return list(zip(chosen.tolist(), grid, strict=True))


def open_elements(tape: Tape, box: int, layers: dict[int, Any]) -> dict[int, Array]:
    """``n`` bool by index of a step: elements of a box on which a rectifier is not affine."""
    out: dict[int, Array] = {}
    for index in layers:
        lo, hi = (np.asarray(tape.kernels.numpy(v))[box] for v in tape.relaxations[index].intervals[0])
        out[index] = (lo < 0) & (hi > 0)
    return out


# ------------------------------------------------------------------ the best facet at a point
def facets(weights: Array, lo: Array, hi: Array, top: Array, x: Array) -> tuple[Array, Array]:
    """The tightest facet of each neuron's hull at the point x: slopes t (``P n``) and its value there
    (``P``).

    Greedy (Tjandraatmadja et al. 2020, proposition 2): edges are taken in the order of how far x is from the
    end that makes the operand least, as long as the operand can still be positive without what they add.

    Args:
        weights: ``P n`` float64; lo, hi: ``n`` the box; top: ``P`` the operand's largest value on it.
        x: ``n``.
    """
    step = np.abs(weights) * (hi - lo)
    width = np.where(hi > lo, hi - lo, 1)
    share = np.where(weights >= 0, x - lo, hi - x) / width
    share = np.where(step > 0, np.clip(share, 0, 1), 2)
    order = np.argsort(share, axis=1, kind="stable")
    steps = np.take_along_axis(step, order, axis=1)
    left = top[:, None] - np.cumsum(steps, axis=1)
    place = np.argmax(left < 0, axis=1)
    rows = np.arange(len(weights))
    found = left[rows, place] < 0  # otherwise the operand is never negative: the identity
    rank = np.arange(weights.shape[1])[None, :]
    last = np.where(found, place, weights.shape[1])
    sorted_t = (rank < last[:, None]).astype(np.float64)
    at = np.where(found, place, 0)
    rest = (left + steps)[rows, at] / np.where(steps[rows, at] > 0, steps[rows, at], 1)
    sorted_t[rows[found], place[found]] = np.clip(rest, 0, 1)[found]
    t = np.empty_like(sorted_t)
    np.put_along_axis(t, order, sorted_t, axis=1)
    used = np.where(step > 0, share, 0) * step
    least = top - step.sum(axis=1)
    value = (t * used).sum(axis=1) + np.where(found, 0.0, least)
    return t, value
