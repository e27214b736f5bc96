"""Matrices that know how far they may be from the true ones.

``|true - value| <= slip * size`` and ``|true|, |value| <= size``, elementwise: ``size`` is the same product
with absolute values, ``slip`` one number that grows with every rounding (Higham 2002, section 3.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array
from bounds.numerics import FLOAT64

# added to sizes, so that slip * size also pays for every underflow (n 2^-1022 at most)
FLOOR = 2.0**-800


@dataclass(frozen=True, slots=True)
class Matrix:
    """See the module; arrays are ``rows columns`` float64."""

    value: Array
    size: Array
    slip: float

    @staticmethod
    def exact(value: Array) -> Matrix:
        """A matrix of floats that are meant as they stand."""
        return Matrix(value, np.abs(value), 0.0)

    @staticmethod
    def identity(n: int) -> Matrix:
        """The unit matrix."""
        return Matrix.exact(np.eye(n))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.value.shape[0], self.value.shape[1]

    def __matmul__(self, other: Matrix) -> Matrix:
        n = self.shape[1]
        size = (self.size @ other.size) * FLOAT64.slack(n + 2) + FLOOR
        slip = (self.slip + other.slip + FLOAT64.gamma(n + 1)) * (1 + 2.0**-20)
        return Matrix(self.value @ other.value, size, slip)

    def __add__(self, other: Matrix) -> Matrix:
        size = (self.size + other.size) * FLOAT64.slack(2) + FLOOR
        slip = (max(self.slip, other.slip) + FLOAT64.gamma(2)) * (1 + 2.0**-20)
        return Matrix(self.value + other.value, size, slip)

    def columns(self, pick: Array) -> Matrix:
        """Some columns (an index or a mask)."""
        return Matrix(self.value[:, pick], self.size[:, pick], self.slip)

    def rows(self, pick: Array) -> Matrix:
        """Some rows."""
        return Matrix(self.value[pick], self.size[pick], self.slip)

    def scaled_columns(self, factor: Array) -> Matrix:
        """Times ``diag(factor)``, the factors being exact."""
        size = self.size * np.abs(factor) * FLOAT64.slack(2) + FLOOR
        return Matrix(self.value * factor, size, (self.slip + FLOAT64.gamma(2)) * (1 + 2.0**-20))

    @staticmethod
    def stack(parts: Sequence[Matrix], axis: int) -> Matrix:
        """Side by side (1) or one above the other (0)."""
        return Matrix(
            np.concatenate([p.value for p in parts], axis=axis),
            np.concatenate([p.size for p in parts], axis=axis),
            max(p.slip for p in parts),
        )
