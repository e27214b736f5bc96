"""Checks and planted defects of functions and products, for :mod:`test_planted_bugs`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from oracles import (
    RULES,
    Machine,
    beats_exact,
    blur_of,
    curve_faults,
    exactly,
    node_values,
    objective_faults,
    objective_values,
    output_values,
    pass_of,
    points,
    slot_faults,
    tape_faults,
    tape_of,
)
from strategies import WILD_FUNCTIONS, Box, Sketch, build, objectives

from bounds.expression import Fn, X, call
from bounds.graph import Array, Graph, Op
from bounds.kernels import numpy as kernels_numpy
from bounds.kernels.numpy import NumpyKernels
from bounds.methods import rule
from bounds.methods.objective import bound_objectives, compile_objectives, optimise_slopes
from bounds.numerics import EXACT, FLOAT32, FLOAT64, NetworkRounding
from bounds.plan import NONLINEAR, ProductStep
from bounds.relax import elementwise
from bounds.relax.base import Form, outward_form
from bounds.relax.elementwise import ScalarRelaxation, lines_of, relax_scalar
from bounds.relax.product import ProductRelaxation
from bounds.relax.scalar import ScalarFunction, scalar_function
from verifier.search.objectives import objectives_of
from verifier.spec.model import Case, Row

Faults = list[str]
Patch = Callable[[pytest.MonkeyPatch], None]

# ---- the networks and checks


def curved_networks() -> list[tuple[Graph, Box]]:
    """A handful in which functions follow affine layers, each other, TAKE and products."""
    plans = (
        ["linear", "smooth", "linear", "product", "linear", "rational", "take", "smooth"],
        ["linear", "rational", "smooth", "product", "linear", "take", "rational", "sum"],
        ["linear", "smooth", "smooth", "product", "dense_relu", "take", "smooth"],
    )
    out: list[tuple[Graph, Box]] = []
    for seed in range(6):
        graph = build(seed + 20, plans[seed % 3], inputs=(2,))
        lo = np.random.default_rng(seed).uniform(-1, 0.3, (2, 2))
        out.append((graph, Box(lo, lo + 0.7)))
    return out


def curved(graph: Graph, box: Box) -> Faults:
    """Sampled values against intervals, forms, lines, objective bounds and optimised rows."""
    found: Faults = []
    for precision in (FLOAT32, FLOAT64):
        done = pass_of(graph, box, precision, RULES["both"])
        source, blur, count = objectives(1, graph), blur_of(graph), len(box.lo)
        compiled = compile_objectives(done.tape.plan, source)
        where, picks = np.repeat(np.arange(count), source.rows), np.tile(np.arange(source.rows), count)
        bounds = bound_objectives(done.tape, compiled).lower
        best = optimise_slopes(done.tape, compiled, where, picks, 2, keep_slopes=False).lower
        for b in range(count):
            x, values = node_values(
                graph, points(np.random.default_rng(0), box.lo[b], box.hi[b], count=2)[:6]
            )
            if not len(x):
                continue
            found += tape_faults(graph, done.tape, b, values, blur) + slot_faults(
                graph, done, b, x, values, blur
            )
            truth = objective_values(source, x, output_values(graph, values))
            found += objective_faults(bounds[b], truth, blur)
            found += objective_faults(best.reshape(count, -1)[b], truth, blur)
    return found


def curved_lines(graph: Graph, box: Box) -> Faults:
    """Lines and planes hold at the corners of their own intervals, and between, exactly."""
    found: Faults = []
    for precision in (FLOAT32, FLOAT64):
        tape = tape_of(graph, box, precision, RULES["both"])
        for index, node in enumerate(n for n in graph.nodes if n.op in NONLINEAR):
            relaxation = tape.relaxations[index]
            for b in range(len(box.lo)):
                if not all(np.isfinite(v[b]).all() for v in _interval_ends(relaxation)):
                    continue
                if isinstance(relaxation, ScalarRelaxation):
                    lo, hi = exactly(relaxation.lo[b]), exactly(relaxation.hi[b])
                    operands = [np.stack([lo + (hi - lo) * Fraction(t) for t in (0, 1, 0.25, 0.5, 0.75)])]
                elif isinstance(relaxation, ProductRelaxation):
                    x, y = (
                        [exactly(v[b]) for v in ends]
                        for ends in ((relaxation.xl, relaxation.xu), (relaxation.yl, relaxation.yu))
                    )
                    operands = [np.stack([x[0], x[0], x[1], x[1]]), np.stack([y[0], y[1], y[0], y[1]])]
                else:
                    continue
                found += curve_faults(tape, index, node, b, operands)
    return found


def _interval_ends(relaxation: Any) -> tuple[Any, ...]:
    if isinstance(relaxation, ProductRelaxation):
        return relaxation.xl, relaxation.xu, relaxation.yl, relaxation.yu
    return relaxation.lo, relaxation.hi


def curved_rounding(graph: Graph, box: Box) -> Faults:
    """Rounded bounds do not beat exact ones made of the same lines."""
    tapes = (tape_of(graph, box, p, RULES["both"]) for p in (FLOAT32, FLOAT64))
    return [
        f
        for tape in tapes
        for seed in range(3)
        for f in beats_exact(graph, tape, box, objectives(seed, graph))
    ]


def biased_chain(length: int) -> Graph:
    """``c_1 (c_2 (... x))`` as functions of functions, where every product with a row rounds up.

    Nothing but the charge between nonlinear steps pays for that: one row, no intercepts, no affine layer.
    """
    rng, row, factors = np.random.default_rng(3), np.float32(1), list[float]()
    for _ in range(length):
        tried = rng.uniform(0.5, 1.0, 200).astype(np.float32) * np.float32(1 if row > 1 else 2)
        exact = tried.astype(np.float64) * float(row)
        best = int(((tried * row).astype(np.float64) / exact).argmax())
        row = tried[best] * row
        factors.append(float(tried[best]))
    s = Sketch(rng, "ordinary")
    x = s.builder.input("x", (1, 1))
    for factor in reversed(factors):
        x = s.put(Op.SCALAR, (x,), params={"function": factor * X})
    s.builder.output("y", x)
    return s.builder.build()


def chains(graph: Graph, box: Box) -> Faults:
    """A bound of ``y`` at x = 1 does not beat the exact product."""
    del graph, box
    graph, box = biased_chain(40), Box(np.ones((1, 1)), np.ones((1, 1)))
    source = objectives_of(Case((0,), (1,), ((Row({0: 1}, {}, 0),),)), 1, 1)
    tape = tape_of(graph, box, FLOAT32, RULES["intervals"])
    lower = bound_objectives(tape, compile_objectives(tape.plan, source)).lower
    x, values = node_values(graph, exactly(box.lo))
    return objective_faults(lower[0], objective_values(source, x, output_values(graph, values)))


def curved_machines(graph: Graph, box: Box) -> Faults:
    """Float32 evaluations lie inside at level float32, on boxes and on points."""
    found: Faults = []
    at = np.float32(box.lo).astype(np.float64)
    for where in (box, Box(at, at)):
        done = pass_of(graph, where, FLOAT64, RULES["both"], NetworkRounding())
        machine = Machine(graph, np.random.default_rng(0))
        for b in range(len(where.lo)):
            for x in points(np.random.default_rng(1), where.lo[b], where.hi[b], count=2, float32=True)[:6]:
                values = [v[None] for v in machine.run(x)]
                found += tape_faults(graph, done.tape, b, values) + slot_faults(
                    graph, done, b, x[None], values
                )
    return found


def product_machines(graph: Graph, box: Box) -> Faults:
    """A product of two inputs in float32, on points: only its own rounding is there."""
    del graph, box
    s = Sketch(np.random.default_rng(0), "ordinary")
    x, y = (s.builder.input(name, (1, 4)) for name in "xy")
    s.builder.output("z", s.put(Op.MUL, (x, y), roundings=1))
    at = np.random.default_rng(1).standard_normal((1, 8)).astype(np.float32).astype(np.float64)
    return curved_machines(s.builder.build(), Box(at, at))


def interpolated(graph: Graph, box: Box) -> Faults:
    """Chosen lines below z^2 touch it at half their slope: ``k z + b <= z^2`` there means b <= -k^2 / 4."""
    del graph, box
    rng, kernels = np.random.default_rng(0), NumpyKernels(FLOAT32)
    lo = kernels.array(rng.uniform(0.5, 1.0, (1, 64)))
    relaxation = relax_scalar(kernels, scalar_function(X**2), lo, lo + 1, None)
    relaxation.prepare()
    # places on the grid, where the line is one of the prepared ones and nothing else hides rounding
    shares = [kernels.array(rng.integers(1, 16, (64, 64)) / 16) for _ in range(2)]
    choice = relaxation.choose(np.zeros(64, dtype=int), tuple(shares))
    slope, below = exactly(choice[2]), exactly(choice[4])
    touches = (slope / 2 >= exactly(lo)) & (slope / 2 <= exactly(lo + 1))
    return [
        f"a chosen line of slope {float(k)} cuts z^2" for k in slope[touches & (below > -slope * slope / 4)]
    ]


def far_forms(graph: Graph, box: Box) -> Faults:
    """Forms around 4096, where centre and intercept nearly cancel."""
    del graph, box
    found: Faults = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        s = Sketch(rng, "ordinary")
        x = s.builder.input("x", (1, 4))
        s.builder.output("y", s.put(Op.SCALAR, (x,), params={"function": call(Fn.TANH, X - 4096.0)}))
        graph, lo = s.builder.build(), 4096 + rng.uniform(-1, 1, (1, 4))
        done = pass_of(graph, Box(lo, lo + 1e-9), FLOAT32, RULES["forward"])
        found += slot_faults(graph, done, 0, *node_values(graph, exactly(lo)), blur_of(graph))
    return found


def infinite_products(graph: Graph, box: Box) -> Faults:
    """x in [0, 1] times a function that overflows reaches 0."""
    del graph, box
    s = Sketch(np.random.default_rng(0), "dyadic")
    x, y = (s.builder.input(name, (1, 1)) for name in "xy")
    steep = s.put(Op.SCALAR, (y,), params={"function": WILD_FUNCTIONS["exp-exp"]})
    s.builder.output("z", s.put(Op.MUL, (x, steep)))
    graph, box = s.builder.build(), Box(np.zeros((1, 2)), np.array([[1.0, 10.0]]))
    at = node_values(graph, exactly(np.array([[0.0, 0.5]])))
    return [
        f
        for p in (FLOAT32, FLOAT64, EXACT)
        for f in slot_faults(graph, pass_of(graph, box, p, RULES["both"]), 0, *at)
    ]


CHECKS: dict[str, tuple[Callable[[Graph, Box], Faults], str]] = {
    "curved": (curved, "curved"),
    "curved-lines": (curved_lines, "curved"),
    "curved-rounding": (curved_rounding, "curved"),
    "curved-machines": (curved_machines, "curved"),
    "chains": (chains, "one"),
    "product-machines": (product_machines, "one"),
    "interpolated": (interpolated, "one"),
    "far-forms": (far_forms, "one"),
    "infinite-products": (infinite_products, "one"),
}


# ---- the defects


def _planes(change: Callable[[Any, Any, Any, Any], Any]) -> Patch:
    """Changes the planes: ``change(relaxation, dom, choice, honest planes)``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        honest = ProductRelaxation._planes
        patch.setattr(
            ProductRelaxation,
            "_planes",
            lambda self, dom, choice: change(self, dom, choice, honest(self, dom, choice)),
        )

    return plant


