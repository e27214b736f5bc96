"""Monotonicity in one input, as a relation between two runs of the same network."""

from __future__ import annotations

from bounds.errors import BadInput

from .formula import ONE, ZERO
from .model import Case, NetworkRef, Property, Row, Variable
from .region import Region
from .serial import build


def monotone(
    region: Region, *, input_index: int, output_index: int, outputs: int, increasing: bool = True
) -> Property:
    """Raising one input alone never lowers one output (never raises it, unless ``increasing``).

    The property has two networks: ``f`` with input ``X`` and output ``Y``, and ``g``, related to it
    as "equal" (the same file), with input ``X2`` and output ``Y2``. Flat inputs are those of ``X``
    followed by those of ``X2``; both lie in the region's box. Unsafe is: ``X2`` equals ``X`` except
    that ``X2[i] >= X[i]``, and ``Y2[j] < Y[j]``.

    Args:
        region: a box.
        input_index: flat index i.
        output_index: flat index j.
        outputs: number of outputs of the network.
        increasing: False to state that the output never rises.

    Raises:
        BadInput: an argument is out of range.
    """
    n = len(region.lower)
    if region.ball is not None:
        raise BadInput("monotonicity is stated on a box, not on a 1-norm or 2-norm ball; give a box")
    if not 0 <= input_index < n:
        raise BadInput(f"input {input_index} does not exist; it must be from 0 to {n - 1}")
    if not 0 <= output_index < outputs:
        raise BadInput(f"output {output_index} does not exist; it must be from 0 to {outputs - 1}")
    variables = (
        Variable("X", "input", (n,), network="f"),
        Variable("Y", "output", (outputs,), network="f"),
        Variable("X2", "input", (n,), network="g"),
        Variable("Y2", "output", (outputs,), network="g"),
    )
    rows = [Row({}, {input_index: ONE, n + input_index: -ONE}, ZERO)]
    for k in range(n):
        if k != input_index:
            rows += [Row({}, {k: ONE, n + k: -ONE}, ZERO), Row({}, {k: -ONE, n + k: ONE}, ZERO)]
    sign = ONE if increasing else -ONE
    rows.append(Row({outputs + output_index: sign, output_index: -sign}, {}, ZERO, strict=True))
    case = Case(region.lower * 2, region.upper * 2, (tuple(rows),))
    return build(variables, [case], (NetworkRef("f"), NetworkRef("g", "equal", "f")))
