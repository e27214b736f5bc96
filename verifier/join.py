"""The end of a search in shards: what each of them proved, as one verdict and one certificate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bounds.graph import Array
from bounds.methods.rule import FORWARD_INPUTS
from verifier import conclude
from verifier.certificate import write_unsat
from verifier.problem import Network, Problem, load_models, make_problem
from verifier.proof_part import TORN, joined
from verifier.query import Options
from verifier.report.model import Report
from verifier.search import shards
from verifier.search.checkpoint import State, load
from verifier.search.outcome import Outcome
from verifier.search.resume import check_query
from verifier.search.settle import Settled, varying_inputs
from verifier.spec.model import Property
from verifier.summary import Told, make_report
from verifier.version import VERSION


def join(
    model: Network | Mapping[str, Network],
    prop: Property,
    whole: str | Path,
    ends: Sequence[str | Path],
    *,
    options: Options | None = None,
    certificate: str | Path | None = None,
) -> Report:
    """Concludes from a checkpoint that was dealt out and what all of its shards left.

    Args:
        model, prop, options: of the query.
        whole: the checkpoint that was dealt out.
        ends: of every shard the checkpoint that it left when it had closed its own.
        certificate: where to write the proof, if the runs kept evidence.

    Soundness: what the ledger of ``whole`` had open must be settled by the shards, each of which had
    subproblems of its own; only that ledger concludes. As everywhere, files are believed (their digests find
    damage, not malice): a certificate need not be.

    Raises:
        BadInput: a file is damaged, missing, there twice, of another query, or of another dealing.
        AssertionError: a shard is not done.
    """
    start, options = time.monotonic(), options or Options()
    state, *found = (_read(path, evidence=certificate is not None) for path in (whole, *ends))
    problem = make_problem(prop, load_models(model, prop), options.semantics)
    for one in (state, *found):
        check_query(one, problem, options.semantics)
    ledger = conclude.Ledger(max(len(problem.cases), 1), problem.cases)
    shards.book(ledger, state, found)
    status = conclude.unsat(ledger)
    told = Told(Settled(), [f"searched in {len(found)} shards by several workers"])
    told.varying = max(map(varying_inputs, problem.cases), default=0)
    told.forward = told.varying <= FORWARD_INPUTS
    told.wanted_certificate = certificate is not None
    if certificate is not None:
        told.certificate = _write(problem, options, state, found, certificate, told)
    every = (state, *found)
    total = Outcome(bounded=sum(s.bounded for s in every), leaves=sum(s.leaves for s in every), closed=1.0)
    joining = time.monotonic() - start
    seconds = joining + sum(s.seconds for s in every)
    phases = {"search": seconds - joining, "join": joining}
    return make_report(problem, model, options, status, total, told, seconds=seconds, phases=phases)


def _read(path: str | Path, *, evidence: bool) -> State:
    state = load(path)
    if not evidence:
        state.kept = None  # it can be large
    return state


def _write(
    problem: Problem, options: Options, whole: State, ends: Sequence[State], path: str | Path, told: Told
) -> str:
    """Writes the certificate, or says why there is none."""
    parts = [(s.kept, s.created) for s in ends if s.kept is not None]
    if whole.kept is None or len(parts) != len(ends):
        told.notes.append("no certificate: the search was not asked to keep evidence")
        return ""
    for part in (whole.kept, *(p for p, _ in parts)):
        part.check(problem.graph)
    tracer = joined(whole.kept, whole.created, parts)
    if tracer is None:
        told.notes.append(TORN)
        return ""
    told.forward = whole.kept.forward
    inputs: dict[int, Array] = whole.kept.whole()
    for part, _ in parts:
        inputs |= part.whole()
    write_unsat(path, problem, options.semantics, tracer, forward=told.forward, version=VERSION, whole=inputs)
    return str(path)
