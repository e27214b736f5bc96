"""How much effort boxes deserve: read off the root.

With few inputs there is a choice: bound every ambiguous neuron backwards and optimise slopes (few, dear
subproblems), or forward forms only (many, cheap ones). Refining costs half a pass per row against ``v + 4``
passes of the forward form for v varying inputs. Control networks (a ratio of 10 to 30 at the root) need ten
times less work when refined; wide min-max networks of two inputs (100 and more) ten times less when not.
Trying both on the side during a search was measured too and misled: the open boxes that are quick to
try are the ones forward forms close anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bounds.methods.bounder import BoundResult, BoxBounder, Effort

_DEAR = 50.0
CHEAP = Effort(refine=False, iterations=0)


def effort_after_root(bounder: BoxBounder, root: BoundResult, cheaply: Callable[[], BoundResult]) -> Effort:
    """The effort for all boxes below the root, from what refining the root took and brought.

    Refining is worth its price where it closes more of the gap than the splits do that it costs. If a gap
    shrinks with the square of the boxes' width, then closing it by the factor g takes ``g ** (v / 2)`` boxes.
    (A generator and discriminator of five inputs, 50,000 rectifiers: refining costs 500 times a forward pass,
    and takes the root's bound from -20 to -0.02.)

    Args:
        bounder: of the boxes.
        root: its result, refined.
        cheaply: bounds the root with :data:`CHEAP`.
    """
    dear = bounder.options.effort
    if not bounder.rule.forward or root.tape is None:
        return dear
    passes = bounder.varying + 4
    if 0.5 * root.refined <= _DEAR * passes:
        return dear
    worst = float(np.min(root.lower[~root.refuted], initial=0.0))
    plain = float(np.min(cheaply().lower[~root.refuted], initial=0.0))
    if not (worst < 0 and plain < worst):
        return CHEAP
    gain = math.log(plain / worst) * len(root.tape.columns) / 2
    price = math.log(root.tape.refined_work / (bounder.plan.work * passes) + 1)
    return dear if gain > price else CHEAP
