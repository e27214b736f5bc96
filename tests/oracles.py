"""Independent judges of bounds and verdicts: exact rationals, rounded evaluations, enumeration.

A judge returns the list of what is wrong (empty when all is well), so that tests of planted defects can
ask whether a judge notices. Nothing here compares one of our bounds with another, except
:func:`beats_exact`, which compares a rounded pass with the *same* linear algebra over the rationals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import precise
from scipy.optimize import linprog
from strategies import Box

from bounds import evaluate as reference
from bounds.domain import Objectives
from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import is_rational
from bounds.graph import Array, Graph, Node, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods import objective
from bounds.methods.backward import concretize
from bounds.methods.parameters import Parameters
from bounds.methods.rule import Rule, _Pass, relax_boxes
from bounds.methods.tape import Tape
from bounds.numerics import EXACT, NetworkRounding, Precision
from bounds.plan import NONLINEAR, ProductStep, ReluStep, ScalarStep, compile_plan
from bounds.relax.base import Choice, Relaxation
from bounds.relax.elementwise import ScalarRelaxation
from bounds.relax.product import ProductRelaxation
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation

RULES = {
    "intervals": Rule(forward=False, refine=False),
    "forward": Rule(forward=True, refine=False),
    "backward": Rule(forward=False, refine=True),
    "both": Rule(forward=True, refine=True),
}


def exactly(values: Any) -> Array:
    """An object array of Fractions of the same shape."""
    array = np.asarray(values)
    out = np.empty(array.size, dtype=object)
    out[:] = [Fraction(v) for v in array.reshape(-1).tolist()]
    return out.reshape(array.shape)


def points(rng: np.random.Generator, lo: Array, hi: Array, *, count: int = 6, float32: bool = False) -> Array:
    """``M d`` exact points of one box: corners, the middle, random ones; optionally float32 numbers only."""
    corners = [np.where(bits, hi, lo) for bits in itertools.product((0, 1), repeat=len(lo))]
    inner = lo + rng.random((count, len(lo))) * (hi - lo)
    mixed = np.where(
        rng.random((count, len(lo))) < 0.5, inner, np.where(rng.random((count, len(lo))) < 0.5, lo, hi)
    )
    zero = np.zeros((1, len(lo)))
    floats = np.concatenate([np.array(corners), inner, mixed, zero, -zero])
    if float32:
        with np.errstate(over="ignore"):
            floats = floats.astype(np.float32).astype(np.float64)
        return exactly(floats[((floats >= lo) & (floats <= hi)).all(axis=1)])
    return exactly(np.clip(floats, lo, hi))


def tape_of(
    graph: Graph, box: Box, precision: Precision, rule: Rule, network: NetworkRounding | None = None
) -> Tape:
    """The bounds of one block of boxes."""
    plan = compile_plan(graph, NumpyKernels(precision), network)
    lo, hi = (exactly(box.lo), exactly(box.hi)) if precision is EXACT else (box.lo, box.hi)
    with np.errstate(all="ignore"):
        return relax_boxes(plan, lo, hi, rule)


def _bound(values: Any) -> Any:
    """Numbers as they are: Fractions stay exact, floats become Python floats."""
    return [v if isinstance(v, Fraction) else float(v) for v in np.asarray(values).reshape(-1)]


def _beyond(low: Any, value: Any, high: Any, blur: Fraction = Fraction(0)) -> bool:
    if low != low or high != high:
        return False
    doubt = blur * (abs(value) + 1)
    return not (low <= value + doubt and value - doubt <= high)


# what sixty-digit values of smooth functions may be off by, times 1 + |value|; rational ones are exact
BLUR = Fraction(1, 10**50)


def blur_of(graph: Graph) -> Fraction:
    """How exactly :func:`node_values` knows a graph's values."""
    rational = all(is_rational(n.params["function"]) for n in graph.nodes if n.op is Op.SCALAR)
    return Fraction(0) if rational else BLUR


def node_values(graph: Graph, x: Array) -> tuple[Array, list[Array]]:
    """The points ``x: M d`` where the network is defined, and all node values ``M *n`` there.

    Exact, but for functions that leave the rationals: those to sixty digits (:mod:`precise`).
    """
    kept: list[Array] = []
    found: list[list[Array]] = []
    for point in x:
        try:
            found.append(_values_at(graph, point[None]))
            kept.append(point)
        except (precise.UndefinedError, precise.TooLargeError):
            continue
    if not kept:
        return x[:0], []
    return np.array(kept, dtype=object), [np.concatenate(v) for v in zip(*found, strict=True)]


