"""The falsifier: cheap candidates first, then descent with restarts, then the worst open leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bounds.ball import Ball
from bounds.domain import Domains, Objectives
from bounds.graph import Array
from bounds.plan import Plan
from verifier.conclude import Sat
from verifier.search.clock import Phase, untimed
from verifier.search.falsify.points import Descent

Confirm = Callable[[Array], Sat | None]

_RESTARTS = 24
_STEPS = 40
_LEAF_STEPS = 10
# multiply-adds spent on leaves after each block: a fraction of what bounding the block costs
_LEAF_WORK = 1.2e8
_JUDGED = 16  # candidates a call evaluates in float64
_FEW = 8  # points that cost about as much as one


def nearly_zero(values: Array) -> float:
    """What counts as nearly zero among such values: the original model rounds differently."""
    finite = values[np.isfinite(values)]
    return 4e-7 * float(np.abs(finite).max()) if len(finite) else 0.0


class Falsifier:
    """Looks for counterexamples of one set of objectives and hands them to ``confirm``.

    Args:
        plan, objectives: the network and what must not hold.
        fine: the network in float64, asked for when first needed.
        confirm: the chokepoint; it returns a verdict or None.
        seed: of the random starts.
        ball: candidates must lie in it as well as in their box.
        should_stop: polled between steps of descent.
        phase: told when it is at work.
    """

    def __init__(  # noqa: PLR0913 - collaborators, all but a few with defaults
        self,
        plan: Plan,
        fine: Callable[[], Plan],
        objectives: Objectives,
        confirm: Confirm,
        seed: int,
        *,
        ball: Ball | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        phase: Phase = untimed,
    ) -> None:
        self._phase = phase
        self.descent = Descent(plan, objectives, ball, should_stop)
        self._fine_plan = fine
        self._fine: Descent | None = None
        self._ball = ball
        self.confirm = confirm
        self.random = np.random.default_rng(seed)
        self._tried: set[bytes] = set()
        self._calls = 0
        one = plan.work * 3 * _LEAF_STEPS  # one point's descent
        self._leaf_points = int(np.clip(_LEAF_WORK / one, _FEW, 512))
        # a large network reads its weights from memory for a few points as for many: descend more rarely
        self._every = max(1, int(_FEW * one / _LEAF_WORK))
        # one evaluation of a large network costs what bounding it costs: fewer restarts then
        self._restarts = int(np.clip(2e9 / (plan.work * _STEPS * 4), 4, _RESTARTS))

    def corners(self, lo: Array, hi: Array) -> Array:
        """Centre and some corners of the root box."""
        d = len(lo)
        count = 2**d if d <= 5 else 16
        bits = (
            (np.arange(count)[:, None] >> np.arange(d)) & 1
            if d <= 5
            else self.random.integers(0, 2, (count, d))
        )
        return np.concatenate([((lo + hi) / 2)[None], np.where(bits, hi, lo)])

    def root(self, lo: Array, hi: Array) -> Sat | None:
        """The cheap candidates of a whole box."""
        return self.check(self.corners(lo, hi))

    def check(self, x: Array) -> Sat | None:
        """Confirms the points that violate in ordinary arithmetic, the clearest first."""
        with self._phase("attack"):
            return self._check(x)

    def _check(self, x: Array) -> Sat | None:
        if self._ball is not None:
            x = self._ball.project(x)
        values = self._values(x)
        for i in np.argsort(values)[:4]:
            # a little above zero is worth a try: the original model rounds differently
            if not values[i] <= nearly_zero(values):
                break
            key = x[i].tobytes()
            if key in self._tried:
                continue
            if len(self._tried) < 100_000:
                self._tried.add(key)
            found = self.confirm(x[i])
            if found is not None:
                return found
        return None

    def _values(self, x: Array) -> Array:
        """``M``: how far each point is from violating; the nearest ones judged in float64 as well.

        A violation over the reals may vanish in float32 (large numbers that cancel).
        """
        with np.errstate(all="ignore"):
            values = self.descent.groups(self.descent.values(x)).min(axis=1)
            if self._fine is None:
                self._fine = Descent(self._fine_plan(), self.descent.objectives)
            near = np.argsort(values)[:_JUDGED]
            values[near] = np.fmin(values[near], self._fine.groups(self._fine.values(x[near])).min(axis=1))
        return values

    def descend(self, lo: Array, hi: Array, guess: Array | None = None, share: float = 1.0) -> Sat | None:
        """Descent from random points of the root box, restarts spread over the disjuncts.

        Args:
            lo, hi: ``d`` the box.
            guess: ``d`` one more point to start from.
            share: of the restarts.
        """
        groups = self.descent.objectives.groups
        count = max(2, int(share * max(self._restarts, min(groups, 2 * self._restarts))))
        x = lo + self.random.random((count, len(lo))) * (hi - lo)
        x[0] = (lo + hi) / 2
        if guess is not None:
            x[1] = guess
        target = np.arange(count) % groups
        los, his = np.broadcast_to(lo, x.shape), np.broadcast_to(hi, x.shape)
        return self.check(self._improve(x, los, his, target, _STEPS))

    def leaves(self, domains: Domains, guesses: Array, lower: Array) -> Sat | None:
        """The linear bounds' own minimisers in open boxes, then descent inside the worst boxes.

        Narrow violations hide from descent on the whole input set; the search's boxes spread the starts
        over it. Each box is tried from its minimiser and from a random point.
        """
        found = self.check(guesses)
        if found is not None:
            return found
        self._calls += 1
        if self._calls % self._every:
            return None
        value = np.where(domains.open, lower, np.inf).min(axis=1)
        pick = np.argsort(value)[: self._leaf_points // 2]
        target = np.where(domains.open, lower, np.inf)[pick].argmin(axis=1)
        lo, hi = domains.lo[pick], domains.hi[pick]
        start = np.concatenate([guesses[pick], lo + self.random.random(lo.shape) * (hi - lo)])
        lo, hi, target = np.tile(lo, (2, 1)), np.tile(hi, (2, 1)), np.tile(target, 2)
        return self.check(self._improve(start, lo, hi, target, _LEAF_STEPS))

    def _improve(self, x: Array, lo: Array, hi: Array, target: Array, steps: int) -> Array:
        with self._phase("attack"):
            return self.descent.improve(x, lo, hi, target, steps)
