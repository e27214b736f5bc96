"""Defects planted on purpose: each must be noticed by the soundness check that guards its place.

A check is a function that returns faults. It finds none in the code as it is, and some in the code with
the defect; so a green soundness suite means something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import curved_defects
import numpy as np
import pytest
from oracles import (
    RULES,
    Machine,
    beats_exact,
    exactly,
    interval_faults,
    line_faults,
    objective_faults,
    objective_values,
    points,
    tape_faults,
    tape_of,
)
from strategies import Box, build, objectives

from bounds import evaluate as reference
from bounds.domain import Domains
from bounds.graph import Array, Graph
from bounds.kernels.numpy import NumpyKernels
from bounds.methods import backward, objective, rule
from bounds.methods.bounder import BounderOptions, BoxBounder
from bounds.methods.objective import bound_objectives, compile_objectives
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding
from bounds.ops import base, conv
from bounds.ops.conv import ConvGeometry
from bounds.ops.linear import DenseMap
from bounds.ops.structure import TakeMap
from bounds.relax.relu import relax_relu
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row

Faults = list[str]
Patch = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


# ---- the checks


def networks(scale: str = "ordinary") -> list[tuple[Graph, Box]]:
    """A fixed handful that exercises everything."""
    if scale == "curved":
        return curved_defects.curved_networks()
    if scale == "one":  # for checks that have networks of their own
        return curved_defects.curved_networks()[:1]
    plans = (
        ["dense_relu", "dense_relu", "linear"],
        ["conv", "dense_relu", "take", "linear"],
        ["residual", "abs", "conv_transpose", "dense_relu"],
        ["max", "take", "leaky", "sum"],
    )
    out: list[tuple[Graph, Box]] = []
    for seed in range(8):
        graph = build(seed, plans[seed % 4], scale=scale, inputs=(2,))
        lo = np.random.default_rng(seed).uniform(-1, 0.3, (2, 2))
        out.append((graph, Box(lo, lo + 0.7)))
    return out


def sampling(graph: Graph, box: Box) -> Faults:
    """Sampled values against intervals, lines and objective bounds."""
    found: Faults = []
    for precision in (FLOAT32, FLOAT64):
        tape = tape_of(graph, box, precision, RULES["both"])
        source = objectives(1, graph)
        lower = bound_objectives(tape, compile_objectives(tape.plan, source)).lower
        for b in range(len(box.lo)):
            x = points(np.random.default_rng(0), box.lo[b], box.hi[b], count=8)
            values = reference.evaluate_nodes(graph, x)
            found += tape_faults(graph, tape, b, values)
            y = np.concatenate([values[p.node].reshape(len(x), -1) for p in graph.outputs], axis=1)
            found += objective_faults(lower[b], objective_values(source, x, y))
    return found


def intervals(graph: Graph, box: Box) -> Faults:
    """The exact interval image lies inside."""
    tapes = (tape_of(graph, box, p, RULES["intervals"]) for p in (FLOAT32, FLOAT64))
    return [f for tape in tapes for f in interval_faults(graph, tape, box)]


def underflow(graph: Graph, box: Box) -> Faults:
    """The same on large boxes, where stored numbers too small for float32 count."""
    return intervals(graph, Box(box.lo * 1e30, box.hi * 1e30))


def lines(graph: Graph, box: Box) -> Faults:
    """Relaxations are valid at the ends of their intervals, exactly."""
    tapes = (tape_of(graph, box, p, RULES["both"]) for p in (FLOAT32, FLOAT64))
    return [f for tape in tapes for f in line_faults(tape)]


def rounding(graph: Graph, box: Box) -> Faults:
    """Rounded bounds do not beat exact ones made of the same lines."""
    tapes = (tape_of(graph, box, p, RULES["both"]) for p in (FLOAT32, FLOAT64))
    return [
        f
        for tape in tapes
        for seed in range(3)
        for f in beats_exact(graph, tape, box, objectives(seed, graph))
    ]


def machines(graph: Graph, box: Box) -> Faults:
    """Float32 evaluations lie inside at level float32."""
    tape = tape_of(graph, box, FLOAT64, RULES["both"], NetworkRounding())
    machine, found = Machine(graph, np.random.default_rng(0)), []
    for b in range(len(box.lo)):
        x = points(np.random.default_rng(1), box.lo[b], box.hi[b], count=4, float32=True)
        for one in x[:10]:
            found += tape_faults(graph, tape, b, [v[None] for v in machine.run(one)])
    return found


def degenerate(graph: Graph, box: Box) -> Faults:
    """The same network on single points, where nothing but rounding separates bound and value."""
    at = Box(box.lo, box.lo)
    return sampling(graph, at) + machines(graph, Box(*(2 * (np.float32(box.lo).astype(np.float64),))))


def cover(graph: Graph, box: Box) -> Faults:
    """Children cover their parent and have fresh ids."""
    del graph
    n = len(box.lo)
    parent = Domains(box.lo, box.hi, np.arange(n), np.ones((n, 1), bool), np.zeros(n), np.ones(n))
    dim = np.zeros(n, dtype=int)
    at = (box.lo[:, 0] + box.hi[:, 0]) / 2
    children = parent.split(dim, at, n)
    found: Faults = []
    for b in range(n):
        (l0, h0), (l1, h1) = ((children.lo[i], children.hi[i]) for i in (b, n + b))
        # over the reals: the children meet in the split dimension and are their parent in all others
        meet = l0[0] == box.lo[b, 0] and h0[0] >= l1[0] and h1[0] == box.hi[b, 0]
        same = all(
            np.array_equal(x[1:], y[1:]) for x, y in ((l0, l1), (h0, h1), (l0, box.lo[b]), (h0, box.hi[b]))
        )
        found += [] if meet and same else [f"children of {b} leave a gap"]
    if len({*children.id.tolist(), *parent.id.tolist()}) != 3 * n:
        found.append("ids are not unique")
    return found


def balls(graph: Graph, box: Box) -> Faults:
    """The ball in working precision holds the box, exactly."""
    del graph
    found: Faults = []
    for precision in (FLOAT32, FLOAT64):
        centre, radius = (exactly(v) for v in rule.box_to_centre(box.lo, box.hi, precision))
        if not ((centre - radius <= exactly(box.lo)).all() and (exactly(box.hi) <= centre + radius).all()):
            found.append(f"{precision.name}: the ball misses a part of the box")
    return found


def ties(graph: Graph, box: Box) -> Faults:
    """``relu(x) > 0`` on [-1, 0] is false: only the strict row is refuted."""
    del graph, box
    b = build(0, ["relu"], inputs=(1,))
    rows = tuple((Row({0: 1}, {}, 0, strict),) for strict in (True, False))
    wide = objectives_of(Case((-1,), (1,), rows), 1, b.output_size)
    refuted = BoxBounder(b, wide, EXACT, BounderOptions()).bound(
        exactly(np.array([[-1.0]])), exactly(np.array([[0.0]])), np.ones((1, 2), dtype=bool)
    ).refuted  # fmt: skip
    return ["a row that may be 0 was refuted"] if refuted[0, 1] else []


def not_a_number(graph: Graph, box: Box) -> Faults:
    """NaN objectives refute nothing; NaN intervals are no fixed phase."""
    source = replace(objectives(0, graph), d=np.full(3, np.nan))
    found = BoxBounder(graph, source, FLOAT64, BounderOptions()).bound(
        box.lo, box.hi, np.ones((len(box.lo), source.groups), dtype=bool)
    )
    faults = ["a NaN bound refuted a group"] if found.refuted.any() else []
    nan = np.full((1, 1), np.nan)
    relu = rule.relax_relu(NumpyKernels(FLOAT64), nan, nan, None)
    return faults + (
        [] if np.isnan(relu.upper + relu.offset).all() else ["a NaN interval became a fixed phase"]
    )


CHECKS: dict[str, tuple[Callable[[Graph, Box], Faults], str]] = {
    "sampling": (sampling, "ordinary"),
    "intervals": (intervals, "ordinary"),
    "lines": (lines, "ordinary"),
    "rounding": (rounding, "ordinary"),
    "machines": (machines, "ordinary"),
    "degenerate": (degenerate, "ordinary"),
    "cover": (cover, "ordinary"),
    "balls": (balls, "ordinary"),
    "ties": (ties, "ordinary"),
    "not-a-number": (not_a_number, "ordinary"),
    "underflow": (underflow, "tiny64"),
    **curved_defects.CHECKS,
}


def run(check: str) -> Faults:
    """The faults a check finds in the first of its networks that has some."""
    search, scale = CHECKS[check]
    return next((found for graph, box in networks(scale) if (found := search(graph, box))), [])


# ---- the defects


def _lines(change: Callable[[Any, Any], Any]) -> Patch:
    """Changes the relaxation after it was made: ``change(kernels, relu)``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        def relax(kernels: Any, lo: Any, hi: Any, spread: Any) -> Any:
            relu = relax_relu(kernels, lo, hi, spread)
            change(kernels, relu)
            return relu

        patch.setattr(rule, "relax_relu", relax)

    return plant