def _values_at(graph: Graph, x: Array) -> list[Array]:
    values: list[Array] = []
    start = 0
    for node in graph.nodes:
        operands = [values[k] for k in node.inputs]
        if node.op is Op.INPUT:
            out = x[:, start : start + node.size].reshape(1, *node.shape)
            start += node.size
        elif node.op is Op.SCALAR:
            out = _precisely(node, operands[0])
        else:
            out = reference.apply_node(node, operands, None, np.dtype(object))
        values.append(out)
    return values


def _precisely(node: Node, z: Array) -> Array:
    out = np.empty(z.size, dtype=object)
    out[:] = [precise.value(node.params["function"], v) for v in z.reshape(-1)]
    return out.reshape(z.shape)


def output_values(graph: Graph, values: list[Array]) -> Array:
    """``M outputs`` from all node values."""
    return np.concatenate([values[p.node].reshape(len(values[0]), -1) for p in graph.outputs], axis=1)


Lines = tuple[list[Array], Array]
"""Affine functions: per operand ``R n`` slopes, and ``R n`` constants."""


def pushed_lines(relaxation: Relaxation, dom: Any, choice: Choice | None, size: int) -> tuple[Lines, Lines]:
    """Lower and upper lines of every element over boxes ``dom: R``, as rows see them.

    A unit row times a line is not rounded, so these are the very numbers that must be sound.
    """
    kernels = relaxation.kernels  # type: ignore[attr-defined]
    found: list[Lines] = []
    for sign in (1, -1):
        parts: list[list[Any]] = []
        consts: list[Any] = []
        for j in range(size):
            row = np.zeros((len(dom), size))
            row[:, j] = sign
            with np.errstate(all="ignore"):
                pushed = relaxation.push(kernels.array(row), dom, choice)
            parts.append([_host(kernels, p)[:, j] * sign for p in pushed.parts])
            consts.append(_host(kernels, pushed.drop) * sign)
        slopes = [np.stack(columns, axis=1) for columns in zip(*parts, strict=True)]
        found.append((slopes, np.stack(consts, axis=1)))
    return found[0], found[1]


def _host(kernels: Any, values: Any) -> Any:
    return np.asarray(values) if kernels.precision is EXACT else kernels.numpy(values)


def affine_value(slopes: Sequence[Any], const: Any, at: Sequence[Fraction]) -> Any:
    """``slopes . at + const`` exactly; NaN where one of the numbers is infinite or none."""
    numbers = [*slopes, const]
    if not all(isinstance(v, Fraction) or np.isfinite(v) for v in numbers):
        return np.nan
    return sum(Fraction(s) * z for s, z in zip(slopes, at, strict=True)) + Fraction(const)


def curve_faults(tape: Tape, index: int, node: Node, box: int, operands: list[Array]) -> list[str]:
    """Intervals and lines of a function or product in a tape, at exact operand values ``M n``."""
    relaxation = tape.relaxations[index]
    if isinstance(relaxation, ScalarRelaxation):
        ends = [(relaxation.lo, relaxation.hi)]
        truth = _precisely(node, operands[0])
        blur = Fraction(0) if is_rational(node.params["function"]) else BLUR
    else:
        assert isinstance(relaxation, ProductRelaxation)
        ends = [(relaxation.xl, relaxation.xu), (relaxation.yl, relaxation.yu)]
        truth, blur = operands[0] * operands[1], Fraction(0)
    found: list[str] = []
    for (lo, hi), z in zip(ends, operands, strict=True):
        found += _between(f"operand of {node.id}", _bound(lo[box]), z, _bound(hi[box]), BLUR)
    low, high = pushed_lines(relaxation, tape.kernels.array(np.array([box])), None, truth.shape[1])
    for m, j in np.ndindex(truth.shape):
        at = [z[m, j] for z in operands]
        below, above = (affine_value([s[0, j] for s in slopes], c[0, j], at) for slopes, c in (low, high))
        sides = (-np.inf if below != below else below, np.inf if above != above else above)
        if _beyond(sides[0], truth[m, j], sides[1], blur + BLUR * (blur > 0)):
            found.append(f"lines of {node.id}[{j}] fail at {[float(z) for z in at]}")
    return found


