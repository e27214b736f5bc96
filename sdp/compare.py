"""Every method on one network, and pictures of what they give."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from bounds.errors import SureboundError
from bounds.graph import Array
from sdp.api import Effort, lipschitz
from sdp.chain import Chain, Infeasible, Multipliers, backward, largest
from sdp.chart import Chart, Series, svg
from sdp.increments import read_chain
from sdp.prepare import prepare
from sdp.region import ranges_on
from sdp.result import LipschitzBound

# what a comparison runs; solvers are asked for by name
COMPARED = ("product", "greedy", "eclipse-fast", "eclipse-cf", "eclipse", "first-order", "interior")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One method: its bound, or why there is none."""

    method: str
    bound: LipschitzBound | None
    seconds: float
    error: str = ""


def compare(model: Any, methods: tuple[str, ...] = COMPARED, **options: Any) -> list[Outcome]:
    """Runs methods one after the other (options: as for :func:`sdp.lipschitz`)."""
    effort: Effort = options.pop("effort", None) or Effort()
    found: list[Outcome] = []
    for method in methods:
        start = time.monotonic()
        one = Effort(effort.seconds, effort.sampling if not found else None, effort.seed)
        try:
            bound = lipschitz(model, method=method, effort=one, **options)
        except SureboundError as error:
            found.append(Outcome(method, None, time.monotonic() - start, str(error)))
            continue
        if bound.method != method:  # something else stood in
            found.append(Outcome(method, None, bound.seconds, "; ".join(bound.notes)))
            continue
        found.append(Outcome(method, bound, bound.seconds))
    return found


def table(outcomes: list[Outcome]) -> list[str]:
    """Lines for people."""
    lines = [f"{'method':<24} {'upper (proved)':>16} {'claimed':>14} {'seconds':>9}"]
    for one in outcomes:
        if one.bound is None:
            lines.append(f"{one.method:<24} {'-':>16} {'-':>14} {one.seconds:9.2f}  {one.error}")
            continue
        claimed = max((row.claimed for row in one.bound.rows), default=float("nan"))
        said = f"{claimed:14.9g}" if np.isfinite(claimed) else f"{'-':>14}"
        lines.append(f"{one.method:<24} {one.bound.upper:16.9g} {said} {one.seconds:9.2f}")
    return lines


def bound_by_layer(graph: Any, bound: LipschitzBound) -> tuple[list[float], list[float]] | None:
    """From the input and every state to the output: by the bound's multipliers, and by the product of norms.

    Plain floating point, for pictures. None where there are no multipliers of one problem.
    """
    prepared = prepare(graph).graph
    ranges = {} if bound.region is None else ranges_on(prepared, bound.region)
    if not bound.rows or not bound.rows[0].multipliers:
        return None
    chain = read_chain(prepared, ranges)
    if bound.combinations is not None:
        chain = chain.with_outputs(bound.combinations)
    weights = bound.rows[0].weights
    assert weights is not None
    return _by_state(chain, list(bound.rows[0].multipliers), weights)


def _by_state(chain: Chain, lam: Multipliers, weights: Array) -> tuple[list[float], list[float]] | None:
    c = chain.c.value
    try:
        values = backward(chain, lam, (c.T * weights) @ c).q
    except Infeasible:
        return None
    x = chain.x.value
    ours = [float(np.sqrt(largest(q))) for q in (x.T @ values[0] @ x, *values)]
    product = [ours[-1]]
    for step in reversed(chain.steps):
        f, g, d = (_norm(m.value) for m in (step.f, step.g, step.d))
        product.append(product[-1] * (f + g * d))
    product.append(product[-1] * _norm(x))
    return ours, product[::-1]


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a, 2)) if a.size else 0.0


def picture(graph: Any, outcomes: list[Outcome], best: LipschitzBound) -> str:
    """SVG: bound against time for all methods, and the best bound by layer."""
    known = [(o.method, o.bound.upper, max(o.seconds, 1e-3)) for o in outcomes if o.bound is not None]
    series = [Series(name, [seconds], [upper], "dots") for name, upper, seconds in known]
    if best.lower > 0 and known:
        ends = [min(s for *_, s in known), max(s for *_, s in known)]
        series.append(Series("sampled lower", ends, [best.lower] * 2))
    charts = [Chart("Bound against time", "seconds", "Lipschitz bound", series, True, True)]
    layers = bound_by_layer(graph, best)
    if layers is not None:
        numbers = list(range(len(layers[0])))
        both = [Series(best.method, numbers, layers[0]), Series("norm product", numbers, layers[1])]
        charts.append(
            Chart("From the input (0) and each state to the output", "state", "bound", both, False, True)
        )
    return svg(charts)
