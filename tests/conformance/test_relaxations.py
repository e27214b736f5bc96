"""Every relaxation keeps its contract: sound for any choice of parameters, in every precision and backend.

:class:`RelaxationConformance` is what a relaxation inherits; a class below it says what to relax and on which
intervals. Values are exact rationals, or sixty-digit ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import precise
import pytest
from backend_graphs import HOW
from oracles import BLUR, Lines, affine_value, exactly, pushed_lines
from strategies import RATIONAL_FUNCTIONS, SMOOTH_FUNCTIONS

from bounds.expression import Expr, X
from bounds.graph import Array
from bounds.kernels.base import Kernels
from bounds.kernels.numpy import NumpyKernels
from bounds.numerics import EXACT, FLOAT32, FLOAT64, Precision
from bounds.relax.base import Choice, Form, Relaxation
from bounds.relax.elementwise import ScalarRelaxation, relax_scalar
from bounds.relax.product import relax_product
from bounds.relax.relu import SLOPE_STEPS, ReluRelaxation, relax_relu
from bounds.relax.scalar import scalar_function

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

PRECISIONS = {"float32": FLOAT32, "float64": FLOAT64, "exact": EXACT}
Interval = tuple[float, float]
WIDTH = 4  # elements of a value

INTERVALS: tuple[Interval, ...] = (
    (-1.0, 2.0), (-2.0, 0.5), (0.25, 3.0), (-3.0, -0.125), (0.0, 1.0), (-1.0, 0.0), (0.5, 0.5), (0.0, 0.0),
    (-6.0, 7.0), (-0.75, 1e-6), (1.0, 1.0 + 2.0**-20), (-1e-3, 1e-3), (2.4, 5.7), (-1.7, 1.9), (-40.0, 30.0),
    (0.1, 0.3),
)  # fmt: skip
POSITIVE: tuple[Interval, ...] = (
    (1.0, 2.0), (0.125, 8.0), (1e-3, 1e-3), (2.0, 2.0 + 2.0**-18), (0.3, 0.7), (1e-6, 1.0), (5.0, 700.0),
    (3.0, 3.0),
)  # fmt: skip
UNKNOWN: tuple[Interval, ...] = tuple(
    itertools.product([-np.inf, np.nan, -1.5, 0.0, 2.0], [np.inf, np.nan, -1.0, 0.0, 2.5])
)


class RelaxationConformance:
    """What holds of every relaxation."""

    operands: ClassVar[int] = 1
    intervals: ClassVar[tuple[Interval, ...]] = INTERVALS
    rational: ClassVar[bool] = True

    def relax(self, kernels: Kernels, ends: Sequence[tuple[Any, Any]], spreads: Sequence[Any]) -> Relaxation:
        """The relaxation over intervals ``D n`` of every operand."""
        raise NotImplementedError

    def value(self, at: Sequence[Fraction]) -> Fraction:
        """The function, exactly."""
        raise NotImplementedError

    # ---- material

    @pytest.fixture(params=PRECISIONS)
    def kernels(self, request: pytest.FixtureRequest) -> NumpyKernels:
        return NumpyKernels(PRECISIONS[request.param])

    def ends(self, precision: Precision) -> list[tuple[Array, Array]]:
        """Intervals ``D n`` of every operand, as numbers of the precision."""
        rng = np.random.default_rng(1)
        out: list[tuple[Array, Array]] = []
        for _ in range(self.operands):
            chosen = [self.intervals[i] for i in rng.permutation(len(self.intervals))]
            pairs = np.array(chosen[: len(chosen) // WIDTH * WIDTH]).reshape(-1, WIDTH, 2)
            if precision is FLOAT32:
                pairs = pairs.astype(np.float32).astype(np.float64)
            out.append((pairs[..., 0].copy(), pairs[..., 1].copy()))
        return out

    def made(self, kernels: Kernels, ends: Sequence[tuple[Array, Array]] | None = None) -> Relaxation:
        """The relaxation in the backend's arrays, ready for optimisation."""
        ends = self.ends(kernels.precision) if ends is None else ends
        arrays = [(kernels.array(lo), kernels.array(hi)) for lo, hi in ends]
        made = self.relax(kernels, arrays, [None] * self.operands)
        made.prepare()
        return made

    def rows(self, kernels: Kernels, boxes: int, each: int = 3) -> Any:
        """Boxes of packed rows."""
        return kernels.array(np.repeat(np.arange(boxes), each))

    def parameters(self, relaxation: Relaxation, kernels: Kernels, rows: int, seed: int) -> Choice:
        """Random parameters, with the ends 0 and 1 among them."""
        rng = np.random.default_rng(seed)
        shares = [np.clip(rng.uniform(-0.2, 1.2, (rows, WIDTH)), 0, 1) for _ in range(relaxation.parameters)]
        return tuple(kernels.array(s) for s in shares)

    def choices(self, relaxation: Relaxation, kernels: Kernels, dom: Any) -> dict[str, Choice | None]:
        """Choices of every kind."""
        chosen = [relaxation.choose(dom, self.parameters(relaxation, kernels, len(dom), s)) for s in (0, 1)]
        return {
            "own": None,
            "initial": relaxation.initial(dom),
            "chosen": chosen[0],
            "stored": relaxation.stored(dom, chosen[1]),
            "stored initial": relaxation.stored(dom, relaxation.initial(dom)),
        }

    def samples(self, ends: Sequence[tuple[Any, Any]]) -> list[tuple[Fraction, ...]]:
        """Exact points of one element's box."""
        rng = np.random.default_rng(2)
        sides: list[list[Fraction]] = []
        for lo, hi in ends:
            a, b = Fraction(lo), Fraction(hi)
            inner = [a + (b - a) * Fraction(t) for t in (0.5, *rng.random(5))]
            sides.append([a, b, *inner, *(Fraction(v) for v in (0, 1, -1, 0.5) if a <= v <= b)])
        if self.operands == 1:
            return [(z,) for z in sides[0]]
        return list(itertools.product(*(s[:5] for s in sides)))

    def doubt(self, value: Fraction) -> Fraction:
        """What the judge may be off by."""
        return Fraction(0) if self.rational else BLUR * (abs(value) + 1)

    def faults(
        self, lines: tuple[Lines, Lines], row: int, j: int, points: Sequence[Sequence[Fraction]]
    ) -> list[str]:
        """Points at which a finite line lies on the wrong side."""
        found: list[str] = []
        for at in points:
            try:
                truth = self.value(at)
            except (precise.UndefinedError, precise.TooLargeError):
                continue
            doubt = self.doubt(truth)
            below, above = (affine_value([s[row, j] for s in slopes], c[row, j], at) for slopes, c in lines)
            if below == below and not below <= truth + doubt:
                found.append(
                    f"[{row},{j}] at {[float(z) for z in at]}: lower line {float(below)} > {float(truth)}"
                )
            if above == above and not above >= truth - doubt:
                found.append(
                    f"[{row},{j}] at {[float(z) for z in at]}: upper line {float(above)} < {float(truth)}"
                )
        return found

    # ---- the contract

    def test_lines_contain_the_function(self, kernels: NumpyKernels) -> None:
        ends, made = self.ends(kernels.precision), self.made(kernels)
        dom = self.rows(kernels, len(ends[0][0]), 2)
        found: list[str] = []
        for name, choice in self.choices(made, kernels, dom).items():
            lines = pushed_lines(made, dom, choice, WIDTH)
            for r, j in np.ndindex(len(dom), WIDTH):
                box = [(lo[dom[r], j], hi[dom[r], j]) for lo, hi in ends]
                found += [f"{name} {f}" for f in self.faults(lines, r, j, self.samples(box))]
                assert np.isfinite([float(c[r, j]) for _, c in lines]).all(), (
                    f"{name}: nothing known on {box}"
                )
        assert found == []

    def test_parameters_are_storable(self, kernels: NumpyKernels) -> None:
        """Multiples of 1/128 or float32 slopes: every precision and a certificate hold them exactly."""
        made = self.made(kernels)
        dom = self.rows(kernels, len(self.ends(kernels.precision)[0][0]), 1)
        for name, choice in self.choices(made, kernels, dom).items():
            if choice is None:
                continue
            assert len(choice) >= made.parameters
            for share in choice[: made.parameters]:
                assert ((share >= 0) & (share <= 1)).all()
            if name.startswith("stored"):
                self.check_stored(choice)

    def check_stored(self, choice: Choice) -> None:
        """Parameters are whole 128ths."""
        for share in choice[:2]:  # what follows is derived from them
            assert (share * SLOPE_STEPS % 1 == 0).all()

    def test_push_is_the_direct_formula(self, kernels: NumpyKernels) -> None:
        """``[a]+ lower + [a]- upper`` per operand and the constants' sum, to within its own error."""
        made, p = self.made(kernels), kernels.precision
        dom = self.rows(kernels, len(self.ends(p)[0][0]), 2)
        rng = np.random.default_rng(3)
        raw = rng.standard_normal((len(dom), WIDTH)) * (rng.random((len(dom), WIDTH)) < 0.8)
        a = kernels.array(raw)
        for choice in self.choices(made, kernels, dom).values():
            low, high = pushed_lines(made, dom, choice, WIDTH)
            pushed = made.push(a, dom, choice)
            negative, weight = np.asarray(a < 0, dtype=bool), exactly(a)
            u, eta = Fraction(p.u), Fraction(p.eta)
            for part, below, above in zip(pushed.parts, low[0], high[0], strict=True):
                expected = weight * exactly(np.where(negative, above, below))
                assert (abs(exactly(part) - expected) <= u * abs(expected) + eta).all()
            drops = (weight * exactly(np.where(negative, high[1], low[1]))).sum(1)
            assert (
                abs(exactly(pushed.drop) - drops) <= exactly(pushed.error + kernels.zeros(1)) + WIDTH * eta
            ).all()

    def test_value_is_the_chosen_line(self, kernels: NumpyKernels) -> None:
        made, p = self.made(kernels), kernels.precision
        ends = self.ends(p)
        dom = self.rows(kernels, len(ends[0][0]))
        rng = np.random.default_rng(4)
        a = kernels.array(rng.choice([-1.0, 1.0], (len(dom), WIDTH)))
        at = tuple(kernels.array(lo[dom] + rng.random((len(dom), WIDTH)) * (hi - lo)[dom]) for lo, hi in ends)
        choice = made.choose(dom, self.parameters(made, kernels, len(dom), 5))
        low, high = pushed_lines(made, dom, choice, WIDTH)
        found, negative = exactly(made.value(a, dom, choice, at)), np.asarray(a < 0, dtype=bool)
        terms = [exactly(np.where(negative, high[1], low[1]))]
        for z, below, above in zip(at, low[0], high[0], strict=True):
            terms.append(exactly(np.where(negative, above, below)) * exactly(z))
        scale = sum(abs(t) for t in terms)
        assert (abs(found - sum(terms)) <= 8 * Fraction(p.u) * scale + 8 * Fraction(p.eta)).all()

    def test_gradient_points_where_the_value_grows(self, kernels: NumpyKernels) -> None:
        """Moving a parameter within a cell of its grid changes ``a value`` as the gradient says."""
        made, p = self.made(kernels), kernels.precision
        ends = self.ends(p)
        dom = self.rows(kernels, len(ends[0][0]), 6)
        rng = np.random.default_rng(6)
        shape = (len(dom), WIDTH)
        a = kernels.array(rng.choice([-1.0, 1.0], shape))
        at = tuple(kernels.array(lo[dom] + rng.random(shape) * (hi - lo)[dom]) for lo, hi in ends)
        start = [(rng.integers(0, 16, shape) * 8 + 2) / SLOPE_STEPS for _ in range(made.parameters)]
        choice = made.choose(dom, tuple(kernels.array(s) for s in start))
        gradient = made.gradient(a, dom, choice, at)
        before = exactly(made.value(a, dom, choice, at))
        agree = 0
        for i in range(made.parameters):
            moved = [s + 4 / SLOPE_STEPS * (i == k) for k, s in enumerate(start)]
            after = exactly(made.value(a, dom, made.choose(dom, tuple(kernels.array(s) for s in moved)), at))
            change = exactly(a) * (after - before)
            noise = 10**4 * Fraction(p.u) * (1 + sum(abs(exactly(z)) for z in at)) ** 3
            wanted = exactly(gradient[i] + kernels.zeros(*shape))
            visible = (abs(change) > noise) & (abs(wanted) > noise)
            assert (change * wanted > 0)[visible].all()
            # what no gradient announces does not change
            assert (abs(change) <= noise)[wanted == 0].all()
            agree += int(visible.sum())
        assert agree > 0 or (
            p is EXACT and isinstance(made, ScalarRelaxation)
        )  # those lines stay where they are

    def test_forms_contain_the_function(self, kernels: NumpyKernels) -> None:
        """Near zero and far from it, wide and narrow; the operands' forms share their inputs."""
        p = kernels.precision
        rng = np.random.default_rng(7)
        for centre, radius in ((0.3, 1.0), (1.5, 0.1), (40.0, 1e-4), (-3.0, 0.0)):
            forms, ends = self.forms(kernels, rng, centre, radius)
            arrays = [(kernels.array(lo), kernels.array(hi)) for lo, hi in ends]
            out = self.relax(kernels, arrays, [None] * self.operands).form(tuple(forms))
            rows, rho = exactly(out.rows), exactly(out.rho)
            for _ in range(6):
                e = exactly(rng.choice([-1.0, 1.0, 0.25, -0.5], 2))
                t = exactly(rng.choice([-1.0, 1.0, 0.5, 0.0], (self.operands, 2, WIDTH)))
                at = [_form_value(f, e, own) for f, own in zip(forms, t, strict=True)]
                middle = _form_value(Form(out.rows, kernels.zeros(2, WIDTH)), e, 0 * t[0])
                for d, j in np.ndindex(rho.shape):
                    truth = self.value([z[d, j] for z in at])
                    assert abs(truth - middle[d, j]) <= rho[d, j] + self.doubt(truth), (
                        centre,
                        radius,
                        p.name,
                    )
            assert rows.shape == (2, 3, WIDTH)

    def forms(
        self, kernels: Kernels, rng: np.random.Generator, centre: float, radius: float
    ) -> tuple[list[Form], list[tuple[Array, Array]]]:
        """Forms over two inputs for every operand on two boxes, and intervals that hold their ranges."""
        forms: list[Form] = []
        ends: list[tuple[Array, Array]] = []
        for _ in range(self.operands):
            raw = rng.standard_normal((2, 3, WIDTH)) * radius / 3
            raw[:, -1] += centre
            if min(lo for lo, _ in self.intervals) > 0:  # functions of positive numbers
                raw[:, -1] = np.abs(raw[:, -1]) + np.abs(raw[:, :-1]).sum(1) + 0.5
            form = Form(kernels.array(raw), kernels.array(rng.random((2, WIDTH)) * radius / 8))
            reach = (abs(form.rows[:, :-1]).sum(1) + form.rho).astype(np.float64)
            middle = form.rows[:, -1].astype(np.float64)
            grow = (np.abs(middle) + reach) * 2.0**-22
            ends.append((middle - reach - grow, middle + reach + grow))
            forms.append(form)
        return forms, ends

    def test_unknown_ends(self, kernels: NumpyKernels) -> None:
        """With an infinite end or one that is no number nothing finite is wrong, in lines and in forms."""
        each = [UNKNOWN if i == 0 else (*UNKNOWN[::3], (0.0, 1.0), (-1.0, 2.0)) for i in range(self.operands)]
        cells = list(itertools.product(*each))
        cells = [c for c in cells if not any(lo > hi for lo, hi in c)]
        sides = [np.array([[c[i]] for c in cells]) for i in range(self.operands)]
        ends = [(s[..., 0].copy(), s[..., 1].copy()) for s in sides]
        made = self.made(kernels, ends)
        dom = kernels.array(np.arange(len(cells)))
        share = tuple(kernels.array(np.full((len(cells), 1), 0.3)) for _ in range(made.parameters))
        chosen = made.choose(dom, share)
        found: list[str] = []
        for choice in (None, made.initial(dom), chosen, made.stored(dom, chosen)):
            lines = pushed_lines(made, dom, choice, 1)
            for r, cell in enumerate(cells):
                found += [
                    f"{cell}: {f}"
                    for f in self.faults(lines, r, 0, list(itertools.product(*map(_inside, cell))))
                ]
        centre = [np.where(np.isfinite(lo), lo, np.where(np.isfinite(hi), hi, 0.5)) for lo, hi in ends]
        forms = [_everything(kernels, c) for c in centre]
        out = made.form(tuple(forms))
        for r, cell in enumerate(cells):
            rho, rows = out.rho[r, 0], out.rows[r, :, 0]
            if rho < np.inf and all(abs(v) < np.inf for v in rows):  # it says something, then of all points
                for at in itertools.product(*map(_inside, cell)):
                    try:
                        truth = self.value(at)
                    except (precise.UndefinedError, precise.TooLargeError):
                        continue
                    low, high = (
                        Fraction(rows[1]) + s * (abs(Fraction(rows[0])) + Fraction(rho)) for s in (-1, 1)
                    )
                    if not low - self.doubt(truth) <= truth <= high + self.doubt(truth):
                        found.append(f"{cell}: form at {at}")
        assert found == []

    def test_batches_do_not_matter(self) -> None:
        """Boxes together are boxes one by one; where a search stops may differ by ulps."""
        kernels = NumpyKernels(FLOAT64)
        ends = self.ends(FLOAT64)
        together = self.made(kernels, ends)
        boxes = len(ends[0][0])
        shares = self.parameters(together, kernels, boxes, 8)
        every = np.arange(boxes)
        mine = _all_numbers(together, every, shares)
        for b in range(boxes):
            alone = self.made(kernels, [(lo[b : b + 1], hi[b : b + 1]) for lo, hi in ends])
            one = _all_numbers(alone, np.zeros(1, dtype=int), tuple(s[b : b + 1] for s in shares))
            for x, y in zip(one, mine, strict=True):
                assert (np.abs(x[0] - y[b]) <= 2.0**-30 * np.abs(y[b])).all() or (x[0] == y[b]).all()

    @pytest.mark.torch
    @pytest.mark.parametrize("precision", ["float32", "float64"])
    def test_backends_agree(self, precision: str) -> None:
        """NumPy and PyTorch: the same lines up to a few roundings."""
        pytest.importorskip("torch", reason=HOW)
        from bounds.kernels.torch import TorchKernels

        p = PRECISIONS[precision]
        found: list[list[Array]] = []
        boxes = len(self.ends(p)[0][0])
        rng = np.random.default_rng(9)
        raw = [rng.random((boxes, WIDTH)) for _ in range(2)]
        arrived = rng.standard_normal((boxes, WIDTH))
        for kernels in (NumpyKernels(p), TorchKernels(p)):
            made = self.made(kernels)
            dom = kernels.array(np.arange(boxes))
            chosen = made.choose(dom, tuple(kernels.array(s) for s in raw[: made.parameters]))
            a, out = kernels.array(arrived), []
            at = tuple(kernels.array((lo + hi) / 2) for lo, hi in self.ends(p))
            for choice in (None, chosen, made.stored(dom, chosen)):
                pushed = made.push(a, dom, choice)
                out += [kernels.numpy(v) for v in (*pushed.parts, pushed.drop)]
            out += [
                kernels.numpy(v) for v in (*made.gradient(a, dom, chosen, at), made.value(a, dom, chosen, at))
            ]
            out += [kernels.numpy(v) for v in made.shares(a[:, None, :], kernels.array(np.ones((boxes, 1))))]
            found.append(out)
        for x, y in zip(*found, strict=True):
            scale = 1 + np.abs(y).max(axis=-1, keepdims=True)
            assert (np.abs(x - y) <= 256 * p.u * scale).all()


