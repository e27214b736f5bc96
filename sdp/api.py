"""``sdp.lipschitz``: a Lipschitz constant of a network, from both sides."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput, LimitExceeded, SureboundError
from bounds.graph import Array, Graph
from bounds.io.onnx import Model, load
from sdp.chain import Chain, Infeasible
from sdp.cut import NONLINEAR
from sdp.increments import read_chain
from sdp.lipsdp import SolverFailed
from sdp.lower import Sampling, lower_bound
from sdp.methods import GREEDY, METHODS, PRODUCT, Problem, choose, solve
from sdp.modules import is_module, model_of
from sdp.objective import Norm, Pair
from sdp.prepare import prepare
from sdp.region import Region, ranges_on
from sdp.result import Certified, Layout, LipschitzBound, elements_of
from sdp.slopes import FAR
from sdp.spectral import structured_product

AUTO, FREQUENCY = "auto", "frequency"
SHARE = 0.7  # of the time for the convolutions of a network, by frequency
NAMES = (AUTO, PRODUCT, FREQUENCY, *METHODS)
DEFAULT_SECONDS = 120.0
NO_FREQUENCIES = (
    "by frequency only global bounds from the 2-norm are found, of networks that begin with zero-padded "
    "convolutions and rectifiers, within a limit of size; use --method auto"
)


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits.

    Attributes:
        seconds: of searching for multipliers.
        sampling: for the lower bound; None: no lower bound.
        seed: of the sampling.
    """

    seconds: float = DEFAULT_SECONDS
    sampling: Sampling | None = field(default_factory=Sampling)
    seed: int = 0


def lipschitz(  # noqa: PLR0913 - one argument per option
    model: Any,
    *,
    norm: object = 2,
    output_norm: object | None = None,
    method: str = AUTO,
    region: Region | None = None,
    rows: Array | None = None,
    effort: Effort | None = None,
    example: Any = None,
) -> LipschitzBound:
    """Bounds ``|f(x) - f(y)| / |x - y|`` over all pairs of inputs.

    Args:
        model: an ONNX file, a loaded model, a graph, or a ``torch.nn.Module``; inputs and outputs count
            flattened and concatenated.
        norm: of inputs: 1, 2 or "inf".
        output_norm: of outputs; by default 2 for 2, and the input's own otherwise.
        method: one of ``NAMES``.
        region: only pairs in this box or ball count (a local bound).
        rows: ``S outputs``, bounds ``rows @ f`` instead (class margins, say).
        effort: limits.
        example: of a module: a tensor of the input's shape, or the shape (:func:`sdp.modules.model_of`).

    Returns:
        The bound; ``upper`` is proved, over the reals, with all rounding paid for.

    Raises:
        ModelUnsupported: a step has no bounded slope; the message names the node.
        BadInput: an option cannot be used.
        LimitExceeded: the network is too large for dense steps.
    """
    effort = effort or Effort()
    pair = _pair(norm, output_norm)
    if method not in NAMES:
        raise BadInput(f"unknown method '{method}'; choose one of {', '.join(NAMES)}")
    original = _graph(model, example)
    prepared = prepare(original)
    graph = prepared.graph
    if region is not None:
        region = region.checked(graph.input_size)
    start = time.monotonic()
    ranges = {} if region is None else ranges_on(graph, region)
    rows = None if rows is None else _checked_rows(rows, graph.output_size)
    layout: Layout | None = None
    try:
        if method == FREQUENCY:
            raise LimitExceeded("asked for")
        chain = read_chain(graph, ranges)
    except LimitExceeded as error:
        solved = None
        if method in (AUTO, FREQUENCY) and pair.inputs is Norm.TWO and region is None:
            solved = _by_frequency(graph, pair, rows, start, effort.seconds)
        if solved is not None:
            found, notes = solved
            name, count = FREQUENCY, _elements(graph)
        elif rows is not None or pair != Pair(Norm.TWO, Norm.TWO) or method not in (AUTO, PRODUCT):
            if method == FREQUENCY:
                raise BadInput(NO_FREQUENCIES) from None
            raise
        else:
            found, name = [Certified(structured_product(graph, ranges))], PRODUCT
            notes, count = [f"{PRODUCT}: {error}"], _elements(graph)
    else:
        count, layout = chain.elements, elements_of(original, prepared, chain)
        chain = chain if rows is None else chain.with_outputs(rows)
        found, name, notes = _solve(chain, pair, method, start + effort.seconds)
    if any(np.isinf(ends).any() for n in graph.scalars for ends in ranges.get(n.inputs[0], (np.inf,))):
        notes.append(FAR)
    seconds = time.monotonic() - start
    lower = 0.0
    if effort.sampling is not None:
        rng = np.random.default_rng(effort.seed)
        lower = lower_bound(graph, pair, rng, rows=rows, region=region, sampling=effort.sampling)
    return LipschitzBound(
        max((c.upper for c in found), default=0.0),
        lower,
        name,
        seconds,
        True,
        pair.inputs.value,
        pair.outputs.value,
        tuple(found),
        count,
        region is not None,
        tuple(notes),
        layout,
        region,
        rows,
    )