def slots_of(graph: Graph) -> dict[int, int]:
    """Node -> slot of its plan."""
    slots: dict[int, int] = {}
    for node in graph.nodes:
        slots[node.id] = slots[node.inputs[0]] if node.op is Op.RESHAPE else len(set(slots.values()))
    return slots


def pass_of(
    graph: Graph, box: Box, precision: Precision, rule: Rule, network: NetworkRounding | None = None
) -> _Pass:
    """A finished pass of the rule that has kept the intervals and forms of all slots."""
    plan = compile_plan(graph, NumpyKernels(precision), network)
    lo, hi = (exactly(box.lo), exactly(box.hi)) if precision is EXACT else (box.lo, box.hi)
    with np.errstate(all="ignore"):
        done = _Pass(plan, lo, hi, rule)
        done.last = {}
        done.run()
    return done


def slot_faults(
    graph: Graph, done: _Pass, box: int, x: Array, values: list[Array], blur: Fraction = Fraction(0)
) -> list[str]:
    """Faults of all intervals and forward forms at points ``x: M d`` of one box."""
    found: list[str] = []
    slots = slots_of(graph)
    centre, radius = (exactly(v[box]) for v in (done.centre, done.radius))
    e = ((x - centre) / np.where(radius == 0, Fraction(1), radius))[
        :, np.asarray(done.tape.columns, dtype=int)
    ]
    for node in graph.nodes:
        v = values[node.id].reshape(len(x), -1)
        lo, hi = done.intervals[slots[node.id]]
        found += _between(f"interval of {node.id}", _bound(lo[box]), v, _bound(hi[box]), blur)
        form = done.forms.get(slots[node.id])
        if form is not None:
            found += _form_faults(f"form of {node.id}", form.rows[box], form.rho[box], e, v, blur)
    return found


def _form_faults(what: str, rows: Any, rho: Any, e: Array, values: Array, blur: Fraction) -> list[str]:
    """``rows: (v + 1) n``, ``rho: n``, exact ``e: M v`` and ``values: M n``."""
    found: list[str] = []
    for j, reach in enumerate(_bound(rho)):
        column = _bound(rows[:, j])
        if not all(isinstance(c, Fraction) or np.isfinite(c) for c in [*column, reach]):
            continue
        if reach < 0:
            found.append(f"{what}[{j}]: negative radius")
        for m in range(len(e)):
            middle = affine_value(column[:-1], column[-1], list(e[m]))
            if _beyond(middle - Fraction(reach), values[m, j], middle + Fraction(reach), blur):
                found.append(f"{what}[{j}] misses {float(values[m, j])}")
    return found


def tape_faults(
    graph: Graph, tape: Tape, box: int, values: list[Array], blur: Fraction = Fraction(0)
) -> list[str]:
    """Faults of a tape for exact node values ``values[node]: M *n`` of points of one box."""
    found: list[str] = []
    curved = [
        (i, n) for i, n in enumerate(n for n in graph.nodes if n.op in NONLINEAR) if n.op is not Op.RELU
    ]
    for index, node in curved:
        operands = [values[k].reshape(len(values[0]), -1) for k in node.inputs]
        found += curve_faults(tape, index, node, box, operands)
    for node, relu in zip(graph.relus, tape.relus, strict=True):
        z = values[node.inputs[0]].reshape(len(values[0]), -1)
        y = values[node.id].reshape(len(values[0]), -1)
        found += _between(f"input of {node.id}", _bound(relu.lo[box]), z, _bound(relu.hi[box]), blur)
        slopes = (_bound(getattr(relu, f)[box]) for f in ("lower", "upper", "offset"))
        for j, (s, t, b) in enumerate(zip(*slopes, strict=True)):
            if any(x != x or x in (np.inf, -np.inf) for x in (s, t, b)):
                continue
            for zj, yj in zip(z[:, j], y[:, j], strict=True):
                if not Fraction(s) * zj <= yj <= Fraction(t) * zj + Fraction(b):
                    found.append(f"relaxation of neuron {node.id}[{j}] fails at {float(zj)}")
    for port, slot in zip(graph.outputs, tape.plan.outputs, strict=True):
        lo, hi = tape.outputs[slot]
        v = values[port.node].reshape(len(values[0]), -1)
        found += _between(f"output {port.name}", _bound(lo[box]), v, _bound(hi[box]), blur)
    return found