def _form_value(form: Form, e: Array, t: Array) -> Array:
    """``D n``: a form at exact inputs, ``t`` of its radius off."""
    rows = exactly(form.rows)
    return (rows[:, :-1] * e[None, :, None]).sum(1) + rows[:, -1] + exactly(form.rho) * t


def _everything(kernels: Kernels, centre: Array) -> Form:
    """The form of an operand of which nothing is known: a number, give or take infinity."""
    rows = np.stack([np.ones_like(centre), centre], axis=1)
    return Form(kernels.array(rows), kernels.zeros(*centre.shape) + np.inf)


def _inside(ends: Interval) -> list[Fraction]:
    """Numbers between two ends, of which infinite ones and NaN say nothing."""
    lo, hi = (v if v == v else sign * np.inf for v, sign in zip(ends, (-1, 1), strict=True))
    marks = (-1e30, -1e3, -7.5, -1.5, -1.0, -0.3, 0.0, 0.4, 1.0, 2.0, 2.5, 30.0, 1e30)
    return [Fraction(v) for v in marks if lo <= v <= hi]


def _all_numbers(relaxation: Relaxation, dom: Array, shares: Choice) -> list[Array]:
    chosen = relaxation.choose(dom, shares)
    return [*relaxation.initial(dom), *chosen, *relaxation.stored(dom, chosen)]


