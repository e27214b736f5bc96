"""Splits of operands, copies, shared boxes, multipliers and own rows: no choice of them proves too much.

Random certificates about networks in which one tensor has many readers. What a node of the tree stands for is
worked out from its definition, for sampled points; the checker's bounds must lie below the rows there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import checker_nets as nets
import checker_trees as trees
import numpy as np
import pytest

from verifier.check import evidence
from verifier.check.arithmetic import Arithmetic
from verifier.check.bounds import Bounder
from verifier.check.evidence import Block
from verifier.check.importer import combine
from verifier.check.network import Network
from verifier.check.nonlinear import Context
from verifier.check.regions import Limits, Multipliers, Regions, Splits, limits_of
from verifier.check.state import Rows, State
from verifier.check.tree import Tree
from verifier.spec.model import Property

Array = np.ndarray
ROWS = [
    nets.row({0: 1}),
    nets.row({1: Fraction(-1, 3)}, Fraction(1, 7)),
    nets.row({0: 1, 1: -2}, 0, {0: 1, 1: Fraction(-1, 5)}),
]


def made(seed: int, style: str = "smooth", *, points: int = 300, width: float | None = None) -> Any:
    """Network, property, a random certificate about it, and what holds at random points."""
    rng = np.random.default_rng(seed)
    data = trees.tangle(rng, style)
    low = nets.dyadic(rng, 2).astype(np.float64)
    width = float(rng.choice([1, 2.0**-4, 2.0**-8])) if width is None else width
    high = low + width * (np.abs(nets.dyadic(rng, 2)) + 0.25)
    prop = nets.make_property(2, 2, [nets.box_case(low.tolist(), high.tolist(), ROWS)])
    network = combine({"": data}, prop)
    plain = nets.Plain(network)
    steps = rng.integers(0, 65, (points, 2)) / 64  # so that exact arithmetic stays short
    steps[:9] = [[i / 2, j / 2] for i in range(3) for j in range(3)]
    x = low + steps * (high - low)
    known = trees.facts(plain, prop, x)
    tree = trees.random_tree(rng, known, low, high, 13)
    return network, plain, prop, trees.random_claims(rng, network, tree, len(ROWS)), x


def block_of(network: Network, prop: Property, arrays: Any, *, exact: bool = False, **level: bool) -> Block:
    """All boxes of a certificate, bounded."""
    tree = Tree(arrays, prop.cases, sum(evidence.operands(arrays)))
    evidence.validate(arrays, prop.cases, tree)
    bounder = Bounder(network, Arithmetic(exact), **{"float32": False, "forward": False, **level})
    return Block(bounder, arrays, prop.cases, tree, np.arange(len(arrays["box_node"])))


@np.errstate(all="ignore")  # as where evidence is proved
def bounded(network: Network, prop: Property, arrays: Any, **level: bool) -> tuple[Array, Array]:
    """Lower bounds of all evidence, and whether its region was found to be empty."""
    _, found, empty = block_of(network, prop, arrays, **level).bounds(np.arange(len(arrays["ev_node"])))
    return found, empty


def too_high(arrays: Any, known: trees.Facts, found: Array, empty: Array, slack: float) -> list[str]:
    """Evidence whose bound is above a row's value at a point of its region, or that denies such points."""
    inside, wrong = trees.members(arrays, known, slack), list[str]()
    for e, (node, row) in enumerate(zip(arrays["ev_node"], arrays["ev_row"], strict=True)):
        values = known.rows[inside[node], row]
        if len(values) and (empty[e] or not found[e] <= values.min() + slack):
            wrong.append(f"evidence {e} at node {node}: {float(found[e])} over {float(values.min())}")
    return wrong


def sampled(seed: int, **level: bool) -> list[str]:
    """Faults among bounds over reals, by float evaluation (whose own error is far below the slack)."""
    network, plain, prop, arrays, x = made(seed)
    found, empty = bounded(network, prop, arrays, **level)
    return too_high(arrays, trees.facts(plain, prop, x), found, empty, 1e-9)


def exactly(seed: int, *, exact: bool) -> list[str]:
    """Faults where everything is a fraction: not the least excess is forgiven."""
    network, plain, prop, arrays, x = made(seed, "rational", points=60)
    found, empty = bounded(network, prop, arrays, exact=exact)
    found = (
        found if exact else np.array([Fraction(v) if np.isfinite(v) else v for v in found.tolist()], object)
    )
    return too_high(arrays, trees.facts(plain, prop, x, exact=True), found, empty, 0)


