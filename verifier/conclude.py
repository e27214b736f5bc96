"""The two chokepoints: the only functions that may say ``unsat`` and ``sat``.

``unsat`` is concluded from a ledger in which every piece of every input box was settled. ``sat`` is
concluded from a point that lies in the exact box and was confirmed on the original model, by
onnxruntime's own outputs or, at level ``real``, by rigorous evaluation over the reals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bounds.evaluate import evaluate
from bounds.expression import is_rational
from bounds.graph import Array, Op
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from verifier.problem import Problem, exact_array, float64_box
from verifier.spec.check_point import inside, violation
from verifier.spec.model import Case, Row
from verifier.spec.polynomial import interval
from verifier.verdict import Semantics, Status, Witness

# exact rational evaluation costs about a microsecond per multiply-add and its numbers grow
_EXACT_WORK = 300_000


class Ledger:
    """Counts nodes of the split trees: every node is split once or settled once, or stays open.

    A node is settled when every group of its case is refuted on its box (here or at an ancestor), or
    when the exact box is empty.

    Args:
        roots: number of cases (at least 1).
        cases: the cases, of which some may be partial.
    """

    def __init__(self, roots: int, cases: Sequence[Case] = ()) -> None:
        self.created = roots
        self.roots = roots
        self.splits = 0
        self.settled = 0
        self.abandoned = 0
        # their boxes leave inputs out, which nothing settles
        self.partial = sum(c.partial and not c.empty and c.disjuncts != () for c in cases)

    def split(self, count: int) -> None:
        """``count`` open nodes were split into two children each."""
        self.splits += count
        self.created += 2 * count

    def copy(self, held: Array, left: Array, right: Array) -> None:
        """An open node was copied: its groups ``held: K`` are dealt out to two nodes of the same region.

        A copy without groups has nothing to settle and counts as settled.
        """
        if not np.array_equal(left | right, held):
            raise AssertionError("a copied node lost an open group")
        self.split(1)
        self.settled += int(not left.any()) + int(not right.any())

    def settle(self, refuted: Array) -> None:
        """Nodes whose groups (``D K``) are all refuted; anything else is a defect."""
        if not bool(np.all(refuted)):
            raise AssertionError("a node was reported settled with an open group")
        self.settled += len(refuted)

    def abandon(self, count: int) -> None:
        """Nodes given up: they can never be counted as settled."""
        self.abandoned += count

    def restore(self, splits: int, settled: int, abandoned: int) -> None:
        """Takes over the counts of an earlier run of the same cases, before anything else is booked.

        Soundness: whoever restores must hold every open node that follows from the counts; see
        :func:`verifier.search.checkpoint.contradiction`.
        """
        if self.splits or self.settled or self.abandoned or min(splits, settled, abandoned) < 0:
            raise AssertionError("a ledger is restored once, before a search")
        self.created = self.roots + 2 * splits
        self.splits, self.settled, self.abandoned = splits, settled, abandoned
        if self.open < 0:
            raise AssertionError("more nodes are settled than were made")

    def take_over(self, splits: int, settled: int, abandoned: int) -> None:
        """Books what another search did below nodes that are open here.

        Soundness: whoever takes over must know that no two searches had the same node; see
        :func:`verifier.search.shards.book`.
        """
        if min(splits, settled, abandoned) < 0:
            raise AssertionError("a search cannot take anything back")
        self.split(splits)
        self.settled += settled
        self.abandoned += abandoned
        if self.open < 0:
            raise AssertionError("more nodes are settled than were made")

    @property
    def open(self) -> int:
        """Nodes neither split nor settled."""
        return self.created - self.splits - self.settled


def unsat(ledger: Ledger) -> Status:
    """The only place that says ``unsat``.

    Raises:
        AssertionError: if anything is left open; callers ask only when they believe all is settled.
    """
    if ledger.open != 0 or ledger.abandoned != 0 or ledger.partial != 0 or ledger.roots < 1:
        raise AssertionError(
            f"unsat refused: {ledger.open} of {ledger.created} nodes open, {ledger.abandoned} abandoned, "
            f"{ledger.partial} cases partial"
        )
    return Status.UNSAT


def part(ledger: Ledger, elsewhere: int) -> None:
    """Confirms that a shard has closed all of its own: what is open are the nodes that others have.

    Nothing is concluded about the property.

    Raises:
        AssertionError: if anything else is open.
    """
    if ledger.open != elsewhere or ledger.abandoned != 0 or elsewhere < 0:
        raise AssertionError(
            f"a shard is not done: {ledger.open} nodes open, {elsewhere} of them elsewhere, "
            f"{ledger.abandoned} abandoned"
        )


@dataclass(frozen=True, slots=True)
class Sat:
    """A concluded ``sat``."""

    status: Status
    witness: Witness


def sat(problem: Problem, case: int, point: Array, semantics: Semantics) -> Sat | None:
    """The only place that says ``sat``: confirms a candidate, or returns None.

    Args:
        problem: the query.
        case: index of the case whose box the candidate is meant to lie in.
        point: flat candidate (float64); it is moved to the nearest representable point of the box.
        semantics: at level ``float32`` only onnxruntime's own outputs count.

    Soundness: membership is tested in exact rationals; onnxruntime's outputs are compared exactly.
    """
    box = problem.property.cases[case]
    if box.empty:
        return None
    x, representable = _into_box(problem, box, point)
    values = np.array([float(v) for v in x])
    y = problem.replay(values)
    if not y:
        return None
    found = violation(problem.property, x, y) if representable else None
    if found is not None:
        return Sat(Status.SAT, Witness(tuple(x), tuple(y), *found, "replayed", _versions()))
    if semantics is not Semantics.REAL:
        return None
    for exact in (x, _exact_point(box, point)):
        allowed = inside(box, exact) and _whole(problem, exact)
        disjunct = _rigorous(problem, box, exact) if allowed else None
        if disjunct is not None:
            return Sat(Status.SAT, Witness(tuple(exact), tuple(y), case, disjunct, "rigorous", _versions()))
    return None


def _whole(problem: Problem, x: Sequence[Fraction]) -> bool:
    """Whether inputs of integer types are whole numbers (also over the reals: the model takes no others)."""
    pairs = zip(x, problem.dtypes, strict=True)
    return all(v.denominator == 1 for v, name in pairs if np.dtype(name).kind in "iub")


def _exact_point(box: Case, point: Array) -> list[Fraction]:
    """The candidate itself; where it lies at (or beyond) an end of the box, that end as the property has it.

    A property may be violated only at a decimal end such as 0.1, which no binary number equals.
    """
    x: list[Fraction] = []
    ends = zip(*float64_box(box.lower, box.upper), box.lower, box.upper, strict=True)
    for value, (low, high, lo, hi) in zip(point, ends, strict=True):
        inner = low < value < high and np.isfinite(value)
        x.append(Fraction(float(value)) if inner else hi if value >= high else lo)
    return x


def _into_box(problem: Problem, box: Case, point: Array) -> tuple[list[Fraction], bool]:
    """The candidate as exact numbers inside the box; whether all are representable in the model's type."""
    x: list[Fraction] = []
    representable = True
    for value, lo, hi, name in zip(point, box.lower, box.upper, problem.dtypes, strict=True):
        if np.dtype(name).kind in "iub":
            whole = _whole_number(value, lo, hi, name)
            representable = representable and whole is not None
            x.append(lo if whole is None else whole)
            continue
        kind = np.float64 if name == "float64" else np.float32
        with np.errstate(over="ignore"):
            v = kind(value)
        if not np.isfinite(v):
            v = kind(0)
        if _less(v, lo):
            v = _at_least(kind, lo)
        elif _less(-v, -hi):
            v = -_at_least(kind, -hi)
        if not np.isfinite(v) or _less(v, lo) or _less(-v, -hi):
            representable = False
            exact = lo  # no representable number in [lo, hi]: take an end, confirmed rigorously or not at all
        else:
            exact = Fraction(float(v))
        x.append(exact)
    return x, representable


