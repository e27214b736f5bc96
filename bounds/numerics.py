"""Floating-point policy: the only file that knows unit roundoffs and tiny numbers.

The analysis is the standard one (Higham, Accuracy and Stability of Numerical Algorithms, ch. 3): a dot
product of length n evaluated in any order, fused or not, in arithmetic with unit roundoff u satisfies
``|fl(w.x) - w.x| <= gamma_n |w|.|x| + n eta`` with ``gamma_k = k u / (1 - k u)``; eta is the smallest
*normal* number, so that flushing subnormals to zero is covered. Coefficients computed here are rounded
upwards by construction; whoever multiplies them with computed non-negative magnitudes inflates the
result once more by :meth:`Precision.slack`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Precision:
    """A working arithmetic.

    Attributes:
        name: "float32", "float64" or "exact".
        dtype: NumPy dtype of arrays in it (object for exact rationals).
        u: unit roundoff (0 for exact).
        eta: bound on the absolute error of one operation that underflows (0 for exact).
    """

    name: str
    dtype: Any
    u: float
    eta: float

    def gamma(self, k: int) -> float:
        """``gamma_k``, rounded upwards; infinite when ``k u >= 1`` (then nothing can be proved)."""
        if self.u == 0:
            return 0  # an int, so that exact rationals stay exact
        ku = k * self.u
        return ku / (1.0 - ku) * (1.0 + 2.0**-40) if ku < 1.0 else math.inf

    def slack(self, k: int) -> float:
        """A factor >= 1 + 2 gamma_k: undoes the rounding of a sum of k non-negative computed terms."""
        return 1.0 + 2.5 * self.gamma(k) if self.u else 1


FLOAT32 = Precision("float32", np.dtype(np.float32), 2.0**-24, 2.0**-126)
FLOAT64 = Precision("float64", np.dtype(np.float64), 2.0**-53, 2.0**-1022)
EXACT = Precision("exact", np.dtype(object), 0, 0)


# at level ``float32``: sums of magnitudes up to here cannot overflow binary32, whatever their rounding
LARGEST_SUM = 2.0**127


@dataclass(frozen=True, slots=True)
class NetworkRounding:
    """Rounding of the *network's* own evaluation (semantics level ``float32``); see Node.roundings."""

    u: float = FLOAT32.u
    eta: float = FLOAT32.eta

    def relative(self, k: int) -> float:
        """``gamma_k`` of the network's arithmetic."""
        return Precision("network", None, self.u, self.eta).gamma(k)

    def absolute(self, k: int) -> float:
        """Error of k underflowing operations."""
        return k * self.eta


def box_to_centre(
    lo: np.ndarray[Any, Any], hi: np.ndarray[Any, Any], precision: Precision
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Centre and radius, in working precision, of a ball that contains the float64 box.

    Args:
        lo, hi: ``D *x`` float64 (or rationals for exact precision).
        precision: the working arithmetic.

    Returns:
        ``(centre, radius)`` with ``|x - centre| <= radius`` for every x in the box. Zero width at a
        representable point stays exactly zero.
    """
    if precision.u == 0:
        half = (hi - lo) / 2
        return lo + half, half
    centre = (lo * 0.5 + hi * 0.5).astype(precision.dtype)
    wide = centre.astype(np.float64)
    # hi - wide and wide - lo are each rounded once (float64); the factor covers that and the
    # conversion to the working precision, eta an underflow of the latter
    radius = np.maximum(hi - wide, wide - lo)
    grown = (radius * (1.0 + 4.0 * precision.u)).astype(precision.dtype)
    grown += (radius > 0) * precision.dtype.type(precision.eta)
    return centre, grown