@np.errstate(all="ignore")
def rounded(seed: int) -> list[str]:
    """Faults in comparison with the same rows in exact arithmetic, over the same intervals."""
    network, _, prop, arrays, _ = made(seed, "none")
    inner = arrays["node_dim"] >= 2
    arrays["node_at"][inner] *= 1 + 2.0**-30
    arrays["beta"] = arrays["beta"] / 3
    ours, exact, to = (
        block_of(network, prop, arrays),
        block_of(network, prop, arrays, exact=True),
        Arithmetic(True),
    )
    for name in ("low", "high", "mag"):
        setattr(exact.state, name, [to.array(v) for v in getattr(ours.state, name)])
    for i, known in ours.state.operands.items():
        intervals = [(to.array(low), to.array(high)) for low, high in known]
        exact.state.operands[i] = intervals
        context = Context(to, exact.bounder.layout, i, None)
        exact.state.relaxed[i] = exact.bounder._relax(context, intervals)
    every = np.arange(len(arrays["ev_node"]))
    (_, found, empty), (_, truth, _) = (block.bounds(every) for block in (ours, exact))
    off = [truth[e] - Fraction(float(found[e])) for e in np.flatnonzero(~empty)]
    assert all(v < 1 for v in off)
    return [f"{float(v)} too high" for v in off if v < 0]


def computed(seed: int) -> list[str]:
    """Faults at level float32: conditions and rows are about what the machine computes."""
    network, plain, prop, arrays, x = made(seed, width=2.0**-18)
    x = np.float32(x)
    low, high = (np.array([float(v) for v in side]) for side in (prop.cases[0].lower, prop.cases[0].upper))
    x = x[np.all((low <= x) & (x <= high), axis=1)]
    known = trees.facts(plain, prop, x)
    arrays["node_at"] = np.where(arrays["node_dim"] >= 2, nearby(arrays, known), arrays["node_at"])
    arrays["beta"] = arrays["beta"] * 100
    found, empty = bounded(network, prop, arrays, float32=True)
    return too_high(arrays, known, found, empty, 0)


def nearby(arrays: Any, known: trees.Facts) -> Array:
    """Split points among computed values."""
    dim = np.maximum(arrays["node_dim"] - 2, 0)
    return known.operands[np.arange(len(dim)) % len(known.x), dim].astype(np.float64)


CHECKS: dict[str, Callable[[int], list[str]]] = {
    "real": sampled,
    "forward": lambda seed: sampled(seed, forward=True),
    "float32": lambda seed: sampled(seed, float32=True),
    "computed": computed,
    "exact": lambda seed: exactly(seed, exact=True),
    "not exact": lambda seed: exactly(seed, exact=False),
    "rounded": rounded,
}
SEEDS = {"exact": 6, "rounded": 6, "not exact": 8, "forward": 8, "float32": 8}


@pytest.mark.parametrize("check", CHECKS)
def test_bounds_hold_in_their_regions(check: str) -> None:
    for seed in range(SEEDS.get(check, 12)):
        assert CHECKS[check](seed) == []


# ------------------------------------------------------------------ defects planted on purpose
Patch = Callable[[pytest.MonkeyPatch], None]