def _less(value: np.floating, rational: Fraction) -> bool:
    """Exactly whether a finite number is less. Comparing fractions makes new ones; images have thousands."""
    n, d = value.as_integer_ratio()
    return n * rational.denominator < rational.numerator * d


def _whole_number(value: float, lo: Fraction, hi: Fraction, name: str) -> Fraction | None:
    """The whole number between ``lo`` and ``hi`` nearest to ``value`` that an integer type holds, if any."""
    kind = np.dtype(name)
    least, most = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    # points are handed on as float64, which does not hold every whole number beyond 2**53
    least, most = max(math.ceil(lo), least, -(1 << 53)), min(math.floor(hi), most, 1 << 53)
    if least > most:
        return None
    near = round(float(value)) if np.isfinite(value) else 0
    return Fraction(min(max(near, least), most))


def _at_least(kind: type[np.floating], value: Fraction) -> np.floating:
    """The least number of a floating-point type that is not below a rational."""
    with np.errstate(over="ignore"):
        v = kind(float64_box((value,), (value,))[0][0])
    while np.isfinite(v) and Fraction(float(v)) < value:
        v = np.nextafter(v, kind(np.inf))
    while np.isfinite(v) and Fraction(float(np.nextafter(v, kind(-np.inf)))) >= value:
        v = np.nextafter(v, kind(-np.inf))
    return v


