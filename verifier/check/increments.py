"""A network's increments, level by level: what a Lipschitz certificate speaks about.

Nonlinear nodes have levels (the longest path counts them). The state in front of a level is every node that
is known by then and read later. Between two states everything is a matrix, which is found by pushing unit
vectors through the affine nodes; beside each entry goes a bound on its magnitude, and one relative error for
all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from bounds.errors import LimitExceeded, ModelUnsupported
from verifier.check.network import Array, Kind, Network, Node, Scale

U = 2.0**-53
TINY = 2.0**-800  # relative errors of magnitudes above this pay for underflow too
MAX_ENTRIES = 1 << 26
NONLINEAR = (Kind.RELU, Kind.SCALAR)

Form = dict[int, Fraction]


def gamma(n: int) -> float:
    """A bound on the relative error of n roundings (Higham 2002, lemma 3.1), with room for a few more."""
    return (n + 2) * U / (1 - (n + 2) * U) * (1 + 2.0**-30)


@dataclass(frozen=True, slots=True)
class Approximate:
    """A matrix: ``|true - value| <= error * size``, ``|true|, |value| <= size``."""

    value: Array
    size: Array
    error: float


@dataclass(frozen=True, slots=True)
class Level:
    """``v = d s``, and the next state from ``(s, w)``: ``h``; nonlinear nodes in order."""

    nodes: tuple[int, ...]
    d: Approximate
    h: Approximate


@dataclass(frozen=True, slots=True)
class Increments:
    """The first state from the input (``x``), the levels, and the output from the last state (``c``)."""

    x: Approximate
    levels: tuple[Level, ...]
    c: Approximate


def opposite(network: Network, number: Mapping[int, int], like: int, node: int, sign: int) -> Network:
    """The network with rectifier ``node`` written with rectifier ``like``; ValueError if operands do not fit.

    Args:
        network: the network.
        number: position of each rectifier (unused ids are refused).
        like, node: ids of rectifiers.
        sign: 1 if their operands are equal, -1 if they are opposite: ``relu(-v) = relu(v) - v``.
    """
    if like == node or like not in number or node not in number or sign not in (1, -1):
        raise ValueError("no such rectifier")
    a, b = network.nodes[like].operands[0], network.nodes[node].operands[0]
    first, second = _form(network, a), _form(network, b)
    if {k: sign * c for k, c in first.items()} != second:
        raise ValueError("its operand is not that of the other, up to the sign")
    # by the other's operand, not its own: nothing else may need that, and states stay small
    minus = (Scale(np.full(network.nodes[a].size, -1.0)),)
    terms = ((like, ()),) if sign == 1 else ((like, ()), (a, minus))
    if like > node:
        raise ValueError("it comes before the other")
    nodes = list(network.nodes)
    nodes[node] = Node(nodes[node].size, Kind.AFFINE, terms, names=nodes[node].names)
    return replace(network, nodes=tuple(nodes))


def _form(network: Network, i: int) -> Form:
    """A node as an exact combination of other nodes."""
    node = network.nodes[i]
    if node.kind is not Kind.AFFINE or node.error or (node.bias is not None and np.any(node.bias)):
        return {i: Fraction(1)}
    total: Form = {}
    for source, chain in node.terms:
        factor = Fraction(1)
        for map_ in chain:
            weights = map_.weight.reshape(-1) if isinstance(map_, Scale) else np.zeros(0)
            if not weights.size or np.any(weights != weights[0]) or not weights[0]:
                return {i: Fraction(1)}
            factor *= Fraction(float(weights[0]))
        for k, c in _form(network, source).items():
            total[k] = total.get(k, Fraction(0)) + factor * c
    return {k: c for k, c in total.items() if c} or {i: Fraction(1)}


def increments(network: Network) -> Increments:
    """Reads a network; products of tensors are refused."""
    level = _levels(network)
    depth = max(level)
    groups = [
        tuple(i for i, n in enumerate(network.nodes) if n.kind in NONLINEAR and level[i] == k)
        for k in range(1, depth + 1)
    ]
    states = [_state(network, level, k) for k in range(depth + 1)]
    first = _matrix(network, (0,), (), states[0])
    levels: list[Level] = []
    for k, nodes in enumerate(groups):
        operands = tuple(network.nodes[i].operands[0] for i in nodes)
        d = _matrix(network, states[k], (), operands)
        h = _matrix(network, states[k], nodes, states[k + 1])
        levels.append(Level(nodes, d, h))
    return Increments(first, tuple(levels), _matrix(network, states[-1], (), (network.output,)))


def _levels(network: Network) -> list[int]:
    level: list[int] = []
    for node in network.nodes:
        if node.kind is Kind.PRODUCT:
            raise ModelUnsupported("product", node.name, "a Lipschitz certificate has no rule for it")
        sources = [*node.operands, *(source for source, _ in node.terms)]
        level.append(max((level[i] for i in sources), default=0) + (node.kind in NONLINEAR))
    return level


def _state(network: Network, level: Sequence[int], k: int) -> tuple[int, ...]:
    """Nodes of level k or less that nodes above it read, or that are the output; none follows from others.

    A redundant state is sound too, but differences that no two runs have may then spoil the conditioning.
    """
    found = {network.output} if level[network.output] <= k else set[int]()
    for i, node in enumerate(network.nodes):
        if level[i] > k:
            found.update(j for j in (*node.operands, *(s for s, _ in node.terms)) if level[j] <= k)
    for i in sorted(found, reverse=True):
        if _follows(network, i, found - {i}):
            found.remove(i)
    return tuple(sorted(found))


def _follows(network: Network, i: int, known: set[int]) -> bool:
    """Whether a node is an affine function of ``known`` ones."""
    stack, seen = [i], set[int]()
    while stack:
        j = stack.pop()
        if j in known or j in seen:
            continue
        if network.nodes[j].kind is not Kind.AFFINE:
            return False
        seen.add(j)
        stack.extend(source for source, _ in network.nodes[j].terms)
    return True


def _matrix(
    network: Network, state: Sequence[int], fresh: Sequence[int], targets: Sequence[int]
) -> Approximate:
    """The map from the values of ``state`` and ``fresh`` to those of ``targets``."""
    sources = [*state, *fresh]
    width = sum(network.nodes[i].size for i in sources)
    if width * sum(network.nodes[i].size for i in targets) > MAX_ENTRIES:
        raise LimitExceeded("a step of this network is too large for the checker")
    known: dict[int, Approximate] = {}
    at = 0
    for i in sources:
        size = network.nodes[i].size
        unit = np.zeros((width, size))
        unit[np.arange(at, at + size), np.arange(size)] = 1.0
        known[i] = Approximate(unit, unit, 0.0)
        at += size
    for i in _wanted(network, targets, known):
        known[i] = _push(network.nodes[i], known, width)
    parts = [known[i] for i in targets]
    value, size = (np.concatenate([getattr(p, a) for p in parts], axis=1).T for a in ("value", "size"))
    return Approximate(np.ascontiguousarray(value), np.ascontiguousarray(size), max(p.error for p in parts))


def _wanted(network: Network, targets: Sequence[int], known: Mapping[int, Approximate]) -> list[int]:
    found: set[int] = set()
    stack = [i for i in targets if i not in known]
    while stack:
        i = stack.pop()
        if i in found:
            continue
        if network.nodes[i].kind is not Kind.AFFINE:
            raise ModelUnsupported(
                network.nodes[i].kind.value, network.nodes[i].name, "it is no part of the state"
            )
        found.add(i)
        stack.extend(j for j, _ in network.nodes[i].terms if j not in known)
    return sorted(found)


def _push(node: Node, known: Mapping[int, Approximate], width: int) -> Approximate:
    value, size = np.zeros((width, node.size)), np.zeros((width, node.size))
    error, roundings = 0.0, len(node.terms)
    for source, chain in node.terms:
        part = known[source]
        v, s = part.value, part.size
        for map_ in chain:
            v, s = map_.forward(v), map_.with_weights(_absolute).forward(s)
        value, size = value + v, size + s
        error = max(error, part.error)
        roundings += sum(map_.roundings + 1 for map_ in chain)
    grown = gamma(2 * roundings + 4)
    return Approximate(
        value, size * (1 + grown) * (1 + node.error) + TINY, (error + grown + node.error) * (1 + 2.0**-20)
    )


_absolute: Callable[[Array], Array] = np.abs
