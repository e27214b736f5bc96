"""The parts of the search: budget, frontier, splits, ledger, loop. No network is needed for most."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import build

from bounds.domain import Domains
from verifier import conclude
from verifier.conclude import Ledger
from verifier.search.branch import input_split
from verifier.search.budget import Budget
from verifier.search.frontier import Frontier
from verifier.search.loop import Search
from verifier.search.objectives import objectives_of
from verifier.search.settle import Settler
from verifier.search.trace import TreeTracer
from verifier.spec.model import Case, Row
from verifier.verdict import Status, UnknownReason

seeds = st.integers(0, 2**32 - 1)


def domains(seed, count, inputs=3, groups=2):
    rng = np.random.default_rng(seed)
    lo = rng.standard_normal((count, inputs))
    lb = rng.standard_normal(count)
    lb[rng.random(count) < 0.1] = np.nan
    opened = rng.random((count, groups)) < 0.7
    return Domains(lo, lo + rng.random((count, inputs)), np.arange(count), opened, lb, np.ones(count) / count)


# ---- splitting


@given(seed=seeds, count=st.integers(1, 9))
def test_children_cover_their_parent(seed, count):
    """Over the reals: the halves meet, nothing else changes, what was refuted stays refuted."""
    parent = domains(seed, count)
    rng = np.random.default_rng(seed)
    dim = rng.integers(0, 3, count)
    rows = np.arange(count)
    at = parent.lo[rows, dim] + rng.random(count) * (parent.hi - parent.lo)[rows, dim]
    children = parent.split(dim, at, 100)
    left, right = children.take(slice(0, count)), children.take(slice(count, None))
    assert (left.lo == parent.lo).all() and (right.hi == parent.hi).all()
    assert (left.hi[rows, dim] == at).all() and (right.lo[rows, dim] == at).all()
    other = np.ones_like(parent.lo, dtype=bool)
    other[rows, dim] = False
    assert (left.hi == parent.hi)[other].all() and (right.lo == parent.lo)[other].all()
    assert (left.open == parent.open).all() and (right.open == parent.open).all()
    assert left.id.tolist() == list(range(100, 100 + 2 * count, 2))
    assert right.id.tolist() == list(range(101, 101 + 2 * count, 2))
    assert children.volume.sum() == pytest.approx(parent.volume.sum())


@given(seed=seeds, count=st.integers(1, 9))
def test_chosen_splits_are_inside(seed, count):
    """Never a plane on the border: both children are strictly smaller."""
    parent = domains(seed, count)
    rng = np.random.default_rng(seed)
    flat = rng.random((count, 3)) < 0.3
    parent.hi[flat] = parent.lo[flat]
    scores = rng.random((count, 3))
    scores[rng.random((count, 3)) < 0.2] = np.nan
    dim, at, possible = input_split.choose(parent, scores, np.ones(3))
    rows = np.arange(count)
    assert (possible == (parent.hi > parent.lo).any(axis=1)).all()
    assert (at > parent.lo[rows, dim])[possible].all() and (at < parent.hi[rows, dim])[possible].all()


def test_neighbouring_floats_cannot_be_split():
    lo = np.array([[1.0, 0.0]])
    hi = np.array([[np.nextafter(1.0, 2), 0.0]])
    box = Domains(lo, hi, np.zeros(1, int), np.ones((1, 1), bool), np.zeros(1), np.ones(1))
    _, _, possible = input_split.choose(box, np.ones((1, 2)), np.ones(2))
    assert not possible[0]


# ---- frontier


@given(
    seed=seeds,
    pushes=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    pops=st.lists(st.integers(1, 90)),
)
def test_frontier_loses_nothing(seed, pushes, pops):
    """Every subproblem comes out exactly once, whatever the order of pushes and pops."""
    waiting: list[int] = []
    first = domains(seed, pushes[0])
    frontier = Frontier(first)
    waiting += first.id.tolist()
    start = len(waiting)
    for count in pushes[1:]:
        more = domains(seed + count, count)
        more.id += start
        start += count
        frontier.push(more)
        waiting += more.id.tolist()
    seen: list[int] = []
    for count in pops:
        if not len(frontier):
            break
        seen += frontier.pop(count).id.tolist()
        assert len(frontier) == len(waiting) - len(seen)
    while len(frontier):
        seen += frontier.pop(40).id.tolist()
    assert sorted(seen) == sorted(waiting)
    assert frontier.bytes == 0 and frontier.worst() is None


def test_frontier_gives_the_worst_first():
    frontier = Frontier(replace_lb(domains(0, 4), [3.0, -1.0, 2.0, 0.0]))
    assert frontier.worst() == -1.0 and frontier.bytes > 0
    assert frontier.pop(2).lb.tolist() == [-1.0, 0.0]


def replace_lb(d, lb):
    d.lb[:] = lb
    return d


# ---- budget


def test_budget_reasons():
    assert Budget().exhausted(10**9, 10**12) is UnknownReason.NONE
    assert Budget(domains=5).exhausted(5, 0) is UnknownReason.DOMAINS
    assert Budget(domains=5).exhausted(4, 0) is UnknownReason.NONE
    assert Budget(memory=10).exhausted(0, 11) is UnknownReason.MEMORY
    assert Budget(cancelled=lambda: True).exhausted(0, 0) is UnknownReason.CANCELLED
    assert Budget(seconds=1.0, started=-1e9).exhausted(0, 0) is UnknownReason.TIMEOUT
    assert Budget(seconds=1.0, started=-1e9).should_stop() and Budget(cancelled=lambda: True).should_stop()
    assert Budget().remaining == float("inf") and not Budget().should_stop()


def test_a_budget_inside_another_keeps_the_reason():
    outer = Budget(seconds=1.0, started=-1e9)
    inner = Budget(None, 10, None, outer.should_stop, started=outer.started)
    inner.deadline = outer.deadline
    assert inner.exhausted(0, 0) is UnknownReason.TIMEOUT


# ---- the ledger and its chokepoint


def settled(count, groups=1):
    return np.ones((count, groups), dtype=bool)


def test_unsat_needs_everything_settled():
    ledger = Ledger(2)
    with pytest.raises(AssertionError, match="2 of 2"):
        conclude.unsat(ledger)
    ledger.split(1)
    ledger.settle(settled(2))
    with pytest.raises(AssertionError):
        conclude.unsat(ledger)
    ledger.settle(settled(1))
    assert conclude.unsat(ledger) is Status.UNSAT


def test_unsat_refuses_what_was_given_up():
    ledger = Ledger(1)
    ledger.abandon(1)
    with pytest.raises(AssertionError, match="1 abandoned"):
        conclude.unsat(ledger)
    ledger.settle(settled(1))  # even if the counts came out even
    with pytest.raises(AssertionError):
        conclude.unsat(ledger)


def test_unsat_refuses_no_roots_and_too_many_settled():
    with pytest.raises(AssertionError):
        conclude.unsat(Ledger(0))
    ledger = Ledger(1)
    ledger.settle(settled(2))
    with pytest.raises(AssertionError):
        conclude.unsat(ledger)


def test_settling_an_open_group_is_a_defect():
    with pytest.raises(AssertionError, match="open group"):
        Ledger(1).settle(np.array([[True, False]]))


@given(seed=seeds)
def test_ledger_counts_trees(seed):
    """A random tree is open until its last leaf is settled."""
    rng = np.random.default_rng(seed)
    ledger, leaves = Ledger(1), 1
    for _ in range(int(rng.integers(0, 12))):
        many = int(rng.integers(1, leaves + 1))
        ledger.split(many)
        leaves += many
    for _ in range(leaves):
        assert ledger.open > 0
        ledger.settle(settled(1))
    assert ledger.open == 0 and conclude.unsat(ledger) is Status.UNSAT


# ---- the loop


class Recorder(TreeTracer):
    """A tracer that also keeps every refuted (node, group) and every box it saw split."""

    def __init__(self):
        super().__init__()
        self.refuted_groups: set[tuple[int, int]] = set()
        self.boxes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def refuted(self, domains, evidence):
        super().refuted(domains, evidence)
        for b, g in zip(evidence.box.tolist(), evidence.group.tolist(), strict=True):
            self.refuted_groups.add((int(domains.id[b]), g))
        self.keep(domains)

    def split(self, domains, dim, at, first_child):
        super().split(domains, dim, at, first_child)
        self.keep(domains)

    def keep(self, domains):
        for i, lo, hi in zip(domains.id.tolist(), domains.lo, domains.hi, strict=True):
            self.boxes[i] = (lo.copy(), hi.copy())


def search(threshold, *, budget=None, seed=1, tracer=None):
    graph = build(seed, ["dense_relu", "dense_relu", "linear"], inputs=(2,))
    lo, hi = np.full(2, -1.0), np.full(2, 1.0)
    rows = tuple((Row({i: 1}, {}, Fraction(threshold)),) for i in range(min(2, graph.output_size)))
    case = Case((Fraction(-1),) * 2, (Fraction(1),) * 2, rows)
    source = objectives_of(case, 2, graph.output_size)
    settler = Settler(graph, case, source, network=None, evidence=tracer is not None)
    ledger = Ledger(1)
    run = Search(settler, None, budget or Budget(domains=4000), ledger, tracer, 1)
    return run, ledger, run.run(lo, hi, 0), source


def hard_threshold(seed=1):
    """A threshold that holds but needs splits."""
    from bounds.evaluate import evaluate

    graph = build(seed, ["dense_relu", "dense_relu", "linear"], inputs=(2,))
    axis = np.linspace(-1, 1, 81)
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return -float(evaluate(graph, x)[:, :2].min()) + 0.02


def test_the_tree_covers_the_root_and_every_leaf_is_refuted():
    """Invariant 3: replays the recorded tree from the root."""
    tracer = Recorder()
    run, ledger, outcome, source = search(hard_threshold(), tracer=tracer)
    assert outcome.reason is UnknownReason.NONE and ledger.open == 0
    assert conclude.unsat(ledger) is Status.UNSAT
    assert outcome.closed == pytest.approx(1.0)
    children: dict[int, tuple[int, float, int]] = {}
    for ids, dims, at, left in tracer.splits:
        for i, d, p, child in zip(*(a.tolist() for a in (ids, dims, at, left)), strict=True):
            assert i not in children, "a node was split twice"
            children[i] = (d, p, child)
    assert children, "the test wants a tree"
    todo = [(0, np.full(2, -1.0), np.full(2, 1.0), frozenset())]
    seen: set[int] = set()
    while todo:
        node, lo, hi, above = todo.pop()
        assert node not in seen
        seen.add(node)
        if node in tracer.boxes:
            assert (tracer.boxes[node][0] == lo).all() and (tracer.boxes[node][1] == hi).all()
        mine = {g for n, g in tracer.refuted_groups if n == node}
        assert not mine & above, "a group refuted at an ancestor was asked about again"
        held = above | mine
        if node not in children:
            assert held == set(range(source.groups)), f"leaf {node} was settled with an open group"
            continue
        d, p, left = children[node]
        assert lo[d] < p < hi[d]
        cut_hi, cut_lo = hi.copy(), lo.copy()
        cut_hi[d] = cut_lo[d] = p
        todo += [(left, lo, cut_hi, frozenset(held)), (left + 1, cut_lo, hi, frozenset(held))]
    assert len(seen) == run.next_id == ledger.created


def test_a_false_property_is_never_closed():
    _, ledger, outcome, _ = search(hard_threshold() - 0.1, budget=Budget(domains=300))
    assert outcome.reason is UnknownReason.DOMAINS and ledger.open > 0
    assert outcome.worst is not None and outcome.worst <= 0
    with pytest.raises(AssertionError):
        conclude.unsat(ledger)


def test_cancelling_leaves_everything_open():
    """However often it was polled before: after a stop nothing more is counted as proved."""
    for limit in (0, 1, 2, 5, 9):
        polls = []

        def cancel(polls=polls, limit=limit):
            polls.append(1)
            return len(polls) > limit

        _, ledger, outcome, _ = search(hard_threshold(), budget=Budget(cancelled=cancel))
        assert outcome.reason is UnknownReason.CANCELLED and ledger.open > 0
        assert len(polls) <= limit + 3


def test_polls_between_any_two_blocks():
    """The loop asks before every block, so a stop costs at most one block."""
    polls = []

    def never():
        polls.append(1)
        return False

    _, _, outcome, _ = search(hard_threshold(), budget=Budget(domains=4000, cancelled=never))
    assert len(polls) >= 5 and outcome.reason is UnknownReason.NONE


def test_the_search_repeats_exactly():
    first, second = (search(hard_threshold(), tracer=Recorder()) for _ in range(2))
    assert first[2].bounded == second[2].bounded
    a, b = first[0].tracer, second[0].tracer
    assert isinstance(a, Recorder) and isinstance(b, Recorder)
    assert a.refuted_groups == b.refuted_groups and len(a.splits) == len(b.splits)


# ---- objectives


def test_objectives_hold_exact_numbers():
    rows = (
        (
            Row({0: Fraction(1, 3)}, {1: Fraction(-1, 10)}, Fraction(7)),
            Row({1: Fraction(2)}, {}, Fraction(0), True),
        ),
    )
    made = objectives_of(Case((0, 0), (1, 1), rows), 2, 2)
    assert made.rounded and made.rows == 2 and made.groups == 1
    assert made.strict.tolist() == [False, True] and made.group_of_row.tolist() == [0, 0]
    c, g, d = made.rational()
    assert c.tolist() == [[Fraction(1, 3), 0], [0, 2]] and g.tolist() == [[0, Fraction(-1, 10)], [0, 0]]
    assert d.tolist() == [7, 0]
    assert (made.c[0, 0], made.g[0, 1]) == (1 / 3, -0.1)
    assert not replace(made, rounded=False).rounded
    whole = objectives_of(Case((0,), (1,), ((Row({0: Fraction(1, 2)}, {}, Fraction(3)),),)), 1, 1)
    assert not whole.rounded