class TestRectifier(RelaxationConformance):
    """``max(z, 0)``."""

    def relax(
        self, kernels: Kernels, ends: Sequence[tuple[Any, Any]], spreads: Sequence[Any]
    ) -> ReluRelaxation:
        return relax_relu(kernels, *ends[0], spreads[0])

    def value(self, at: Sequence[Fraction]) -> Fraction:
        return max(at[0], Fraction(0))


class TestProduct(RelaxationConformance):
    """``x y``."""

    operands: ClassVar[int] = 2

    def relax(self, kernels: Kernels, ends: Sequence[tuple[Any, Any]], spreads: Sequence[Any]) -> Relaxation:
        return relax_product(kernels, ends[0], ends[1], (spreads[0], spreads[1]))

    def value(self, at: Sequence[Fraction]) -> Fraction:
        return at[0] * at[1]


class ScalarConformance(RelaxationConformance):
    """A function of one variable."""

    function: ClassVar[Expr]

    def relax(self, kernels: Kernels, ends: Sequence[tuple[Any, Any]], spreads: Sequence[Any]) -> Relaxation:
        return relax_scalar(kernels, scalar_function(self.function), *ends[0], spreads[0])

    def value(self, at: Sequence[Fraction]) -> Fraction:
        return precise.value(self.function, at[0])

    def check_stored(self, choice: Choice) -> None:
        """Slopes are float32 numbers."""
        for slope in choice[2:4]:
            floats = slope.astype(np.float64)
            assert (floats.astype(np.float32) == floats).all()
            assert (slope == floats).all()


