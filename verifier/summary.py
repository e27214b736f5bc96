"""From what a run knows to the values of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bounds.graph import Graph
from bounds.io.onnx import Model
from verifier.advice import Facts, advice
from verifier.problem import Problem
from verifier.query import Options
from verifier.report.model import Picture, Region, Report, Stats
from verifier.search.outcome import Outcome
from verifier.search.region import RootFacts
from verifier.search.settle import Settled
from verifier.spec.model import Property
from verifier.verdict import Status, UnknownReason
from verifier.version import VERSION


@dataclass(slots=True)
class Told:
    """What a run gathered for its report besides the outcome.

    Attributes:
        counts: what slower arithmetics settled.
        notes: remarks.
        forward: whether boxes were bounded forwards, and (without hulls) inputs split.
        hulls: whether the hulls of first rectifiers were used, and operands split.
        varying: the most inputs that vary in a case.
        many: cases that one pass bounded together.
        root: what bounding the first whole box showed.
        hardest: the worst open region.
        certificate, resumed, checkpoint: paths, or "".
        picture: if asked for.
    """

    counts: Settled
    notes: list[str]
    forward: bool = False
    hulls: bool = False
    varying: int = 0
    many: int = 0
    root: RootFacts | None = None
    hardest: Region | None = None
    certificate: str = ""
    wanted_certificate: bool = False
    resumed: str = ""
    checkpoint: str = ""
    picture: Picture | None = None


def make_report(  # noqa: PLR0913 - everything a report is made of
    problem: Problem,
    given: object,
    options: Options,
    status: Status,
    total: Outcome,
    told: Told,
    *,
    seconds: float,
    phases: dict[str, float],
) -> Report:
    """The report of a finished run."""
    models = list(problem.models.values())
    decided = status in (Status.SAT, Status.UNSAT)
    closed = 1.0 if status is Status.UNSAT else min(total.closed, 1.0)
    facts = Facts(
        total.reason,
        options.semantics,
        closed,
        seconds,
        told.forward and not told.hulls,
        told.root.loosest if told.root else "",
        told.root.width if told.root else 0.0,
        told.checkpoint,
        told.wanted_certificate,
    )
    return Report(
        status=status,
        reason=UnknownReason.NONE if decided else total.reason,
        semantics=options.semantics,
        witness=None if total.sat is None else total.sat.witness,
        stats=Stats(
            domains=total.bounded,
            leaves=total.leaves,
            settled_float64=told.counts.float64,
            settled_exact=told.counts.exact,
            seconds=seconds,
            phases=phases,
        ),
        lower_bound=None if decided or total.worst is None or not np.isfinite(total.worst) else total.worst,
        closed_fraction=closed,
        certificate=told.certificate,
        model=", ".join(m.path for m in models) if models else str(given),
        property=problem.property.source,
        model_sha256=digests(models),
        property_sha256=problem.property.sha256,
        input_names=names(problem.property, "input"),
        output_names=names(problem.property, "output"),
        strategy=_strategy(problem.graph, told),
        explanation=_explanation(problem, told),
        hardest=None if decided else told.hardest,
        advice=() if decided else advice(facts),
        resumed=told.resumed,
        checkpoint=told.checkpoint,
        picture=told.picture,
        notes=tuple(told.notes),
        seed=options.seed,
        version=VERSION,
    )


def digests(models: Sequence[Model]) -> str:
    """The models' digests as one text."""
    return ", ".join(m.sha256 for m in models)


def names(prop: Property, kind: str) -> tuple[str, ...]:
    """Element names as the property writes them: ``X_3`` in VNN-LIB 1.0, ``X[0,3]`` in 2.0."""
    out: list[str] = []
    for v in prop.variables:
        if (v.kind == "input") != (kind == "input"):
            continue
        if prop.language == "vnnlib-2":
            out += [f"{v.name}[{','.join(map(str, i))}]" for i in np.ndindex(*v.shape)]
        else:
            out += [f"{v.name}_{i}" for i in range(v.size)]
    return tuple(out)


def _units(graph: Graph) -> str:
    kinds = (
        (graph.relus, "rectified neurons"),
        (graph.scalars, "smooth or stepped ones"),
        (graph.products, "products"),
    )
    sizes = [(sum(n.size for n in nodes), name) for nodes, name in kinds]
    return ", ".join(f"{size} {name}" for size, name in sizes if size) or "no nonlinear neurons"


def _strategy(graph: Graph, told: Told) -> str:
    how = "forward and backward linear bounds" if told.forward else "backward linear bounds"
    how += " and hulls of the first rectifiers" if told.hulls else ""
    inputs = told.forward and not told.hulls
    return (
        f"{graph.input_size} inputs, {_units(graph)}: {how} in rigorous float32, splitting "
        f"{'input ranges' if inputs else 'operands of nonlinear steps'}; "
        f"close calls settled in float64, ties in exact rationals"
    )


def _explanation(problem: Problem, told: Told) -> tuple[str, ...]:
    """Why the engine went about it as it did, line by line."""
    graph, cases = problem.graph, problem.property.cases
    disjuncts = sum(len(c.disjuncts) for c in cases)
    lines = [
        f"property: {len(cases)} input box{'es' if len(cases) != 1 else ''}, {disjuncts} ways to violate it",
        f"network: {graph.input_size} inputs of which at most {told.varying} vary, {_units(graph)}",
    ]
    if told.hulls:
        lines.append(
            "hulls of the first rectifiers say far more than triangles: operands of nonlinear steps are split"
        )
    elif told.forward:
        lines.append("few inputs vary: boxes are bounded forwards and backwards, and their inputs are split")
    else:
        lines.append("many inputs vary: halving them is hopeless, so operands of nonlinear steps are split")
    if told.many:
        lines.append(f"{told.many} boxes were first bounded together; what that left was searched one by one")
    if told.root is not None:
        root = told.root
        lines.append(
            f"nonlinear steps: {root.ambiguous} of {root.elements} elements are not linear on the first box"
        )
        if root.loosest:
            lines.append(f"bounds are loosest at node '{root.loosest}' (mean width {root.width:.3g})")
    kinds = list(dict.fromkeys(n.op.name.lower() for n in graph.nodes))
    lines.append(f"operators after rewriting: {', '.join(kinds)}")
    return tuple(lines)