def _wrong_corner(self: Any, dom: Any, choice: Any, planes: Any) -> Any:
    xl, xu, yl, yu = (self.kernels.take(v, dom) for v in (self.xl, self.xu, self.yl, self.yu))
    (p, q, _), high = planes
    return (p, q, -(choice[0] * xl * yu + (1 - choice[0]) * xu * yl)), high


def _planes_swapped(self: Any, dom: Any, choice: Any, planes: Any) -> Any:
    del self, dom, choice
    return planes[1], planes[0]


def _not_moved(self: Any, dom: Any, choice: Any, planes: Any) -> Any:
    """The planes' constants as computed, ``off`` = 0."""
    xl, xu, yl, yu = (self.kernels.take(v, dom) for v in (self.xl, self.xu, self.yl, self.yu))
    ((p, q, _), (v, w, _)), (r, s) = planes, choice
    low, high = -(r * xl * yl + (1 - r) * xu * yu), -(s * xl * yu + (1 - s) * xu * yl)
    return (p, q, low), (v, w, high)


def _ends_only(patch: pytest.MonkeyPatch) -> None:
    honest = ScalarFunction.intercepts

    def intercepts(self: Any, lo: Any, hi: Any, kl: Any, ku: Any) -> tuple[Any, Any]:
        """As if no segment between the ends could hold the extreme."""
        at = [honest(self, z, z, kl, ku) for z in (np.asarray(lo), np.asarray(hi))]
        return np.minimum(at[0][0], at[1][0]), np.maximum(at[0][1], at[1][1])

    patch.setattr(ScalarFunction, "intercepts", intercepts)