def _between(what: str, low: Any, values: Array, high: Any, blur: Fraction = Fraction(0)) -> list[str]:
    return [
        f"{what}[{j}]: {float(v)} outside [{float(a)}, {float(b)}]"
        for j, (a, b) in enumerate(zip(low, high, strict=True))
        for v in values[:, j]
        if _beyond(a, v, b, blur)
    ]


def objective_values(source: Objectives, x: Array, y: Array) -> Array:
    """``M S`` exact values of all rows at exact inputs ``x`` and outputs ``y``."""
    c, g, d = source.rational()
    return y @ c.T + x @ g.T + d


def objective_faults(lower: Any, values: Array, blur: Fraction = Fraction(0)) -> list[str]:
    """Rows whose bound ``lower: S`` lies above an exact value ``values: M S``."""
    return [
        f"row {s}: bound {float(b)!r} above value {float(v)!r}"
        for s, b in enumerate(_bound(lower))
        for v in values[:, s]
        if b == b and not b <= v + blur * (abs(v) + 1)
    ]


def line_faults(tape: Tape) -> list[str]:
    """Relaxations checked exactly at the two ends of their interval (enough: the function is convex)."""
    found: list[str] = []
    for i, relu in enumerate(tape.relus):
        fields = [_bound(getattr(relu, f)) for f in ("lo", "hi", "lower", "upper", "offset")]
        for j, numbers in enumerate(zip(*fields, strict=True)):
            if any(x != x or x in (np.inf, -np.inf) for x in numbers):
                continue
            lo, hi, low, high, offset = (Fraction(x) for x in numbers)
            if not 0 <= low <= 1:
                found.append(f"rectifier {i}[{j}]: lower slope {float(low)} outside [0, 1]")
            found += [
                f"rectifier {i}[{j}]: lines fail at {float(z)}"
                for z in (lo, hi)
                if not low * z <= max(z, 0) <= high * z + offset
            ]
    return found


def interval_faults(graph: Graph, tape: Tape, box: Box) -> list[str]:
    """For a tape of pure intervals: every interval holds the exact interval image of the whole box."""
    found: list[str] = []
    for b in range(len(box.lo)):
        lows, highs = _image(graph, exactly(box.lo[b]), exactly(box.hi[b]))
        for node, relu in zip(graph.relus, tape.relus, strict=True):
            for values in (lows[node.inputs[0]], highs[node.inputs[0]]):
                flat = values.reshape(1, -1)
                found += _between(f"input of {node.id}", _bound(relu.lo[b]), flat, _bound(relu.hi[b]))
        for port, slot in zip(graph.outputs, tape.plan.outputs, strict=True):
            lo, hi = tape.outputs[slot]
            for values in (lows[port.node], highs[port.node]):
                found += _between("output", _bound(lo[b]), values.reshape(1, -1), _bound(hi[b]))
    return found


def _image(graph: Graph, lo: Array, hi: Array) -> tuple[list[Array], list[Array]]:
    """Exact interval arithmetic, node by node."""
    lows: list[Array] = []
    highs: list[Array] = []
    start = 0
    for node in graph.nodes:
        if node.op is Op.INPUT:
            lows.append(lo[start : start + node.size])
            highs.append(hi[start : start + node.size])
            start += node.size
        elif node.op is Op.RELU:
            lows.append(np.maximum(lows[node.inputs[0]], 0))
            highs.append(np.maximum(highs[node.inputs[0]], 0))
        else:
            matrices, bias = matrix_of(graph, node)
            low, high = bias.copy(), bias.copy()
            for w, k in zip(matrices, node.inputs, strict=True):
                up, down = np.maximum(w, 0), np.minimum(w, 0)
                low = low + up @ lows[k] + down @ highs[k]
                high = high + up @ highs[k] + down @ lows[k]
            lows.append(low)
            highs.append(high)
    return lows, highs


def matrix_of(graph: Graph, node: Node) -> tuple[list[Array], Array]:
    """``(W_k, b)`` of an affine node, read off the reference evaluation at unit vectors, exactly."""
    shapes = [graph.nodes[k].shape for k in node.inputs]
    sizes = [int(np.prod(s)) for s in shapes]

    def at(operands: list[Array]) -> Array:
        shaped = [v.reshape(len(v), *s) for v, s in zip(operands, shapes, strict=True)]
        return reference.apply_node(node, shaped, None, np.dtype(object)).reshape(len(operands[0]), -1)

    bias = at([_zeros(1, n) for n in sizes])[0]
    matrices: list[Array] = []
    for k, n in enumerate(sizes):
        operands = [_zeros(n, m) for m in sizes]
        operands[k] = exactly(np.eye(n))
        matrices.append((at(operands) - bias).T)
    return matrices, bias