def _slope_too_steep(kernels: Any, relu: Any) -> None:
    relu.lower = kernels.where(relu.ambiguous, relu.lower + 0.25, relu.lower)


def _slope_negative(kernels: Any, relu: Any) -> None:
    relu.lower = kernels.where(relu.ambiguous, relu.lower - 0.125, relu.lower)


def _intercept_to_nearest(kernels: Any, relu: Any) -> None:
    relu.offset = kernels.where(relu.ambiguous, -relu.upper * relu.lo, 0)


def _no_intercept(kernels: Any, relu: Any) -> None:
    relu.offset = relu.offset * 0


def _phase_swapped(kernels: Any, relu: Any) -> None:
    relu.lower = kernels.where(relu.lo >= 0, 0, relu.lower)
    relu.upper = kernels.where(relu.lo >= 0, 0, relu.upper)


def _nan_is_inactive(kernels: Any, relu: Any) -> None:
    for name in ("upper", "offset"):
        value = getattr(relu, name)
        setattr(relu, name, kernels.where(np.isnan(value), 0, value))


def _sign_of_rows(patch: pytest.MonkeyPatch) -> None:
    honest = NumpyKernels.relax
    patch.setattr(
        NumpyKernels, "relax", lambda self, a, lower, upper, offset: honest(self, a, upper, lower, offset)
    )


