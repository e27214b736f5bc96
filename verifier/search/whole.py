"""Inputs that the network only reads rounded to whole numbers.

A step function takes the value of the next piece at a jump, so that no closed box next to a jump is ever free
of it, however often it is split. Where an input x enters the network through one such function r alone
(floor, ceil, trunc, round, none of which changes a whole number), the network cannot tell x from r(x). On
``[l, u]`` r is monotone: it takes whole values between r(l) and r(u) only, and whatever holds for every whole
number n in ``[r(l), r(u)]`` holds for every x of the box. Such an input is searched as a whole number: a box
may be split *between* two of them, and both children then end on whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from bounds.expression import Expr, Fn, nodes
from bounds.graph import Array, Graph, Op
from verifier.spec.model import Case

ROUNDINGS: Mapping[Fn, Callable[[Fraction], int]] = {
    Fn.FLOOR: math.floor,
    Fn.CEIL: math.ceil,
    Fn.TRUNC: math.trunc,
    Fn.ROUND: round,
}
# ends must be float64 numbers, and so must the points between them
_LARGEST = 1 << 52


def rounded_inputs(graph: Graph) -> dict[int, Fn]:
    """Flat input elements that every reader rounds first, all by the same function; and by which one.

    Elements that nobody reads are left out.
    """
    readers: dict[int, set[Fn | None]] = {}  # None: a reader that takes the number as it is
    # of nodes that only move data: the input element that each element is, -1 for none
    origin: dict[int, Array] = {}

    def note(elements: Array, how: Fn | None) -> None:
        for i in np.unique(elements[elements >= 0]):
            readers.setdefault(int(i), set()).add(how)

    start = 0
    for port in graph.inputs:
        size = graph.nodes[port.node].size
        origin[port.node] = np.arange(start, start + size).reshape(graph.nodes[port.node].shape)
        start += size
    for node in graph.nodes:
        moved = [origin[i] for i in node.inputs if i in origin]
        if node.op is Op.TAKE and moved:
            index = node.params["index"].reshape(-1)
            flat = moved[0].reshape(-1)
            origin[node.id] = np.where(index >= 0, flat[np.maximum(index, 0)], -1).reshape(node.shape)
        elif node.op is Op.RESHAPE and moved:
            origin[node.id] = moved[0].reshape(node.shape)
        else:
            how = first_rounding(node.params["function"]) if node.op is Op.SCALAR else None
            for part in moved:
                note(part, how)
    for port in graph.outputs:
        if port.node in origin:
            note(origin[port.node], None)
    alone = {i: next(iter(how)) for i, how in readers.items() if len(how) == 1}
    return {i: how for i, how in alone.items() if how is not None}


def first_rounding(e: Expr) -> Fn | None:
    """The rounding through which alone an expression reads its variable; None if there is no such one."""
    found = {part.fn for part in nodes(e) if any(a.fn is Fn.X for a in part.args)}
    return found.pop() if len(found) == 1 and found <= ROUNDINGS.keys() else None


def in_whole_numbers(case: Case, rounded: Mapping[int, Fn]) -> tuple[Case, Array]:
    """The case with the boxes of such inputs in whole numbers, and which inputs those are (``d`` bool).

    Rows that read an input, and balls, are about the number itself: such inputs stay as they are. An end r(l)
    may lie outside the box (a witness there is moved back into it, to l).

    Args:
        case: not an empty one.
        rounded: :func:`rounded_inputs` of the network.
    """
    whole = np.zeros(len(case.lower), dtype=bool)
    if case.ball is not None:
        return case, whole
    direct = {j for rows in case.disjuncts for row in rows for j in row.inputs}
    lower, upper = list(case.lower), list(case.upper)
    for j, how in rounded.items():
        ends = ROUNDINGS[how](lower[j]), ROUNDINGS[how](upper[j])
        if j in direct or lower[j] == upper[j] or max(map(abs, ends)) > _LARGEST:
            continue
        lower[j], upper[j] = map(Fraction, ends)
        whole[j] = True
    return replace(case, lower=tuple(lower), upper=tuple(upper)), whole
