"""Sets of inputs that the builders of common properties start from: boxes and balls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from bounds.errors import BadInput

from .exact import Number, to_fraction
from .model import Ball

_NORMS = {"linf": 0, "l1": 1, "l2": 2}


@dataclass(frozen=True, slots=True)
class Region:
    """A box and, perhaps, a ball that inputs must lie in as well; built by :func:`box` or :func:`around`."""

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    ball: Ball | None = None


def box(lower: Sequence[Number], upper: Sequence[Number]) -> Region:
    """The box between two flat points. Floats count at their exact binary value, strings as decimals.

    Raises:
        BadInput: not finite, of different lengths, or empty lists. A side may be empty (lower > upper).
    """
    if len(lower) != len(upper) or not lower:
        raise BadInput(f"the box has {len(lower)} lower and {len(upper)} upper bounds; give equally many")
    return Region(_exact(lower, "lower"), _exact(upper, "upper"))


def around(
    center: Sequence[Number],
    epsilon: Number | Sequence[Number],
    *,
    norm: str = "linf",
    clip: tuple[Number, Number] | None = None,
) -> Region:
    """The closed ball of radius ``epsilon``, cut to a valid range.

    Args:
        center: flat point; floats count at their exact binary value, strings as decimals.
        epsilon: radius; for ``linf`` also one radius per input.
        norm: "linf", "l1" or "l2".
        clip: valid range of every input, as (low, high).

    Raises:
        BadInput: an argument is out of range.
    """
    if norm not in _NORMS:
        raise BadInput(f"unknown norm {norm!r}; choose one of {', '.join(_NORMS)}")
    point = _exact(center, "center")
    if not point:
        raise BadInput("center has no numbers; give the flat input")
    radii = _radii(epsilon, len(point), norm)
    lower = [c - r for c, r in zip(point, radii, strict=True)]
    upper = [c + r for c, r in zip(point, radii, strict=True)]
    if clip is not None:
        low, high = to_fraction(clip[0], "clip[0]"), to_fraction(clip[1], "clip[1]")
        if low > high:
            raise BadInput(f"clip range [{low}, {high}] is empty; give (low, high)")
        lower = [max(v, low) for v in lower]
        upper = [min(v, high) for v in upper]
    ball = Ball(point, radii[0], _NORMS[norm]) if _NORMS[norm] else None
    return Region(tuple(lower), tuple(upper), ball)


def _exact(values: Sequence[Number], what: str) -> tuple[Fraction, ...]:
    return tuple(to_fraction(v, f"{what}[{i}]") for i, v in enumerate(values))


def _radii(epsilon: Number | Sequence[Number], inputs: int, norm: str) -> tuple[Fraction, ...]:
    if isinstance(epsilon, Sequence) and not isinstance(epsilon, str):
        if norm != "linf" or len(epsilon) != inputs:
            raise BadInput(f"epsilon has {len(epsilon)} entries; give one number, or {inputs} with norm linf")
        radii = _exact(epsilon, "epsilon")
    else:
        radii = (to_fraction(epsilon, "epsilon"),) * inputs
    if any(r < 0 for r in radii):
        raise BadInput("epsilon is negative; give a radius of at least 0")
    return radii