class TestSigmoid(ScalarConformance):
    function = SMOOTH_FUNCTIONS["sigmoid"]
    rational = False


class TestGelu(ScalarConformance):
    function = SMOOTH_FUNCTIONS["gelu"]
    rational = False


class TestExp(ScalarConformance):
    function = SMOOTH_FUNCTIONS["exp"]
    rational = False


class TestSin(ScalarConformance):
    function = SMOOTH_FUNCTIONS["sin"]
    rational = False


class TestSquare(ScalarConformance):
    function = RATIONAL_FUNCTIONS["square"]


class TestCube(ScalarConformance):
    function = RATIONAL_FUNCTIONS["cube"]


class TestFloor(ScalarConformance):
    function = RATIONAL_FUNCTIONS["floor"]


class TestClip(ScalarConformance):
    function = RATIONAL_FUNCTIONS["clip"]


class TestInverse(ScalarConformance):
    """1 / x on positive numbers."""

    function = 1 / X
    intervals = POSITIVE


FAMILIES: dict[str, Callable[..., Any]] = {
    "relu": relax_relu,
    "scalar": relax_scalar,
    "product": relax_product,
}


def test_every_relaxation_is_here() -> None:
    """One class per module of ``bounds.relax`` that makes relaxations."""
    import bounds.methods.rule as rule

    assert {f for f in vars(rule).values() if getattr(f, "__name__", "").startswith("relax_")} - {
        rule.relax_boxes
    } == set(FAMILIES.values())