def _interpolation_unpaid(patch: pytest.MonkeyPatch) -> None:
    honest = ScalarRelaxation.prepare

    def prepare(self: Any) -> None:
        kernels = self.kernels
        self.kernels = copy.copy(kernels)
        self.kernels.precision = replace(kernels.precision, u=kernels.precision.u * 2.0**-60, eta=0.0)
        honest(self)
        self.kernels = kernels

    patch.setattr(ScalarRelaxation, "prepare", prepare)


def _nobody_pays_between(patch: pytest.MonkeyPatch) -> None:
    honest = rule._Pass.__init__

    def init(self: Any, *given: Any) -> None:
        honest(self, *given)
        self.between = set()

    patch.setattr(rule._Pass, "__init__", init)


def _model_error_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rule._Pass, "_model_error", lambda self, step, *_: self.k.zeros(step.size))


def _product_rounding_dropped(patch: pytest.MonkeyPatch) -> None:
    honest = rule._Pass._relax

    def relax(self: Any, step: Any, *given: Any) -> Any:
        product = isinstance(step, ProductStep)
        return honest(self, replace(step, network=0.0, network_eta=0.0) if product else step, *given)

    patch.setattr(rule._Pass, "_relax", relax)


def _scattered(patch: pytest.MonkeyPatch) -> None:
    honest = rule.origin_of

    def origin_of(plan: Any, slot: int) -> tuple[int, Any]:
        origin, index = honest(plan, slot)
        return origin, index if index is None else np.roll(index, 1)

    patch.setattr(rule, "origin_of", origin_of)


