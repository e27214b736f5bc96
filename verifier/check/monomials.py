"""Products of inputs and outputs as further outputs: a polynomial property becomes a linear one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verifier.check.functions import X, power
from verifier.check.movement import concat
from verifier.check.network import Lowering, Var
from verifier.spec.model import Monomial


def with_monomials(net: Lowering, inputs: Var, outputs: Var, monomials: Sequence[Monomial]) -> Var:
    """``outputs`` followed by the values of ``monomials``.

    One scalar node for each exponent above 1, ascending, over the variables that have it; then one product
    node for each further factor, for all monomials that have one. None of it is the model's own arithmetic.
    """
    if not monomials:
        return outputs
    net.names = ("property",)
    powers = sorted({(p.output, p.element, p.exponent) for m in monomials for p in m})
    variables = sorted({(output, element) for output, element, _ in powers})
    index = np.array([i + inputs.size * output for output, i in variables], np.int64)
    values = net.take(concat(net, [inputs, outputs], 0), index)
    place = {(output, i, 1): k for k, (output, i) in enumerate(variables)}
    parts = [values]
    for exponent in sorted({e for _, _, e in powers if e > 1}):
        mine = [(output, i) for output, i, e in powers if e == exponent]
        base = net.take(values, np.array([place[output, i, 1] for output, i in mine], np.int64))
        parts.append(net.scalar(power(X, exponent), base))
        place.update({(output, i, exponent): len(place) + k for k, (output, i) in enumerate(mine)})
    factors = concat(net, parts, 0)
    chosen = [[place[p.output, p.element, p.exponent] for p in m] for m in monomials]
    part = net.take(factors, np.array([c[0] for c in chosen], np.int64))
    parts, last, alive, start = [part], np.arange(len(monomials)), np.arange(len(monomials)), 0
    for step in range(1, max(map(len, chosen))):
        keep = np.array([k for k, m in enumerate(alive) if len(chosen[m]) > step], np.int64)
        alive = alive[keep]
        left = net.take(part, keep)
        right = net.take(factors, np.array([chosen[m][step] for m in alive], np.int64))
        start += part.size
        part = net.multiply(left, right)
        parts.append(part)
        last[alive] = start + np.arange(len(alive))
    return concat(net, [outputs, net.take(concat(net, parts, 0), last)], 0)
