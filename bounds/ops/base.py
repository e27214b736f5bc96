"""What an affine operator must supply, and nothing else.

An affine primitive is ``y = sum_k W_k x_k + b`` on flat vectors. Interval arithmetic, forward affine
forms, backward rows, rounding-error terms and gradients are all written once (:mod:`bounds.methods`) in
terms of four maps: ``x -> W x``, ``x -> |W| x``, ``a -> a W`` and single rows of ``W``. An operator knows
nothing of the graph around it nor of who asks.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from bounds.graph import Array
from bounds.kernels.base import Kernels


class AffineMap(abc.ABC):
    """One affine primitive in one precision. ``M`` is any number of flat vectors.

    Attributes:
        kernels: the backend its constants live in.
        sizes: flat sizes of the operands.
        size: flat size of the value.
        terms: the longest sum in ``W x`` or ``a W`` (for gamma).
        bias: ``n`` or None; bias_abs its absolute value.
        weight_error: bound on the relative error that converting the constants to the working
            precision made (0 when all are representable).
        moves: where every element comes from (``n`` int64, -1 for a constant) if the map only moves them.
        signs: per operand 1 if none of its weights is negative, -1 if none is positive; None if an operand is
            neither (or it is not known).
        separate: every element depends on one element of one operand, and no two on the same.
        whole: all weights and biases are whole numbers.
    """

    terms: int = 1
    moves: Array | None = None
    signs: tuple[int, ...] | None = None
    separate: bool = False
    whole: bool = True  # until a constant says otherwise

    def __init__(self, kernels: Kernels, sizes: Sequence[int], size: int) -> None:
        self.kernels = kernels
        self.sizes = tuple(sizes)
        self.size = size
        self.bias: Any = None
        self.bias_abs: Any = None
        self.weight_error = 0.0

    @abc.abstractmethod
    def apply(self, xs: Sequence[Any]) -> Any:
        """``M n``: ``sum_k W_k x_k`` (no bias)."""

    @abc.abstractmethod
    def apply_abs(self, xs: Sequence[Any]) -> Any:
        """``M n``: ``sum_k |W_k| x_k`` for ``x >= 0``."""

    @abc.abstractmethod
    def adjoint(self, a: Any) -> tuple[Any, ...]:
        """For rows ``a: R n`` the rows ``a W_k: R n_k`` at every operand."""

    def rows(self, index: Any) -> tuple[Any, ...]:
        """``W_k[index]: R n_k``; the default pushes unit rows through the adjoint."""
        return self.adjoint(self.kernels.unit_rows(index, self.size))

    def closure(self, index: Array) -> Array:
        """Elements of the value, ``index`` and perhaps more, that :meth:`restricted` can do with (sorted).

        The default keeps everything.
        """
        del index
        return np.arange(self.size)

    def restricted(self, index: Array) -> tuple[AffineMap, tuple[Array, ...]]:
        """The map to some elements of its value, and per operand the elements (sorted) that it then reads.

        The new map's operands hold just these elements. Its terms and errors are those of this map, which
        bound those of any part of it.

        Args:
            index: as :meth:`closure` returns them.
        """
        del index
        return self, tuple(np.arange(n) for n in self.sizes)

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, roughly."""
        return sum(self.sizes) if self.terms == 1 else self.size * self.terms

    def part(self, sizes: Sequence[int], index: Array) -> Self:
        """A copy for other operands' sizes, with the bias of some elements: what restrictions begin with."""
        out, k = copy(self), self.kernels
        out.sizes, out.size, out.moves = tuple(sizes), len(index), None
        if self.bias is not None:
            out.bias, out.bias_abs = (k.take(b, k.array(index)) for b in (self.bias, self.bias_abs))
        return out

    def with_constants(self, constants: Mapping[str, Any]) -> AffineMap:
        """The same map with other weights: backend arrays, named and shaped as in the node's ``params``.

        The given arrays are used as they are, so that gradients flow back to them (training). Maps without
        trainable constants return themselves.
        """
        del constants
        return self

    def constant(self, values: Array) -> Any:
        """A weight array in working precision; records what the conversion cost."""
        self.weight_error = max(self.weight_error, conversion_error(values, self.kernels))
        self.whole = self.whole and bool(np.all(values == np.rint(values)))
        return self.kernels.array(values)

    def set_bias(self, values: Array | None) -> None:
        """Stores a flat bias (``n``); zeros are dropped."""
        if values is None or not np.any(values):
            return
        self.bias = self.constant(values)
        self.bias_abs = self.kernels.array(np.abs(values))


def sign_of(weights: Array) -> tuple[int, ...] | None:
    """``signs`` of a map with these weights on its one operand."""
    if not np.any(weights < 0):
        return (1,)
    return None if np.any(weights > 0) else (-1,)


def conversion_error(values: Array, kernels: Kernels) -> float:
    """Relative error of rounding ``values`` (float64) to the working precision: 0 if exact."""
    precision = kernels.precision
    if precision.name != "float32":
        return 0.0
    with np.errstate(all="ignore"):
        back = values.astype(np.float32).astype(np.float64)
        # a number that underflows loses more than u, and one that vanishes or overflows has no relative error
        error = np.where(back == values, 0.0, np.abs(values - back) / np.abs(back))
    return 1.0001 * float(np.max(np.where(np.isnan(error), np.inf, error), initial=0.0))