def _below_for_negative(patch: pytest.MonkeyPatch) -> None:
    honest = NumpyKernels.relax_lines

    def relax_lines(self: Any, a: Any, lower: Any, upper: Any, below: Any, above: Any) -> Any:
        del above
        return honest(self, a, lower, upper, below, below)

    patch.setattr(NumpyKernels, "relax_lines", relax_lines)


def _corner_omitted(patch: pytest.MonkeyPatch) -> None:
    def product_range(kernels: Any, x: tuple[Any, Any], y: tuple[Any, Any]) -> tuple[Any, Any]:
        corners = [x[0] * y[0], x[0] * y[1], x[1] * y[1]]
        lo = kernels.minimum(kernels.minimum(corners[0], corners[1]), corners[2])
        hi = kernels.maximum(kernels.maximum(corners[0], corners[1]), corners[2])
        size = 4 * kernels.precision.u * kernels.maximum(abs(lo), abs(hi)) + kernels.precision.eta
        return lo - size, hi + size

    patch.setattr(rule, "product_range", product_range)


def _no_radius_of(kind: type[Any]) -> Patch:
    def plant(patch: pytest.MonkeyPatch) -> None:
        honest = kind.form

        def form(self: Any, forms: tuple[Form, ...]) -> Form:
            out = honest(self, forms)
            return Form(out.rows, outward_form(self.kernels, out.rows, forms[0].rho, out.rows.shape[1] - 1))

        patch.setattr(kind, "form", form)

    return plant


def _cancellation_unpaid(patch: pytest.MonkeyPatch) -> None:
    def form(self: Any, forms: tuple[Form, ...]) -> Form:
        """Charges rounding relative to the sum, not to its terms."""
        k, f = self.kernels, self.function
        slope = elementwise._single((k.numpy(self.lines[0]) + k.numpy(self.lines[1])) / 2)
        s, _, low, high = lines_of(k, f, k.numpy(self.lo), k.numpy(self.hi), (slope, slope))
        rows = forms[0].rows * s[:, None, :]
        rows[:, -1, :] += (low + high) / 2
        rho = forms[0].rho * abs(s) + (high - low) / 2
        return Form(rows, outward_form(k, rows, rho, rows.shape[1] - 1))

    patch.setattr(ScalarRelaxation, "form", form)


def _nan_lost(patch: pytest.MonkeyPatch) -> None:
    def smaller(a: Array, b: Any) -> Array:
        return np.minimum(a, b)

    patch.setattr(kernels_numpy, "_smaller", smaller)


DEFECTS: dict[str, tuple[Patch, tuple[str, ...]]] = {
    "wrong McCormick corner": (_planes(_wrong_corner), ("curved", "curved-lines")),
    "planes swapped": (_planes(_planes_swapped), ("curved", "curved-lines")),
    "planes not moved by their rounding": (_planes(_not_moved), ("curved-lines",)),
    "intercepts from the ends only": (_ends_only, ("curved", "curved-lines")),
    "interpolation not paid for": (_interpolation_unpaid, ("interpolated",)),
    "nobody pays between nonlinear steps": (_nobody_pays_between, ("chains",)),
    "model error of functions dropped": (_model_error_dropped, ("curved-machines",)),
    "model rounding of products dropped": (_product_rounding_dropped, ("product-machines",)),
    "refined bounds at the wrong element": (_scattered, ("curved",)),
    "lower intercept for negative coefficients": (_below_for_negative, ("curved",)),
    "a corner of the product's range omitted": (_corner_omitted, ("curved",)),
    "forms of functions without radius": (_no_radius_of(ScalarRelaxation), ("curved",)),
    "forms of products without radius": (_no_radius_of(ProductRelaxation), ("curved",)),
    "cancellation in forms not paid for": (_cancellation_unpaid, ("far-forms",)),
    "NaN lost in exact arithmetic": (_nan_lost, ("infinite-products",)),
}