def _sign_of_drop(patch: pytest.MonkeyPatch) -> None:
    honest = NumpyKernels.relax

    def relax(self: Any, a: Any, lower: Any, upper: Any, offset: Any) -> Any:
        part, drop = honest(self, a, lower, upper, offset)
        return part, -drop

    patch.setattr(NumpyKernels, "relax", relax)


def _no_radius(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NumpyKernels, "concretize", lambda self, a, centre, *_: self.rowdot(a, centre))


def _no_pad(patch: pytest.MonkeyPatch) -> None:
    honest = backward.concretize

    def concretize(tape: Any, a: Any, rows: Any) -> Any:
        lower = honest(tape, a, rows)
        return lower + rows.pad if tape.kernels.precision.u else lower

    patch.setattr(objective, "concretize", concretize)


def _bias_forgotten(patch: pytest.MonkeyPatch) -> None:
    honest = objective.backward

    def pushed(tape: Any, rows: Any, *rest: Any) -> Any:
        before = rows.const
        a = honest(tape, rows, *rest)
        if rows.const.shape == before.shape:
            rows.const = before
        else:
            rows.const = np.tile(before, len(rows.const) // len(before))
        return a

    patch.setattr(objective, "backward", pushed)


def _box_inward(patch: pytest.MonkeyPatch) -> None:
    def ball(lo: Array, hi: Array, precision: Any) -> tuple[Array, Array]:
        kind = object if precision is EXACT else precision.dtype
        return ((lo + hi) / 2).astype(kind), ((hi - lo) / 2 * (1 - 2 * precision.u)).astype(kind)

    patch.setattr(rule, "box_to_centre", ball)


def _take_off_by_one(patch: pytest.MonkeyPatch) -> None:
    honest = TakeMap.__init__

    def init(self: Any, kernels: Any, index: Array, fill: Any, inner: int) -> None:
        honest(self, kernels, np.where(index > 0, index - 1, index), fill, inner)

    patch.setattr(TakeMap, "__init__", init)


def _matrix_error_dropped(patch: pytest.MonkeyPatch) -> None:
    from bounds import plan

    patch.setattr(plan, "_relative", lambda *given: 0 if given[-1].precision.u == 0 else 0.0)
    patch.setattr(rule._Pass, "_affine", _affine_without_rounding)


def _affine_without_rounding(self: Any, step: Any) -> None:
    """Interval arithmetic as one would write it without thinking of rounding."""
    honest = NumpyKernels(self.k.precision)
    lows = [self.intervals[s][0] for s in step.sources]
    highs = [self.intervals[s][1] for s in step.sources]
    centres = [(a + b) / 2 for a, b in zip(lows, highs, strict=True)]
    radii = [(b - a) / 2 for a, b in zip(lows, highs, strict=True)]
    value, spread = step.map.apply(centres), step.map.apply_abs(radii)
    value = value if step.map.bias is None else value + step.map.bias
    self.intervals[step.slot] = (value - spread, value + spread)
    self.tape.error[step.slot] = honest.zeros(value.shape[1])
    self.forward = False


def _network_rounding_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NetworkRounding, "relative", lambda *_: 0.0)
    patch.setattr(NetworkRounding, "absolute", lambda *_: 0.0)