def _elements(graph: Graph) -> int:
    return sum(n.size for n in graph.nodes if n.op in NONLINEAR)


def _by_frequency(
    graph: Graph, pair: Pair, rows: Array | None, start: float, seconds: float
) -> tuple[list[Certified], list[str]] | None:
    """Convolutions first, by frequency, then the rest by itself: constants of a composition multiply."""
    from sdp.torus import bound_convolutions, split

    parts = split(graph)
    if parts is None:
        return None
    front = bound_convolutions(parts, lambda: time.monotonic() > start + SHARE * seconds)
    if front is None:
        return None
    notes = [f"{FREQUENCY}: {len(parts.layers)} convolutions with one multiplier per channel"]
    if parts.rest is None:
        if pair.outputs is not Norm.TWO or rows is not None:
            return None
        return [Certified(front)], notes
    left = max(seconds - (time.monotonic() - start), 1.0)
    back = lipschitz(
        parts.rest, norm="2", output_norm=pair.outputs.value, rows=rows,
        effort=Effort(left, None),
    )  # fmt: skip
    notes.append(f"the rest: {back.upper:.6g} by {back.method}")
    return [Certified(front * row.upper * (1 + 2.0**-50)) for row in back.rows], notes


def margins(classes: int, label: int | None = None) -> Array:
    """Rows ``e_y - e_j`` of one label (to all others), or of every pair."""
    eye = np.eye(classes)
    if label is not None:
        return np.array([eye[label] - eye[j] for j in range(classes) if j != label])
    return np.array([eye[i] - eye[j] for i in range(classes) for j in range(i + 1, classes)])


def _graph(model: Any, example: Any) -> Graph:
    if isinstance(model, Graph):
        return model
    if is_module(model):
        return model_of(model, example).graph
    if not isinstance(model, str | Path | Model):
        raise BadInput(
            f"a {type(model).__name__} is no model; give an ONNX file, a Model, a Graph or a module"
        )
    return (model if isinstance(model, Model) else load(model)).graph


def _pair(norm: object, output_norm: object | None) -> Pair:
    try:
        inputs = Norm.of(norm)
        return Pair(inputs, inputs if output_norm is None else Norm.of(output_norm))
    except ValueError:
        raise BadInput(f"norms are 1, 2 and inf, not {norm!r} and {output_norm!r}") from None


def _checked_rows(rows: Array, outputs: int) -> Array:
    rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != outputs or not np.isfinite(rows).all():
        raise BadInput(f"rows must be finite numbers, {outputs} in each row")
    return rows


def _solve(chain: Chain, pair: Pair, method: str, end: float) -> tuple[list[Certified], str, list[str]]:
    count = chain.outputs
    if pair.by_row:
        chains = [Chain(chain.x, chain.steps, chain.c.rows(np.array([i]))) for i in range(count)]
        problems = [Problem(c, np.ones(1), pair.inputs) for c in chains]
    else:
        # |y|_1^2 <= m |y|_2^2
        weight = float(count) if pair.outputs is Norm.ONE else 1.0
        problems = [Problem(chain, np.full(count, weight), pair.inputs)]
    notes: list[str] = []
    if method == AUTO and problems:
        method, why = choose(problems[0])
        notes.append(f"{method}: {why}")
    found: list[Certified] = []
    begun, total = time.monotonic(), len(problems)
    for i, problem in enumerate(problems):
        # what is left is shared evenly
        share = begun + (end - begun) * (i + 1) / total
        problem = replace(problem, should_stop=lambda share=share: time.monotonic() > share)
        try:
            try:
                found.append(solve(problem, method))
            except SolverFailed as error:
                notes.append(f"{error}; a closed form stands in")
                method = GREEDY
                found.append(solve(problem, method))
        except Infeasible:
            raise SureboundError("no bound could be proved: the network's numbers are too extreme") from None
    return found, method, notes


__all__ = ["AUTO", "GREEDY", "NAMES", "Effort", "LimitExceeded", "lipschitz", "margins"]
