"""Balls in the 1-norm and the 2-norm: a second way to concretise a linear bound.

A domain's box is intersected with one ball that all domains share. For ``x`` in the ball
``a . x >= a . c - r |a|_q`` with the dual norm (2 for 2, infinity for 1), whatever the box; the better of
the two minima is a bound on the intersection.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bounds.graph import Array


@dataclass(frozen=True, slots=True)
class Ball:
    """``|x - centre|_norm <= radius``, in float64 and rounded outwards.

    Attributes:
        centre: ``d``.
        radius: an upper bound that also covers how far ``centre`` is from the exact one.
        norm: 1 or 2.
    """

    centre: Array
    radius: float
    norm: int

    @staticmethod
    def around(centre: tuple[Fraction, ...], radius: Fraction, norm: int) -> Ball:
        """The float64 ball that contains an exact one."""
        near = np.array([float(v) for v in centre])
        # the 1-norm of the shift bounds its 2-norm too
        shift = sum((abs(Fraction(float(n)) - v) for n, v in zip(near, centre, strict=True)), Fraction(0))
        wanted = radius + shift
        top = float(wanted)
        while Fraction(top) < wanted:
            top = float(np.nextafter(top, np.inf))
        return Ball(near, top, norm)

    def project(self, x: Array) -> Array:
        """Points ``M d`` moved inside (a little further than necessary; for attacks)."""
        offset = x - self.centre
        size = np.abs(offset).sum(axis=1) if self.norm == 1 else np.sqrt((offset * offset).sum(axis=1))
        factor = np.minimum(1.0, self.radius * (1 - 2.0**-20) / np.maximum(size, np.finfo(np.float64).tiny))
        return self.centre + offset * factor[:, None]


@dataclass(frozen=True, slots=True)
class BoundBall:
    """A ball in a plan's precision: ``centre: d``, ``reach: d`` (|centre|), ``radius`` rounded up."""

    centre: Any
    reach: Any
    radius: Any
    norm: int
