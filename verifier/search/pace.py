"""How much effort boxes deserve: read off the root.

With few inputs there is a choice: bound every ambiguous neuron backwards and optimise slopes (few, dear
subproblems), or forward forms only (many, cheap ones). Refining costs half a pass per row against ``v + 4``
passes of the forward form for v varying inputs. Control networks (a ratio of 10 to 30 at the root) need ten
times less work when refined; wide min-max networks of two inputs (100 and more) ten times less when not.
Trying both on the side during a search was measured too and misled: the open boxes that are quick to
try are the ones forward forms close anyway.
"""

from __future__ import annotations

from bounds.methods.bounder import BoundResult, BoxBounder, Effort

_DEAR = 50.0
CHEAP = Effort(refine=False, iterations=0)


def effort_after_root(bounder: BoxBounder, root: BoundResult) -> Effort:
    """The effort for all boxes below the root, from what refining the root took."""
    if not bounder.rule.forward:
        return bounder.options.effort
    ratio = 0.5 * root.refined / (bounder.varying + 4)
    return bounder.options.effort if ratio <= _DEAR else CHEAP
