"""Better parameters for packed rows: conditional-gradient steps with a closed-form gradient.

With ``x*`` the minimiser of a row's linear bound, push it forward through the lines the row *chose*: z(x*).
The derivative of the bound in a slope k of an element whose coefficient is A is ``A (z(x*) - z*)``, z* where
the line touches (envelope theorem; no autograd), so the best vertex is the line that is best *at* z(x*):
slope 1 or 0 of a rectifier, a tangent of the convex envelope of a smooth function, the better McCormick plane of
a product. Every iterate is a bound; the best one is kept per row.
Reference: Frank and Wolfe (1956); Xu et al., Fast and Complete (2021) for what is optimised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bounds.kernels.base import Kernels
from bounds.methods.backward import minimiser
from bounds.methods.tape import Tape
from bounds.plan import AffineStep, InputStep, apply_nonlinear
from bounds.relax.base import Choice

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


def improve(tape: Tape, dom: Any, run: Run, first: int, iterations: int, *, tighten: bool = True) -> Improved:
    """Improves rows over boxes ``dom: R`` that start before step ``first``.

    Args:
        tape: relaxations of at least the steps before ``first``.
        dom: box of each row.
        run: see :data:`Run`.
        first: the rows pass steps ``first - 1, ..., 0``.
        iterations: steps after the first evaluation.
        tighten: in the end find the best constants for the best parameters (costs a search per element and
            row where functions are smooth).
    """
    k = tape.kernels
    choices = [r.initial(dom) for r in tape.relaxations]
    record: list[Any] = [None] * len(choices)
    lower, a, pad = run(choices, record)
    best = Improved(lower, a, pad, list(choices))
    for t in range(iterations):
        step = 0.5 if t == 0 else 2.0 / (t + 2)
        choices = _ascend(tape, dom, choices, a, record, step, first)
        record = [None] * len(choices)
        lower, a, pad = run(choices, record)
        best = _better(k, Improved(lower, a, pad, choices), best)
    if tighten and iterations and tape.plan.scalars:
        choices = [r.tighten(dom, c) for r, c in zip(tape.relaxations, best.choices, strict=True)]
        best = _better(k, Improved(*run(choices, record), choices), best)
    return best


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


def _ascend(
    tape: Tape, dom: Any, choices: list[Choice], a: Any, record: list[Any], step: float, first: int
) -> list[Choice]:
    """One step: pushes each row's x* forward through the chosen lines and moves every choice.

    Args:
        tape, dom: the block, and each row's box (``R``).
        choices: per nonlinear step.
        a: ``R d`` the rows' coefficients at the inputs.
        record: per nonlinear step the rows at its output.
        step: length of the step, in (0, 1].
        first: steps before it matter.
    """
    plan, moved = tape.plan, list(choices)
    x = minimiser(tape, a, dom)
    values: dict[int, Any] = {}
    last = max((i for i, arrived in enumerate(record) if arrived is not None), default=-1)
    for s in plan.steps[:first]:
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
            moved[s.index] = relaxation.ascend(arrived, dom, held, at, step)
            if s.index == last:
                break  # nothing that follows is moved
            values[s.slot] = relaxation.value(arrived, dom, held, at)
    return moved
