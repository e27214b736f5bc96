"""The relaxation of ``max(z, 0)``: a triangle with a free lower slope."""

from __future__ import annotations

from typing import Any

from bounds.kernels.base import Kernels
from bounds.methods.tape import ReluRelaxation

SLOPE_STEPS = 128  # lower slopes are chosen as multiples of 1/128: exact in every precision


def relax_relu(kernels: Kernels, lo: Any, hi: Any, spread: Any) -> ReluRelaxation:
    """Relaxes on ``[lo, hi]`` (``D n``).

    The upper line is the chord from (lo, 0) to (hi, hi); its slope is a computed number s, and any slope in
    [0, 1] is a sound choice provided the intercept is at least ``max(-s lo, hi (1 - s))``, the line's need at
    the two ends (the function is convex). The intercept is computed and then moved up by a bound on its
    own rounding (5 u times its magnitude bound). The lower slope starts at 1 if ``hi > -lo``, else 0
    (Zhang et al. 2018, the adaptive choice of CROWN).
    """
    k, u = kernels, kernels.precision.u
    ambiguous = ~((lo >= 0) | (hi <= 0))  # a NaN is ambiguous too, and makes every bound NaN
    active = lo >= 0
    one = k.zeros(*lo.shape) + 1
    slope = k.minimum(k.divide(k.where(ambiguous, hi, 0), k.where(ambiguous, hi - lo, one)), 1)
    need = k.maximum(-slope * lo, hi - slope * hi)
    if u:
        need = need + 5 * u * (slope * -lo + hi) + kernels.precision.eta
    lower = k.where(active | (ambiguous & (hi > -lo)), one, 0)
    return ReluRelaxation(
        lo, hi, lower, k.where(active, one, slope), k.where(ambiguous, need, 0), ambiguous, spread
    )