def _zeros(*shape: int) -> Array:
    return np.full(shape, Fraction(0), dtype=object)


# ---- the network as some float32 machine computes it


class Machine:
    """One admissible float32 evaluation: random summation order, fused or not, subnormals flushed or not."""

    def __init__(self, graph: Graph, rng: np.random.Generator) -> None:
        self.graph, self.rng = graph, rng
        self.maps = {
            n.id: _sparse(*matrix_of(graph, n))
            for n in graph.nodes
            if n.op is not Op.INPUT and n.op not in NONLINEAR and n.roundings
        }

    def run(self, x: Array) -> list[Array]:
        """Exact values of every node at one float32 point ``x: d`` (raises OverflowError)."""
        self.fused, self.flush = bool(self.rng.random() < 0.5), bool(self.rng.random() < 0.3)
        values: list[Array] = []
        start = 0
        for node in self.graph.nodes:
            operands = [values[k] for k in node.inputs]
            if node.op is Op.INPUT:
                out = x[start : start + node.size].reshape(node.shape)
                start += node.size
            elif node.source == "leaky":
                z = operands[0].reshape(-1)
                out = np.array([v if v > 0 else self.round(v / 4) for v in z], dtype=object).reshape(
                    node.shape
                )
            elif node.op is Op.SCALAR and node.roundings:
                out = self.scalar(node, operands[0])
            elif node.op is Op.MUL and node.roundings:
                pairs = zip(operands[0].reshape(-1), operands[1].reshape(-1), strict=True)
                out = np.array([self.round(a * b) for a, b in pairs], dtype=object).reshape(node.shape)
            elif node.id in self.maps:
                flat = [float(v) for o in operands for v in o.reshape(-1)]
                rows = [self.dot(bias, terms, flat) for bias, terms in self.maps[node.id]]
                out = exactly(np.array(rows)).reshape(node.shape)
            else:
                out = reference.apply_node(node, [o[None] for o in operands], None, np.dtype(object))[0]
            values.append(out)
        return values

    def scalar(self, node: Node, z: Array) -> Array:
        """A function as float32 code computes it, operation by operation."""
        y = evaluate_expression(node.params["function"], z.astype(np.float64).astype(np.float32))
        return exactly([self.narrow(float(v)) for v in y.reshape(-1)]).reshape(node.shape)

    def dot(self, bias: float, terms: list[tuple[int, float]], x: list[float]) -> float:
        """``sum w x + bias`` in float32, in a random order and association."""
        parts: list[tuple[float, float]] = [(w, x[i]) for i, w in terms]
        parts = [parts[i] for i in self.rng.permutation(len(parts))]
        if self.fused:
            total = bias
            for w, v in parts:
                total = float(self.round(Fraction(w) * Fraction(v) + Fraction(total)))
            return total
        # in float64 a product of float32 numbers is exact and a sum rounds innocuously
        sums = [self.narrow(w * v) for w, v in parts] + ([bias] if bias else [])
        while len(sums) > 1:
            i = int(self.rng.integers(len(sums) - 1))
            sums[i : i + 2] = [self.narrow(sums[i] + sums[i + 1])]
        return sums[0] if sums else 0.0

    def narrow(self, value: float) -> float:
        with np.errstate(over="ignore", under="ignore"):
            out = float(np.float32(value))
        if not np.isfinite(out):
            raise OverflowError
        return 0.0 if self.flush and abs(out) < float(np.finfo(np.float32).tiny) else out

    def round(self, value: Fraction) -> Fraction:
        """The nearest float32 number (no double rounding)."""
        near = np.float32(self.narrow(float(value)))
        around = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
        best = min((Fraction(float(v)) for v in around if np.isfinite(v)), key=lambda v: abs(v - value))
        return Fraction(self.narrow(float(best)))


def _sparse(matrices: list[Array], bias: Array) -> list[tuple[float, list[tuple[int, float]]]]:
    whole = np.concatenate(matrices, axis=1)
    return [
        (float(b), [(i, float(w)) for i, w in enumerate(row) if w])
        for b, row in zip(bias, whole, strict=True)
    ]


# ---- rounded passes against the same algebra over the rationals