def _adjoint_transposed(patch: pytest.MonkeyPatch) -> None:
    def adjoint(self: Any, a: Any) -> Any:
        # the absolute matrix instead of the signed one
        return (self.kernels.matmul(a, abs(self.weight)),)

    patch.setattr(DenseMap, "adjoint", adjoint)


def _gap_between_children(patch: pytest.MonkeyPatch) -> None:
    honest = Domains.split

    def split(self: Any, dim: Array, at: Array, first_id: int) -> Any:
        children = honest(self, dim, at, first_id)
        n = len(self)
        children.lo[n + np.arange(n), dim] = np.nextafter(at, np.inf)
        return children

    patch.setattr(Domains, "split", split)


def _ids_reused(patch: pytest.MonkeyPatch) -> None:
    honest = Domains.split
    patch.setattr(Domains, "split", lambda self, dim, at, first_id: honest(self, dim, at, first_id - 1))


def _zero_is_positive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BoxBounder, "_proved", lambda *given: np.asarray(given[1] >= 0, dtype=bool))


def _not_negative_is_positive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BoxBounder, "_proved", lambda *given: ~np.asarray(given[1] <= 0, dtype=bool))


def _underflow_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(base, "conversion_error", lambda *given: 1.01 * given[1].precision.u)


def _kernel_mirrored(patch: pytest.MonkeyPatch) -> None:
    honest, pairs = ConvGeometry.taps, conv._pairs

    def taps(self: Any) -> Any:
        found = honest(self)
        where = [slices for _, _, *slices in found][::-1]
        return [(i, j, *slices) for (i, j, *_), slices in zip(found, where, strict=True)]

    patch.setattr(ConvGeometry, "taps", taps)
    # those that become matrices
    patch.setattr(conv, "_pairs", lambda g, tap, axis: pairs(g, g.kernel[axis] - 1 - tap, axis))


DEFECTS: dict[str, tuple[Patch, tuple[str, ...]]] = {
    "lower slope above 1": (_lines(_slope_too_steep), ("lines", "sampling")),
    "lower slope below 0": (_lines(_slope_negative), ("lines", "sampling")),
    "intercept rounded to nearest": (_lines(_intercept_to_nearest), ("lines",)),
    "no intercept": (_lines(_no_intercept), ("lines", "sampling")),
    "active taken for inactive": (_lines(_phase_swapped), ("lines", "sampling")),
    "NaN taken for inactive": (_lines(_nan_is_inactive), ("not-a-number",)),
    "upper and lower line swapped": (_sign_of_rows, ("sampling",)),
    "sign of the intercepts": (_sign_of_drop, ("sampling",)),
    "radius forgotten": (_no_radius, ("sampling",)),
    "bias forgotten": (_bias_forgotten, ("sampling",)),
    "final error term dropped": (_no_pad, ("rounding",)),
    "box rounded inwards": (_box_inward, ("balls",)),
    "TAKE off by one": (_take_off_by_one, ("sampling", "intervals")),
    "interval arithmetic to nearest": (_matrix_error_dropped, ("degenerate",)),
    "network rounding dropped": (_network_rounding_dropped, ("degenerate",)),
    "adjoint of |W|": (_adjoint_transposed, ("sampling",)),
    "gap between children": (_gap_between_children, ("cover",)),
    "ids reused": (_ids_reused, ("cover",)),
    "zero refutes a loose row": (_zero_is_positive, ("ties",)),
    "NaN refutes": (_not_negative_is_positive, ("not-a-number",)),
    "underflow of weights forgotten": (_underflow_is_forgotten, ("underflow",)),
    "kernel mirrored": (_kernel_mirrored, ("sampling", "intervals")),
    **curved_defects.DEFECTS,
}


@pytest.mark.parametrize("check", CHECKS)
def test_checks_find_nothing_in_honest_code(check: str) -> None:
    assert run(check) == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_noticed(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, checks = DEFECTS[defect]
    plant(monkeypatch)
    for check in checks:
        assert run(check), f"'{check}' does not notice: {defect}"


def test_every_check_is_needed() -> None:
    used = {check for _, checks in DEFECTS.values() for check in checks}
    assert used | {"machines", "curved-rounding"} == set(CHECKS)
