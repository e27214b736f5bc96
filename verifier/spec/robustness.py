"""Local robustness: no input near a given one changes the decision."""

from __future__ import annotations

from itertools import combinations
from math import comb

from bounds.errors import BadInput, LimitExceeded

from .compile import MAX_DISJUNCTS
from .formula import ONE, ZERO
from .model import Case, Property, Row, Variable
from .region import Region
from .serial import build


def local_robustness(
    region: Region, *, label: int, outputs: int, top_k: int = 1, ties_violate: bool = True
) -> Property:
    """Everywhere in the region, ``label`` is among the ``top_k`` largest outputs.

    Unsafe is: at least ``top_k`` other outputs reach the label's output.

    Args:
        region: the inputs, usually from :func:`verifier.spec.region.around`.
        label: index of the right output.
        outputs: number of outputs.
        top_k: 1 for classification.
        ties_violate: whether reaching means ``>=`` (as in the competitions) or ``>``.

    Raises:
        BadInput: an argument is out of range.
        LimitExceeded: ``top_k`` gives too many combinations.
    """
    if not 0 <= label < outputs:
        raise BadInput(f"label {label} is not an output; it must be from 0 to {outputs - 1}")
    if not 1 <= top_k <= outputs:
        raise BadInput(f"top_k {top_k} is out of range; it must be from 1 to {outputs}")
    if comb(outputs - 1, top_k) > MAX_DISJUNCTS:
        what = f"top_k {top_k} of {outputs} outputs gives over {MAX_DISJUNCTS} combinations"
        raise LimitExceeded(f"{what}; lower top_k")
    rows = [_reaches(j, label, not ties_violate) for j in range(outputs) if j != label]
    return _property(region, outputs, tuple(combinations(rows, top_k)))


def targeted_robustness(region: Region, *, target: int, outputs: int, ties_violate: bool = True) -> Property:
    """Nowhere in the region is ``target`` the largest output.

    Unsafe is: output ``target`` reaches every other output.

    Args:
        region: the inputs, usually from :func:`verifier.spec.region.around`.
        target: index of the wrong output.
        outputs: number of outputs.
        ties_violate: whether reaching means ``>=`` (as in the competitions) or ``>``.

    Raises:
        BadInput: the target does not exist.
    """
    if not 0 <= target < outputs:
        raise BadInput(f"target {target} is not an output; it must be from 0 to {outputs - 1}")
    rows = tuple(_reaches(target, j, not ties_violate) for j in range(outputs) if j != target)
    return _property(region, outputs, (rows,))


def _reaches(high: int, low: int, strict: bool) -> Row:
    """``y_high >= y_low``, or ``>`` when strict."""
    return Row({low: ONE, high: -ONE}, {}, ZERO, strict)


def _property(region: Region, outputs: int, disjuncts: tuple[tuple[Row, ...], ...]) -> Property:
    variables = (Variable("X", "input", (len(region.lower),)), Variable("Y", "output", (outputs,)))
    return build(variables, [Case(region.lower, region.upper, disjuncts, region.ball)])