def _rigorous(problem: Problem, box: Case, x: list[Fraction]) -> int | None:
    """Index of a disjunct that holds at x over the reals, proved by enclosing the outputs."""
    low, high = _enclosure(problem, x)
    for d, rows in enumerate(box.disjuncts):
        if all(_surely(row, x, low, high) for row in rows):
            return d
    return None


def _enclosure(problem: Problem, x: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """Rational bounds of the real outputs at x: exact when the network is small, else float64 intervals."""
    graph = problem.original
    exact_weights = all(n.weight_error == 0.0 for n in graph.nodes)
    work = sum(
        n.size * (n.params["weight"].shape[1] if n.op is Op.LINEAR else 1)
        for n in graph.nodes
        if n.op not in (Op.CONV, Op.CONV_TRANSPOSE)
    )
    convolutions = any(n.op in (Op.CONV, Op.CONV_TRANSPOSE) for n in graph.nodes)
    rational = all(is_rational(n.params["function"]) for n in graph.scalars)
    if exact_weights and rational and not convolutions and work <= _EXACT_WORK:
        try:
            y = [Fraction(v) for v in evaluate(graph, exact_array(x)[None])[0]]
        except ZeroDivisionError:  # the network has no value here
            return [], []
        return y, y
    plan = compile_plan(graph, NumpyKernels(FLOAT64))
    lo, hi = float64_box(x, x)
    tape = relax_boxes(plan, lo[None], hi[None], Rule(forward=False, refine=False))
    low: list[Fraction] = []
    high: list[Fraction] = []
    for slot in plan.outputs:
        a, b = tape.outputs[slot]
        if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
            return [], []
        low += [Fraction(float(v)) for v in a[0]]
        high += [Fraction(float(v)) for v in b[0]]
    return low, high


def _surely(row: Row, x: list[Fraction], low: list[Fraction], high: list[Fraction]) -> bool:
    """Whether the row holds for every y between ``low`` and ``high``."""
    if (row.outputs or row.products) and not low:
        return False
    total = row.constant
    for j, c in row.inputs.items():
        total += c * x[j]
    for i, c in row.outputs.items():
        total += c * (high[i] if c > 0 else low[i])
    for monomial, c in row.products.items():
        least, most = interval(monomial, x, low, high)
        total += c * (most if c > 0 else least)
    return row.holds(total)


def _versions() -> tuple[tuple[str, str], ...]:
    import onnxruntime

    return (("numpy", np.__version__), ("onnxruntime", str(onnxruntime.__version__)))
