"""Going on with a search that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.domain import Domains
from bounds.errors import BadInput
from bounds.graph import Array
from bounds.methods.bounder import BoundResult
from bounds.methods.tape import Stopped
from bounds.plan import Plan
from verifier.problem import Problem
from verifier.proof_part import ProofPart
from verifier.search.checkpoint import Part, State
from verifier.search.frontier import Frontier
from verifier.search.loop import Search
from verifier.search.operand_search import OperandDomains, operand_tape
from verifier.search.outcome import Outcome
from verifier.search.trace import TreeTracer
from verifier.verdict import Semantics

_AGAIN = "run again without --resume"


def query_of(problem: Problem, semantics: Semantics) -> dict[str, str]:
    """What a checkpoint is about, for comparison."""
    prop = problem.property
    return {
        "model": ", ".join(f"{name} {m.sha256}".strip() for name, m in problem.models.items()),
        "property": prop.sha256 or prop.text,
        "semantics": semantics.value,
    }


def check_query(state: State, problem: Problem, semantics: Semantics) -> None:
    """Refuses a checkpoint of another query.

    Raises:
        BadInput: it names what differs.
    """
    now = query_of(problem, semantics)
    for what, value in now.items():
        before = state.query.get(what)
        if before != value:
            shown = f"{str(before)[:80]}, now {value[:80]}"
            raise BadInput(f"{state.source}: was made for another {what} ({shown}); {_AGAIN}")
    boxes = len(problem.property.cases)
    if state.cases != boxes:
        raise BadInput(f"{state.source}: was made for {state.cases} input boxes, now {boxes}; {_AGAIN}")


def check_certificate(state: State, *, wanted: bool) -> None:
    """Refuses to promise a certificate where the evidence is not all there.

    A shard writes none of a proof anyway: its part is joined with the others'.

    Raises:
        BadInput: a certificate is ``wanted`` of a run that cannot write one.
    """
    if wanted and state.kept is None and state.dealt is None:
        raise BadInput(
            f"{state.source}: holds no evidence of what was closed before it, as its run was not asked for a "
            "certificate; leave --certificate out, or run again without --resume"
        )


def proof_so_far(
    state: State | None, problem: Problem, *, wanted: bool
) -> tuple[TreeTracer | None, ProofPart]:
    """What a run keeps its proof with (None: it keeps none), and what there is of it already.

    Args:
        state: of the checkpoint that it goes on from; None: it begins.
        problem: the query.
        wanted: whether it is to write a certificate.

    Raises:
        BadInput: the checkpoint's evidence does not fit the network.
    """
    nothing = ProofPart.nothing(max(len(problem.cases), 1))
    if state is None:
        return TreeTracer() if wanted else None, nothing
    if state.kept is None or not (wanted or state.dealt):
        return None, nothing
    state.kept.check(problem.graph)
    return state.kept.tracer(), state.kept


@dataclass(slots=True)
class Warm:
    """What runs that go on from parts of one checkpoint can share in memory, so that none makes it again.

    Attributes:
        plans: compiled networks, by precision.
        roots: bounds of whole cases whose operands are split, by case.
    """

    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    roots: dict[int, BoundResult] = field(default_factory=dict[int, BoundResult])


def go_on(search: Search, part: Part, lo: Array, hi: Array, warm: Warm) -> Outcome:
    """Continues the search of one case, whose box is ``lo, hi: d``.

    Soundness: every subproblem is bounded anew. That they cover what was not settled is the checkpoint's
    claim; see :mod:`verifier.search.checkpoint`.

    Raises:
        BadInput: the subproblems do not fit the case.
    """
    _check(search, part, lo, hi)
    search.outcome.closed = part.closed
    if not part.operands:
        return search.run(lo, hi, part.case, part.left)
    groups = search.settler.fast.objectives.groups
    one = np.ones(1)
    root = Domains(lo[None], hi[None], np.array([part.case]), np.ones((1, groups), dtype=bool), -one, one)
    try:
        if part.case not in warm.roots:
            warm.roots[part.case], _ = search.settler.bound(root, search.budget.should_stop, None)
    except Stopped:
        search.outcome.reason = search.budget.exhausted(0, 0)
        return _unchanged(search, part)
    result = warm.roots[part.case]
    root.open &= ~result.refuted
    root.lb[:] = np.where(root.open, result.lower, np.inf).min(axis=1)
    tape = operand_tape(result.tape, search.settler.fast.plan)
    if tape is None:  # it was there when the checkpoint was made: another machine, or other options
        raise BadInput(f"input box {part.case} cannot be searched as the checkpoint did; {_AGAIN}")
    inner = search.operands(tape, root)
    inner.anchor_node = part.left.anchor_node
    levels: list[Frontier[OperandDomains]] = [*part.left.levels]
    for i, level in enumerate(levels):
        batch = level.all()
        if batch is not None and batch.parameters.shape[1] != inner.bounder.parameters:
            batch.parameters = inner.bounder.first_parameters(len(batch))
            levels[i] = Frontier(batch)
    inner.go_on(lo, hi, levels, part.left.block)
    search.settler.counts.float64 += inner.leaves.settled
    search.next_id = inner.next_id
    return search.finish()


def _unchanged(search: Search, part: Part) -> Outcome:
    """The outcome of a search that was stopped before it could begin: all is as it was."""
    out = search.outcome
    out.left = part.left
    out.worst = part.worst
    return out


def _check(search: Search, part: Part, lo: Array, hi: Array) -> None:
    """Refuses subproblems that cannot be of this case."""
    objectives = search.settler.fast.objectives
    for level in part.left.levels:
        batch: Any = level.all()
        if batch is None:
            continue
        fits = batch.open.shape[1] == objectives.groups
        if part.operands:
            fits = fits and _operands_fit(search, batch)
        else:
            fits = fits and batch.lo.shape[1] == batch.hi.shape[1] == len(lo)
            inside = fits and bool(np.all((batch.lo >= lo) & (batch.lo <= batch.hi) & (batch.hi <= hi)))
            fits = inside and part.left.effort is not None
        if not fits:
            raise BadInput(f"the checkpoint's subproblems do not fit input box {part.case}; {_AGAIN}")


def _operands_fit(search: Search, batch: OperandDomains) -> bool:
    objectives, plan = search.settler.fast.objectives, search.settler.fast.plan
    total = sum(o.size for o in plan.operands)
    if not bool(((batch.pick >= 0) & (batch.pick < objectives.rows)).all()):
        return False
    own = np.zeros_like(batch.open)
    own[np.arange(len(batch)), objectives.group_of_row[batch.pick]] = True
    splits = batch.splits
    return (
        bool((batch.open <= own).all())
        and bool(((splits.operand >= -1) & (splits.operand < total)).all())
        and bool(np.isin(splits.side, (-1, 0, 1)).all())
        and bool((np.isin(splits.side, (-1, 1)) | (splits.operand < 0)).all())
        and bool(np.isfinite(splits.point).all() and np.isfinite(splits.beta).all())
    )
