"""What is still open, in words and numbers for people: the worst region, and where bounds are loose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds.domain import Domains
from bounds.graph import Array, Graph, Node
from bounds.methods.splits import Splits, locate
from bounds.methods.tape import Tape
from bounds.plan import NONLINEAR, Plan, ReluStep
from verifier.report.model import Range, Region
from verifier.search.operand_search import OperandDomains
from verifier.search.outcome import Left

# inputs and splits that a region names
_NAMED = 8


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What bounding the whole box showed.

    Attributes:
        ambiguous: elements of nonlinear steps whose relaxation is not exact there, of ``elements``.
        loosest: the model's node whose operands have the widest intervals, and that width ("" and 0: none).
    """

    ambiguous: int
    elements: int
    loosest: str
    width: float


def root_facts(tape: Tape, graph: Graph) -> RootFacts:
    """Reads a tape of one box."""
    k, nodes = tape.kernels, nonlinear_nodes(graph)
    ambiguous = elements = 0
    loosest, width = "", 0.0
    for step, relaxation in zip(tape.plan.nonlinear, tape.relaxations, strict=False):
        widest = 0.0
        for lo, hi in relaxation.intervals:
            low, high = (np.asarray(k.numpy(v), dtype=np.float64) for v in (lo, hi))
            bent = (low < 0) & (high > 0) if isinstance(step, ReluStep) else low < high
            ambiguous, elements = ambiguous + int(bent.sum()), elements + bent.size
            span = (high - low)[bent & np.isfinite(high - low)]
            widest = max(widest, float(span.mean()) if len(span) else 0.0)
        if widest > width:
            loosest, width = nodes[step.index].source, widest
    return RootFacts(ambiguous, elements, loosest, width)


def nonlinear_nodes(graph: Graph) -> list[Node]:
    """The graph's nodes of a plan's nonlinear steps, in the order of ``NonlinearStep.index``."""
    return [n for n in graph.nodes if n.op in NONLINEAR]


def hardest(left: Left, names: tuple[str, ...], graph: Graph, case: int, share: float) -> Region | None:
    """The open subproblem with the least bound.

    Args:
        left: what a search left open; names: of the inputs.
        case: the case that was searched, whose box is ``share`` of all.
    """
    worst = [(level.worst(), i) for i, level in enumerate(left.levels)]
    known = [(bound, i) for bound, i in worst if bound is not None]
    if not known:
        return None
    batch = left.levels[min(known)[1]].peek()
    bound = float(batch.lb[0])
    shown = bound if np.isfinite(bound) else None
    volume = float(batch.volume[0]) * share
    if isinstance(batch, OperandDomains):
        plan = left.bounder.plan if left.bounder else None
        splits = () if plan is None else _split_words(batch.splits, plan, graph)
        return Region(shown, volume, case, splits=splits)
    ranges, hidden = _ranges(batch, names)
    return Region(shown, volume, case, ranges, hidden)


def _ranges(batch: Domains, names: tuple[str, ...]) -> tuple[tuple[Range, ...], int]:
    lo, hi = batch.lo[0], batch.hi[0]
    width = hi - lo
    order = np.argsort(-width, kind="stable")[:_NAMED]
    chosen = np.sort(order[width[order] > 0])
    ranges = tuple(Range(_name(names, i), float(lo[i]), float(hi[i])) for i in chosen.tolist())
    return ranges, int((width > 0).sum()) - len(ranges)


def _name(names: tuple[str, ...], i: int) -> str:
    return names[i] if i < len(names) else f"X_{i}"


def _split_words(splits: Splits, plan: Plan, graph: Graph) -> tuple[str, ...]:
    """The splits of the first subproblem, the latest first."""
    used = np.flatnonzero(splits.operand[0] >= 0)[::-1]
    if not len(used):
        return ()
    nodes = nonlinear_nodes(graph)
    which, _, element = locate(plan.operands, splits.operand[0][used])
    return tuple(
        f"operand {plan.operands[w].position} of node '{nodes[plan.operands[w].index].source}', element {e} "
        f"{'>=' if s > 0 else '<='} {p:.6g}"
        for w, e, s, p in zip(
            which[:_NAMED].tolist(),
            element[:_NAMED].tolist(),
            _floats(splits.side[0][used]),
            _floats(splits.point[0][used]),
            strict=False,
        )
    )


def _floats(values: Array) -> list[float]:
    return values.astype(np.float64).tolist()
