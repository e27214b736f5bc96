"""What a nonlinear step must supply, and nothing else.

A relaxation encloses one nonlinear step on every box of a block between affine functions of its operands.
Its free parameters (slopes, mixing weights) are a *choice*: any choice is sound, constants are recomputed
for it. Walks over the network (:mod:`bounds.methods`) are written once in terms of this interface and
know no operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from bounds.graph import Array
from bounds.kernels.base import Kernels

Choice: TypeAlias = tuple[Any, ...]
"""Parameters (and constants derived from them) of packed rows: arrays ``R n``."""

Intervals: TypeAlias = tuple[tuple[Any, Any], ...]
"""Per operand ``(lo, hi)``."""


@dataclass(slots=True)
class Pushed:
    """A row pushed through a step.

    Attributes:
        parts: per operand ``R n`` coefficients.
        drop: ``R``, what the constants of the chosen lines add to the row's constant.
        error: ``R``, rounding of ``drop`` (that of the coefficients is the caller's business).
    """

    parts: tuple[Any, ...]
    drop: Any
    error: Any


@dataclass(slots=True)
class Form:
    """Forward affine form ``G e + g +- rho`` over e in [-1, 1]^v: ``rows`` is ``D (v + 1) n`` (g last).

    One number e for each input that varies; those that do not are part of g and rho.

    Attributes:
        flat: G is known to be zero.
    """

    rows: Any
    rho: Any
    flat: bool = False


class Relaxation(Protocol):
    """The relaxation of one step on a block of ``D`` boxes.

    A choice starts with ``parameters`` arrays of numbers in [0, 1], what follows is derived from them.

    Attributes:
        parameters: how many.
        spreads: per operand ``D v n`` absolute sensitivity to each varying input over the box, or None.
        refined: per operand ``D n`` bool, elements whose interval was bounded backwards.
    """

    parameters: int
    spreads: tuple[Any, ...]
    refined: tuple[Any, ...]

    @property
    def intervals(self) -> tuple[tuple[Any, Any], ...]:
        """Per operand its interval ``(lo, hi)``, ``D n`` each."""
        ...

    def prepare(self) -> None:
        """Called before parameters are moved."""
        ...

    def narrowed(self, boxes: int, at: tuple[Array, Array], intervals: Intervals) -> Relaxation:
        """This relaxation of one box repeated for ``boxes`` of them, but for some elements.

        Args:
            boxes: D.
            at: box and element (``C`` each) of those that differ.
            intervals: per operand their intervals there, ``C`` each.
        """
        ...

    def restricted(self, index: Any) -> Relaxation:
        """The relaxation of some elements alone (sorted, the backend's integers); no spreads."""
        ...

    def losses(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        """``R n``: what the chosen lines cost the rows, against the function, at the operands' values
        ``at``."""
        ...

    def explicit(self, dom: Any, choice: Choice) -> Choice:
        """The choice with all that :meth:`push` needs, so that single elements of it may be replaced."""
        ...

    def slopes(self, choice: Choice, operand: int) -> tuple[Any, Any]:
        """Slopes in one operand of the lower and the upper line of an explicit choice."""
        ...

    def lines_on(self, choice: Choice, intervals: Intervals) -> Choice:
        """An explicit choice for single elements on narrower intervals (all arrays ``C``)."""
        ...

    def initial(self, dom: Any) -> Choice:
        """The block's own choice for packed rows over boxes ``dom: R``."""
        ...

    def push(self, a: Any, dom: Any, choice: Choice | None) -> Pushed:
        """Replaces the step by its lines in rows ``a: R n`` (a lower bound); None: the block's own choice."""
        ...

    def choose(self, dom: Any, parameters: Choice) -> Choice:
        """The choice that has these parameters (in [0, 1])."""
        ...

    def gradient(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Choice:
        """Per parameter ``R n``: how the chosen lines' help to the rows grows with it, at the values ``at``.

        The bounds' derivatives are this times ``|arrived|`` and a constant, which steps do without.

        Args:
            arrived: ``R n`` rows at the step's output.
            dom, choice: box and present choice of each row.
            at: per operand ``R n``, the value at the row's minimiser.
        """
        ...

    def stored(self, dom: Any, choice: Choice) -> Choice:
        """The choice as a certificate holds it, with the best constants there are for it."""
        ...

    def value(self, arrived: Any, dom: Any, choice: Choice, at: tuple[Any, ...]) -> Any:
        """``R n``: the lines that the rows ``arrived`` use, at the operands' values."""
        ...

    def shares(self, arrived: Any, weight: Any) -> tuple[Any, ...]:
        """Per operand ``D n``: what the relaxation costs weighted rows, per unit of the operand's width.

        Args:
            arrived: ``D S n`` rows at the step's output.
            weight: ``D S``.
        """
        ...

    def form(self, forms: tuple[Form, ...]) -> Form:
        """The affine form of the value from those of the operands."""
        ...


def spread_of(form: Form | None) -> Any:
    """``D v n``: how strongly each varying input moves a form, or None."""
    return None if form is None else abs(form.rows[:, :-1, :])


def outward_form(kernels: Kernels, rows: Any, rho: Any, inputs: int) -> Any:
    """``rho`` enlarged by what computing ``rows`` and ``rho`` from exact factors may have rounded off.

    Every entry was rounded at most four times (a product or two and a sum); ``q`` bounds their magnitudes.
    """
    p = kernels.precision
    if not p.u:
        return rho
    q = (kernels.sum(abs(rows), 1) + rho) * p.slack(inputs + 4)
    return rho * (1 + 4 * p.u) + 4 * p.u * q + p.eta * (inputs + 4)


def patched(kernels: Kernels, held: Any, boxes: int, at: tuple[Array, Array], new: Any) -> Any:
    """``held: 1 n *`` for ``boxes`` boxes, the elements ``at`` replaced by those of ``new: 1 C *``."""
    out = kernels.take(held, kernels.array(np.zeros(boxes, dtype=np.int64)))
    if len(at[0]):
        out[kernels.array(at[0]), kernels.array(at[1])] = new[0]
    return out


def rows_of(kernels: Kernels, held: Any, dom: Any) -> Any:
    """``held: D n`` for packed rows over boxes ``dom: R``, to be read only.

    ``R n``, or ``1 n`` where one box serves all rows: reading it again and again from the cache is much
    cheaper than a copy for each row.
    """
    if len(held) == 1:
        return held
    if len(held) == len(dom) and bool(np.array_equal(kernels.numpy(dom), np.arange(len(dom)))):
        return held
    return kernels.take(held, dom)
