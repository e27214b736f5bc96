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

from bounds.graph import Array
from bounds.methods.bounder import BoundResult, BoxBounder, Effort
from bounds.methods.edge_slopes import edge_steps
from bounds.methods.operand_bounder import OperandBounder
from bounds.methods.splits import Splits
from bounds.methods.tape import Tape

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


# hulls of rectifiers: the most layers and ambiguous elements of networks in which they may be used, and the
# most rows that are searched apart
_LAYERS, _NEURONS, _ROWS = 2, 512, 16
# with fewer inputs splits of these are cheaper
_FEWEST_INPUTS = 8
# steps that show what they do at the root, and the share of the gap that they must close
_STEPS, _CLOSED = 50, 0.4


def hulls_apply(tape: Tape, rows: int, varying: int) -> bool:
    """Whether a network is one whose first rectifiers' hulls are worth a try: few layers, many inputs.

    Args:
        tape: the root's; rows: of objectives that are open there; varying: how many inputs vary.
    """
    plan = tape.plan
    layers = len(plan.relus)
    if not 0 < layers <= _LAYERS or len(plan.nonlinear) > layers or not 0 < rows <= _ROWS:
        return False
    if varying < _FEWEST_INPUTS or not edge_steps(plan):
        return False
    return sum(int(np.asarray(plan.kernels.numpy(r.ambiguous)).sum()) for r in tape.relus) <= _NEURONS


def hulls_help(bounder: OperandBounder, rows: Array, group: Array, plain: float) -> bool:
    """Makes a bounder use the hulls of first-layer rectifiers, if that does much more than triangles do.

    A network of one wide layer behind 30 inputs (a root bound of -3.8, with hulls -0.3) takes a few hundred
    subproblems instead of over 20,000. Deeper networks lose most behind the layer that the hulls are about.

    Args:
        bounder: of the root.
        rows, group: of the objectives that are open there, and their groups; a group's best row counts.
        plain: the root's bound by triangles.
    """
    if not bounder.use_hulls():
        return False
    found = bounder.bound(Splits.none(len(rows)), rows, None, _STEPS)
    worst = min(float(np.max(found.lower[group == g])) for g in np.unique(group))
    bounder.hull = plain < 0 and worst > (1 - _CLOSED) * plain
    return bounder.hull