def with_choices(
    tape: Tape, compiled: objective.CompiledObjectives, choose: Callable[[int, Any], Choice]
) -> Array:
    """``D S`` lower bounds of all rows with the choices ``choose(index of the relaxation, dom)``."""
    boxes, rows_count = len(tape), compiled.source.rows
    dom = np.repeat(np.arange(boxes), rows_count)
    picks = np.tile(np.arange(rows_count), boxes)
    rows = objective._start(tape, compiled, picks, dom)
    own = [choose(i, dom) for i in range(len(tape.relaxations))]
    a = objective._finish_inputs(tape, compiled, rows, picks, None, own)
    return np.asarray(concretize(tape, a, rows)).reshape(boxes, rows_count)


def with_slopes(tape: Tape, compiled: objective.CompiledObjectives, slopes: list[Any]) -> Array:
    """``D S`` lower bounds of all rows of a rectifier network with given lower slopes (each ``D n``)."""
    return with_choices(tape, compiled, lambda i, dom: (tape.kernels.take(slopes[i], dom),))


def stored_choice(tape: Tape, index: int, dom: Any, parameters: Parameters) -> Choice:
    """What a certificate's parameters (``R`` rows) mean to a tape's relaxation, over boxes ``dom: R``."""
    plan, k, relaxation = tape.plan, tape.kernels, tape.relaxations[index]
    step = plan.nonlinear[index]
    own = slice(step.offset, step.offset + step.size)

    def steps(values: Array) -> Any:
        return k.array(values.astype(np.float64) / SLOPE_STEPS)

    if isinstance(step, ReluStep):
        return (steps(parameters.slopes[:, own]),)
    if isinstance(step, ProductStep):
        right = slice(plan.products + step.offset, plan.products + step.offset + step.size)
        return relaxation.choose(dom, (steps(parameters.mixes[:, own]), steps(parameters.mixes[:, right])))
    assert isinstance(step, ScalarStep)
    right = slice(plan.scalars + step.offset, plan.scalars + step.offset + step.size)
    lines = [k.array(parameters.lines[:, part].astype(np.float64)) for part in (own, right)]
    places = relaxation.initial(dom)
    return relaxation.stored(dom, (*places[:2], *lines, *places[4:]))


def exact_twin(graph: Graph, tape: Tape, box: Box) -> Tape:
    """A tape in rational arithmetic with the very lines of a floating-point tape."""
    twin = tape_of(graph, box, EXACT, RULES["intervals"])
    for mine, theirs in zip(twin.relaxations, tape.relaxations, strict=True):
        for name in _numbers_of(theirs):
            setattr(mine, name, _exactly_all(getattr(theirs, name)))
    return twin


def _numbers_of(relaxation: Relaxation) -> tuple[str, ...]:
    """The fields that a relaxation's lines are made of."""
    if isinstance(relaxation, ReluRelaxation):
        return ("lower", "upper", "offset")
    return ("lines",) if isinstance(relaxation, ScalarRelaxation) else ("xl", "xu", "yl", "yu", "mixes")


def _exactly_all(values: Any) -> Any:
    return tuple(exactly(v) for v in values) if isinstance(values, tuple) else exactly(values)


def beats_exact(graph: Graph, tape: Tape, box: Box, source: Objectives) -> list[str]:
    """A rounded bound above the exact bound made of the same lines: rounding was not paid for."""
    numbers = [getattr(r, f) for r in tape.relaxations for f in _numbers_of(r)]
    if not all(np.isfinite(n).all() for n in numbers):
        return []
    twin = exact_twin(graph, tape, box)
    with np.errstate(all="ignore"):
        mine = objective.bound_objectives(tape, objective.compile_objectives(tape.plan, source)).lower
    best = objective.bound_objectives(twin, objective.compile_objectives(twin.plan, source)).lower
    return [
        f"box {b} row {s}: rounded {float(mine[b, s])!r} > exact {float(best[b, s])!r}"
        for b in range(len(mine))
        for s in range(mine.shape[1])
        if mine[b, s] == mine[b, s] and not float(mine[b, s]) <= best[b, s]
    ]


# ---- the truth about whole properties


