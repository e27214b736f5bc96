"""Better parameters for packed rows: gradient ascent with a closed-form gradient.

With ``x*`` the minimiser of a row's linear bound, push it forward through the lines the row *chose*: z(x*).
The bound is then ``c . z_last(x*)``, and its derivative in a parameter of an element with coefficient A is A
times the derivative of the chosen line's value at z(x*) (envelope theorem; no autograd). Steps are Adam's
with auto_LiRPA's constants and without the factor |A|; in our measurements they beat conditional gradients,
sign-based steps, and Adam on the true gradient. Every iterate is a bound; the best one is kept per row.
References: Xu et al., Fast and Complete (2021) for what is optimised; Kingma and Ba (2015) for the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.kernels.base import Kernels
from bounds.methods.backward import minimiser
from bounds.methods.tape import Tape
from bounds.plan import AffineStep, InputStep, apply_nonlinear
from bounds.relax.base import Choice
from bounds.relax.relu import SLOPE_STEPS

Run = Callable[[list[Choice], list[Any]], tuple[Any, Any, Any]]
"""Bounds the rows with given choices: (lower ``R``, coefficients ``R d``, rounding share ``R``); fills the
record with the rows that arrive at each nonlinear step."""


@dataclass(slots=True)
class Improved:
    """The best found per row: ``lower: R``, ``a: R d``, ``pad: R``, and the choices that give it."""

    lower: Any
    a: Any
    pad: Any
    choices: list[Choice]


# Adam: step length, its decay per step, and the two averages' decay
_RATE, _SLOWER, _FIRST, _SECOND = 0.5, 0.98, 0.9, 0.999


def improve(
    tape: Tape, dom: Any, run: Run, first: int, iterations: int, *, stored: bool, final: bool = True
) -> Improved:
    """Improves rows over boxes ``dom: R`` that start before step ``first``.

    Args:
        tape: relaxations of at least the steps before ``first``.
        dom: box of each row.
        run: see :data:`Run`.
        first: the rows pass steps ``first - 1, ..., 0``.
        iterations: steps after the first evaluation.
        stored: only bounds whose parameters are as a certificate holds them count (slopes of smooth functions
            are rounded to float32 in the end; all other parameters always are multiples of 1/128).
        final: in the end find the best constants for the best parameters (costs a search per element and
            row where functions are smooth).
    """
    k = tape.kernels
    if iterations:
        for r in tape.relaxations:
            r.prepare()
    choices = [r.initial(dom) for r in tape.relaxations]
    record: list[Any] = [None] * len(choices)
    lower, a, pad = run(choices, record)
    plain = Improved(lower, a, pad, choices)
    if not iterations:
        return plain
    # only parameters are kept on the way, what they imply is computed again in the end
    counts = [r.parameters for r in tape.relaxations]
    best = Improved(lower, a, pad, [c[:n] for c, n in zip(choices, counts, strict=True)])
    ascent = _Ascent(tape, dom, first)
    for t in range(iterations):
        choices = ascent.step(choices, a, record, t)
        record = [None] * len(choices)
        lower, a, pad = run(choices, record)
        kept = [c[:n] for c, n in zip(choices, counts, strict=True)]
        best = _better(k, Improved(lower, a, pad, kept), best)
    best.choices = [r.choose(dom, c) for r, c in zip(tape.relaxations, best.choices, strict=True)]
    if (stored or final) and tape.plan.scalars:
        choices = [r.stored(dom, c) for r, c in zip(tape.relaxations, best.choices, strict=True)]
        best = _better(k, Improved(*run(choices, record), choices), plain if stored else best)
    return best


class _Ascent:
    """Adam over all parameters of packed rows."""

    def __init__(self, tape: Tape, dom: Any, first: int) -> None:
        self.tape, self.dom, self.first = tape, dom, first
        self.moments: dict[tuple[int, int], tuple[Any, Any]] = {}

    def step(self, choices: list[Choice], a: Any, record: list[Any], t: int) -> list[Choice]:
        """Pushes each row's x* forward through the chosen lines and moves every parameter.

        Args:
            choices: per nonlinear step.
            a: ``R d`` the rows' coefficients at the inputs.
            record: per nonlinear step the rows at its output.
            t: number of steps taken before.
        """
        tape, plan, moved = self.tape, self.tape.plan, list(choices)
        x = minimiser(tape, a, self.dom)
        values: dict[int, Any] = {}
        last = max((i for i, arrived in enumerate(record) if arrived is not None), default=-1)
        for s in plan.steps[: self.first]:
            if isinstance(s, InputStep):
                values[s.slot] = x[:, s.start : s.stop]
            elif isinstance(s, AffineStep):
                y = s.map.apply([values[i] for i in s.sources])
                values[s.slot] = y if s.map.bias is None else y + s.map.bias
            else:
                at, arrived = tuple(values[i] for i in s.sources), record[s.index]
                if arrived is None:  # no row reaches this step
                    values[s.slot] = apply_nonlinear(tape.kernels, s, list(at))
                    continue
                relaxation, held = tape.relaxations[s.index], choices[s.index]
                gradient = relaxation.gradient(arrived, self.dom, held, at)
                parameters = (self._moved(s.index, i, held[i], g, t) for i, g in enumerate(gradient))
                moved[s.index] = relaxation.choose(self.dom, tuple(parameters))
                if s.index == last:
                    break  # nothing that follows is moved
                values[s.slot] = relaxation.value(arrived, self.dom, held, at)
        return moved

    def _moved(self, index: int, number: int, held: Any, gradient: Any, t: int) -> Any:
        k = self.tape.kernels
        if not k.precision.u:  # exact numbers stay short: guided by floats, moved to multiples of 1/128
            gradient, held = k.numpy(gradient), k.numpy(held)
        mean, square = self.moments.get((index, number), (0, 0))
        mean = _FIRST * mean + (1 - _FIRST) * gradient
        square = _SECOND * square + (1 - _SECOND) * gradient * gradient
        self.moments[index, number] = (mean, square)
        rate = _RATE * _SLOWER**t / (1 - _FIRST ** (t + 1))
        scale = (square / (1 - _SECOND ** (t + 1))) ** 0.5 + k.precision.eta
        if not k.precision.u:
            moved = np.clip(held + rate * mean / np.maximum(scale, np.finfo(np.float64).tiny), 0, 1)
            return k.on_grid(k.array(moved), SLOPE_STEPS)
        return k.maximum(k.minimum(held + rate * mean / scale, 1), 0)


def _better(k: Kernels, new: Improved, old: Improved) -> Improved:
    """Row by row the better one; a NaN never counts as better."""
    better = new.lower > old.lower
    wide = better[:, None]
    return Improved(
        k.where(better, new.lower, old.lower),
        k.where(wide, new.a, old.a),
        k.where(better, new.pad, old.pad),
        [
            tuple(k.where(wide, now, held) for now, held in zip(n, o, strict=True))
            for n, o in zip(new.choices, old.choices, strict=True)
        ],
    )