def altered_terms(change: Callable[[Multipliers], Multipliers], *, before: bool = False) -> Patch:
    """Changes the terms after their ends were looked up, or with the opposite weights ``before``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        honest = Regions.multipliers

        def terms(self: Regions, to: Any, layout: Any, state: Any, given: Any) -> Multipliers:
            row, operand, weight = given
            return change(honest(self, to, layout, state, (row, operand, -weight if before else weight)))

        patch.setattr(Regions, "multipliers", terms)

    return plant


def negated(m: Multipliers) -> Multipliers:
    return replace(m, weight=-m.weight)


def altered_splits(change: Callable[[Splits], Splits]) -> Patch:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(evidence, "limits_of", lambda layout, to, splits: limits_of(layout, to, change(splits)))

    return plant


def _foreign_boxes(patch: pytest.MonkeyPatch) -> None:
    """Evidence may name any box of the tree, and does."""
    honest = trees.random_claims

    def claims(rng: np.random.Generator, *rest: Any) -> dict[str, Any]:
        made = honest(rng, *rest)
        count = len(made["box_node"])
        others = np.concatenate([np.arange(count), rng.integers(0, count, len(made["ev_box"]) - count)])
        return {**made, "ev_box": others.astype(np.int32)}

    patch.setattr(trees, "random_claims", claims)
    patch.setattr(Tree, "within", lambda *given: np.ones(len(given[1]), bool))


def _no_constant(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Multipliers, "into_constant", lambda *_: None)


def _twice(patch: pytest.MonkeyPatch) -> None:
    """Coefficients are added where they belong, and again one tensor earlier."""
    honest = Multipliers.into

    def into(self: Multipliers, to: Any, state: Any, rows: Any, i: int, a: Any) -> Any:
        return honest(replace(self, weight=self.weight * 2), to, state, rows, i, a)

    patch.setattr(Multipliers, "into", into)


def _always_empty(patch: pytest.MonkeyPatch) -> None:
    honest = Limits.apply

    def apply(self: Limits, low: Array, high: Array) -> Any:
        low, high, empty = honest(self, low, high)
        return low, high, empty | (low == high).any(axis=1) | (np.arange(len(low)) % 2 == 1)

    patch.setattr(Limits, "apply", apply)


DEFECTS: dict[str, tuple[Patch, str]] = {
    "the wrong end": (altered_terms(negated, before=True), "real"),
    "the wrong sign": (altered_terms(negated), "real"),
    "constant forgotten": (_no_constant, "real"),
    "coefficient counted twice": (_twice, "real"),
    "another element's end": (
        altered_terms(lambda m: replace(m, element=np.where(m.element > 0, m.element - 1, m.element))),
        "real",
    ),
    "clamp on the wrong side": (altered_splits(lambda s: replace(s, right=~s.right)), "real"),
    "clamp of the next operand": (
        altered_splits(lambda s: replace(s, operand=np.maximum(s.operand - 1, 0))),
        "real",
    ),
    "clamp beyond the point": (
        altered_splits(lambda s: replace(s, at=s.at + np.where(s.right, 0.01, -0.01))),
        "real",
    ),
    "a box of another branch": (_foreign_boxes, "real"),
    "regions that are not empty": (_always_empty, "exact"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_noticed(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, check = DEFECTS[defect]
    plant(monkeypatch)
    assert any(CHECKS[check](seed) for seed in range(40))


def test_the_rounding_of_multipliers_is_paid_for() -> None:
    """Coefficients and constants against fractions, also where a whole multiplier vanishes: ``1 - 2^-54``."""
    rng, to, paid = np.random.default_rng(0), Arithmetic(False), 0
    for k in range(40):
        terms = 1 + k % 5
        state = State(np.zeros(1, bool), np.zeros(1, bool))
        state.low, state.mag = [np.zeros((1, 3))], [np.full((1, 3), 2.0**60)]
        row, element = rng.integers(0, 2, terms), rng.integers(0, 3, terms)
        weight = rng.choice([2.0**-54, -(2.0**-54), 1 / 3, 1e-30, -7e20], terms)
        end = rng.standard_normal(terms) * 10.0 ** rng.integers(-300, 3, terms)
        given = Multipliers(row, np.zeros(terms, np.int64), element, weight, end, np.zeros(2, bool))
        a, constant = rng.choice([0, 1, 0.1], (2, 3)), rng.standard_normal(2)
        rows = Rows({}, constant, np.zeros(2), np.zeros(2, np.int64))
        given.into_constant(to, rows)
        true = [Fraction(c) for c in constant.tolist()]
        for r, w, z in zip(row.tolist(), weight.tolist(), end.tolist(), strict=True):
            true[r] += Fraction(w) * Fraction(z)
        off = [abs(Fraction(c) - t) for c, t in zip(rows.constant.tolist(), true, strict=True)]
        assert all(o <= Fraction(e) for o, e in zip(off, rows.error.tolist(), strict=True))
        before = rows.error.copy()
        found = given.into(to, state, rows, 0, a)
        assert found is not None
        whole = [[Fraction(v) for v in line] for line in a.tolist()]
        for r, e, w in zip(row.tolist(), element.tolist(), weight.tolist(), strict=True):
            whole[r][e] -= Fraction(w)
        for r in range(2):
            pairs = zip(found[r].tolist(), whole[r], strict=True)
            worst = sum((abs(Fraction(v) - t) for v, t in pairs), Fraction(0)) * 2**60
            assert worst <= Fraction(float(rows.error[r])) - Fraction(float(before[r]))
            paid += worst > 0
    assert paid > 20