def least_margin(
    weights: Sequence[tuple[Array, Array]], lo: Array, hi: Array, rows: Sequence[tuple[Array, float]]
) -> float:
    """The least ``max_r (c_r . y + d_r)`` over a box, for a dense ReLU network, by enumerating patterns.

    Positive: no input satisfies all of ``c_r . y + d_r <= 0``. Every activation pattern is one linear
    programme in (x, t); the pattern tree is pruned by feasibility.
    """
    d = len(lo)

    def solve(layer: int, mapped: Array, shift: Array, cuts: list[tuple[Array, float]]) -> float:
        """``mapped x + shift`` is the input of ``layer``; ``cuts`` are rows ``a x <= b``."""
        w, b = weights[layer]
        z, s = w @ mapped, w @ shift + b
        if layer == len(weights) - 1:
            last = [(np.append(c @ z, -1.0), -(float(c @ s) + const)) for c, const in rows]
            return _lp(d, lo, hi, [(np.append(a, 0.0), v) for a, v in cuts] + last)
        spread = np.abs(z) @ ((hi - lo) / 2)
        middle = z @ ((hi + lo) / 2) + s
        choices = [
            (True,) if m - r >= 0 else (False,) if m + r <= 0 else (True, False)
            for m, r in zip(middle, spread, strict=True)
        ]
        best = np.inf
        for pattern in itertools.product(*choices):
            more = [
                (-z[i], s[i]) if on else (z[i], -s[i]) for i, on in enumerate(pattern) if len(choices[i]) == 2
            ]
            keep = np.array(pattern, dtype=float)
            best = min(best, solve(layer + 1, z * keep[:, None], s * keep, cuts + more))
        return best

    return solve(0, np.eye(d), np.zeros(d), [])


def _lp(d: int, lo: Array, hi: Array, cuts: list[tuple[Array, float]]) -> float:
    target = np.append(np.zeros(d), 1.0)
    limits = [*zip(lo, hi, strict=True), (None, None)]
    a, b = np.array([c for c, _ in cuts]), np.array([v for _, v in cuts])
    out = linprog(target, A_ub=a, b_ub=b, bounds=limits, method="highs")
    return float(out.fun) if out.status == 0 else np.inf


def exact_least(
    weights: Sequence[tuple[Array, Array]], lo: Fraction, hi: Fraction, rows: Sequence[tuple[Array, Fraction]]
) -> Fraction:
    """The same for a single input, exactly: the input range is cut at every breakpoint."""
    pieces: list[tuple[Fraction, Fraction]] = [(lo, hi)]
    for depth in range(len(weights) - 1):
        pieces = [part for piece in pieces for part in _cut(piece, lambda x, k=depth: _hidden(weights, k, x))]
    pieces = [part for piece in pieces for part in _cut_pairs(piece, lambda x: _rows(weights, rows, x))]
    return min(max(_rows(weights, rows, x)) for piece in pieces for x in piece)


def _hidden(weights: Sequence[tuple[Array, Array]], depth: int, x: Fraction) -> list[Fraction]:
    """Inputs of the rectifiers of layer ``depth``."""
    v = np.array([x], dtype=object)
    for k in range(depth + 1):
        w, b = weights[k]
        v = exactly(w) @ (np.maximum(v, 0) if k else v) + exactly(b)
    return list(v)


def _rows(
    weights: Sequence[tuple[Array, Array]], rows: Sequence[tuple[Array, Fraction]], x: Fraction
) -> list[Fraction]:
    y = np.array(_hidden(weights, len(weights) - 1, x), dtype=object)
    return [Fraction((exactly(c) * y).sum() + d) for c, d in rows]


def _cut(piece: tuple[Fraction, Fraction], at: Any) -> list[tuple[Fraction, Fraction]]:
    """Cuts a piece on which all values are affine where one of them is zero."""
    a, b = piece
    return _pieces(a, b, [(u, v) for u, v in zip(at(a), at(b), strict=True)])


def _cut_pairs(piece: tuple[Fraction, Fraction], at: Any) -> list[tuple[Fraction, Fraction]]:
    a, b = piece
    left, right = at(a), at(b)
    pairs = list(itertools.combinations(range(len(left)), 2))
    return _pieces(a, b, [(left[i] - left[j], right[i] - right[j]) for i, j in pairs])


def _pieces(
    a: Fraction, b: Fraction, ends: list[tuple[Fraction, Fraction]]
) -> list[tuple[Fraction, Fraction]]:
    zeros = {a + (b - a) * u / (u - v) for u, v in ends if (u < 0 < v) or (v < 0 < u)}
    marks = sorted({a, b} | zeros)
    return [(a, b)] if len(marks) == 1 else list(itertools.pairwise(marks))
