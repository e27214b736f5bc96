"""Relations between two runs, as properties of a combined network (:mod:`bounds.io.combine`)."""

from __future__ import annotations

from fractions import Fraction

from bounds.errors import BadInput

from .exact import Number, to_fraction
from .formula import ONE, ZERO
from .model import Case, Property, Row, Variable
from .region import Region
from .serial import build


def close(region: Region, epsilon: Number, *, outputs: int) -> Property:
    """For every input of the region, ``|f(x)_j - g(x)_j| <= epsilon`` for every output j.

    The network is ``x -> (f(x), g(x))``, with ``2 outputs`` flat outputs.

    Args:
        region: the inputs.
        epsilon: largest difference allowed, at least 0.
        outputs: number of outputs of each network.

    Raises:
        BadInput: an argument is out of range.
    """
    most = to_fraction(epsilon, "epsilon")
    if most < 0:
        raise BadInput(f"epsilon is {epsilon}; give a number of at least 0")
    disjuncts = [
        (Row({j: -sign, outputs + j: sign}, {}, most, strict=True),)
        for j in range(outputs)
        for sign in (ONE, -ONE)
    ]
    variables = (Variable("X", "input", (len(region.lower),)), Variable("Y", "output", (2 * outputs,)))
    return build(variables, [Case(region.lower, region.upper, tuple(disjuncts), region.ball)])


def monotone_by(
    region: Region,
    *,
    input_index: int,
    output_index: int,
    outputs: int,
    increasing: bool = True,
    slack: Number = 0,
) -> Property:
    """Raising one input alone lowers one output by at most ``slack`` (raises it, unless ``increasing``).

    The network is ``(x, t) -> (f(x), f(x + t e_i))`` with flat inputs ``x`` and then ``t``. Unsafe is:
    ``t >= 0``, ``x + t e_i`` in the region, and ``f(x + t e_i)_j < f(x)_j - slack``.

    Args:
        region: a box.
        input_index, output_index: flat i and j.
        outputs: number of outputs of f.
        increasing: False to state that the output never rises.
        slack: at least 0.

    Raises:
        BadInput: an argument is out of range.
    """
    n, least = len(region.lower), to_fraction(slack, "slack")
    if region.ball is not None:
        raise BadInput("monotonicity is stated on a box, not on a 1-norm or 2-norm ball; give a box")
    if not 0 <= input_index < n:
        raise BadInput(f"input {input_index} does not exist; it must be from 0 to {n - 1}")
    if not 0 <= output_index < outputs:
        raise BadInput(f"output {output_index} does not exist; it must be from 0 to {outputs - 1}")
    if least < 0:
        raise BadInput(f"slack is {slack}; give a number of at least 0")
    high = region.upper[input_index]
    sign = ONE if increasing else -ONE
    rows = (
        Row({}, {input_index: ONE, n: ONE}, -high),
        Row({outputs + output_index: sign, output_index: -sign}, {}, least, strict=True),
    )
    far = max(high - region.lower[input_index], Fraction(0))
    case = Case((*region.lower, ZERO), (*region.upper, far), (rows,))
    variables = (Variable("X", "input", (n + 1,)), Variable("Y", "output", (2 * outputs,)))
    return build(variables, [case])
