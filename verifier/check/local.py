"""Slopes on a region: the checker bounds every operand itself, from the region and the network alone.

The region is a box, perhaps with a ball inside of it that holds every point of interest. Operands are bounded
by the rule of the other certificates (:mod:`verifier.check.bounds`), every one of them backwards, in a few
passes: a later one chooses its lines by the intervals of the one before, and both hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bounds.errors import CertificateRejected
from verifier.check.arithmetic import Arithmetic
from verifier.check.bounds import Bounder
from verifier.check.cells import least
from verifier.check.network import Array, Kind, Network
from verifier.check.nonlinear import SLOPE_UNIT
from verifier.check.regions import Given
from verifier.check.slopes import slopes, slopes_between
from verifier.check.state import Choices, Interval, Marks, State
from verifier.spec.model import Ball

FEW_INPUTS = 64  # affine forms pay for them only
PASSES = 4
NONLINEAR = (Kind.RELU, Kind.SCALAR)


@dataclass(frozen=True, slots=True)
class Where:
    """Points a claim is about: in the box, and in the ball where there is one.

    ``centre``: if given, one point of every pair is this one.
    """

    low: Array
    high: Array
    ball: Ball | None = None
    centre: Array | None = None


def slopes_on(network: Network, where: Where | None) -> dict[int, tuple[Array, Array]]:
    """Per nonlinear node the slopes of each element, on a region, or everywhere."""
    nonlinear = [i for i, node in enumerate(network.nodes) if node.kind in NONLINEAR]
    found: dict[int, tuple[Array, Array]] = {}
    if where is None:
        for i in nonlinear:
            least, most = slopes(network.nodes[i])
            size = network.nodes[i].size
            found[i] = np.full(size, least), np.full(size, most)
        return found
    ranges = operand_ranges(network, where)
    at = None if where.centre is None else values_at(network, where.centre)[0]
    for i in nonlinear:
        node, (low, high) = network.nodes[i], ranges[i]
        if node.kind is Kind.SCALAR:
            found[i] = slopes_between(node, low, high)
        else:
            found[i] = _rectified(low, high) if at is None else _chords(low, high, *at[i])
    return found


def _rectified(low: Array, high: Array) -> tuple[Array, Array]:
    # a NaN compares false, which gives the widest range
    return np.where(low >= 0, 1.0, 0.0), np.where(high <= 0, 0.0, 1.0)


def _chords(low: Array, high: Array, below: Array, above: Array) -> tuple[Array, Array]:
    """A rectifier's difference quotients between one operand in [below, above] and any in [low, high].

    From c > 0 they are 1, or ``c / (c - v)`` at v < 0: least for the least c and v. From c < 0 they are 0, or
    ``v / (v - c)`` at v > 0: largest for the largest of both.
    """
    least, most = _rectified(low, high)
    active, idle = (below > 0) & (low < 0) & (low > -np.inf), (above < 0) & (high > 0) & (high < np.inf)
    quotient = below / np.where(active, below - low, 1.0)
    least = np.where(active, np.maximum(quotient * (1 - 2.0**-49), 0.0), least)
    quotient = high / np.where(idle, high - above, 1.0)
    most = np.where(idle, np.minimum(quotient * (1 + 2.0**-49), 1.0), most)
    return least, most


def operand_ranges(network: Network, where: Where) -> dict[int, Interval]:
    """Per nonlinear node an interval of each operand that holds on the region."""
    bounder = Bounder(
        network, Arithmetic(False), float32=False, forward=len(where.low) <= FEW_INPUTS, ball=where.ball
    )
    total = bounder.layout.total
    every = Marks(*(np.ones((1, n), bool) for n in (total[Kind.RELU], total[Kind.SCALAR], 0)))
    best: dict[int, Interval] = {}
    choice: Choices | None = None
    for _ in range(PASSES):
        with np.errstate(all="ignore"):
            state = bounder.run(where.low[None], where.high[None], Given(choice, every))
        changed = False
        for i in state.operands:
            low, high = (end[0] for end in state.operands[i][0])
            if not np.all(low <= high):
                raise CertificateRejected("region", f"operands of '{network.nodes[i].name}' have no bounds")
            old = best.get(i, (np.full(len(low), -np.inf), np.full(len(low), np.inf)))
            best[i] = np.maximum(low, old[0]), np.minimum(high, old[1])
            changed = changed or not (
                np.array_equal(best[i][0], old[0]) and np.array_equal(best[i][1], old[1])
            )
        if not changed:
            break
        choice = _lines(bounder, state)
    return best


def _lines(bounder: Bounder, state: State) -> Choices:
    """Lines for the next pass: of rectifiers 1 from below where most of the interval is positive, of other
    functions their chord's, which is a choice like any other."""
    total = bounder.layout.total
    rectified = np.zeros((1, total[Kind.RELU]), np.int64)
    lines = np.zeros((2, total[Kind.SCALAR]))
    for i in state.operands:
        node, (low, high) = bounder.network.nodes[i], state.operands[i][0]
        at = slice(bounder.layout.start[i], bounder.layout.start[i] + low.shape[1])
        if node.kind is Kind.RELU:
            rectified[0, at] = np.where(high[0] > -low[0], SLOPE_UNIT, 0)
            continue
        with np.errstate(all="ignore"):
            first, last = (
                least(node.function, end[0], end[0], 0 * end[0], exact=False) for end in (low, high)
            )
            chord = (last - first) / (high[0] - low[0])
        lines[:, at] = np.where(np.isfinite(chord), chord, 0.0)
    return Choices(rectified, lines.reshape(1, -1), np.zeros((1, 0), np.int64))


def values_at(network: Network, x: Array) -> tuple[dict[int, Interval], Interval]:
    """At one point: an interval of each operand of each nonlinear node, and of the outputs."""
    bounder = Bounder(network, Arithmetic(False), float32=False, forward=False)
    with np.errstate(all="ignore"):
        state = bounder.run(x[None], x[None])
    operands = {i: (ends[0][0][0], ends[0][1][0]) for i, ends in state.operands.items()}
    return operands, (state.low[network.output][0], state.high[network.output][0])
