"""Output range: on a region of inputs, outputs stay within given limits."""

from __future__ import annotations

from collections.abc import Mapping

from bounds.errors import BadInput

from .exact import Number, to_fraction
from .formula import ONE
from .model import Case, Property, Row, Variable
from .region import Region
from .serial import build


def output_range(
    region: Region, limits: Mapping[int, tuple[Number | None, Number | None]], *, outputs: int
) -> Property:
    """For every input of the region, ``low <= y_j <= high`` for every ``j: (low, high)`` in ``limits``.

    Args:
        region: the inputs.
        limits: per output index its range; None leaves a side open. The limits themselves are allowed.
        outputs: number of outputs.

    Raises:
        BadInput: an argument is out of range.
    """
    disjuncts: list[tuple[Row, ...]] = []
    for j, (low, high) in sorted(limits.items()):
        if not 0 <= j < outputs:
            raise BadInput(f"limits name output {j}; it must be from 0 to {outputs - 1}")
        if low is not None:
            disjuncts.append((Row({j: ONE}, {}, -to_fraction(low, f"lower limit of output {j}"), True),))
        if high is not None:
            disjuncts.append((Row({j: -ONE}, {}, to_fraction(high, f"upper limit of output {j}"), True),))
    if not disjuncts:
        raise BadInput("limits are empty, so there is nothing to prove; give at least one side of one output")
    variables = (Variable("X", "input", (len(region.lower),)), Variable("Y", "output", (outputs,)))
    return build(variables, [Case(region.lower, region.upper, tuple(disjuncts), region.ball)])
