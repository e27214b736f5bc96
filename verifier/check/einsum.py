"""Einsum: permutations and products, two operands at a time from the left.

A label that no later operand and not the output wants is summed over as soon as possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verifier.check.calls import Call, Operator, folded, moved
from verifier.check.elementwise import multiplied
from verifier.check.linear import matrix_product, sum_last
from verifier.check.network import Array, Const, Lowering, Value, guard
from verifier.check.rows import lanes


@dataclass(frozen=True, slots=True)
class _Term:
    """A tensor whose axes carry different labels."""

    value: Value
    labels: tuple[str, ...]


def _einsum(net: Lowering, call: Call) -> list[Value]:
    operands = [call.operand(i) for i in range(len(call.operands))]
    inputs, output = _labels(call.text("equation", ""), [v.shape for v in operands])
    sizes: dict[str, int] = {}
    for value, names in zip(operands, inputs, strict=True):
        for name, size in zip(names, value.shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    terms = [_distinct(net, v, names) for v, names in zip(operands, inputs, strict=True)]
    result = terms[0]
    for i, other in enumerate(terms[1:], start=2):
        wanted = set(output).union(*(t.labels for t in terms[i:]))
        result = _contract(net, result, other, wanted, sizes)
    result = _summed_out(net, result, set(output))
    order = [result.labels.index(name) for name in output]
    return [moved(net, result.value, lambda a: np.transpose(a, order))]


def _labels(
    equation: str, shapes: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of every operand's axes and of the output's; an ellipsis has .0, .1, ... from the right."""
    sides = equation.replace(" ", "").split("->")
    parts = sides[0].split(",")
    if len(sides) > 2 or len(parts) != len(shapes):
        raise ValueError(f"equation '{equation}' for {len(shapes)} operands")
    inputs: list[tuple[str, ...]] = []
    widest = 0
    for part, shape in zip(parts, shapes, strict=True):
        before, dots, after = part.partition("...")
        hidden = len(shape) - len(before) - len(after) if dots else 0
        fits = hidden >= 0 and len(before) + len(after) + hidden == len(shape)
        if not fits or not (before + after + "a").isalpha():
            raise ValueError(f"equation '{equation}' for a tensor of shape {shape}")
        widest = max(widest, hidden)
        inputs.append((*before, *_dots(hidden), *after))
    if len(sides) == 1:
        letters = "".join(parts).replace("...", "")
        output = (*_dots(widest), *sorted(c for c in set(letters) if letters.count(c) == 1))
    else:
        before, dots, after = sides[1].partition("...")
        output = (*before, *(_dots(widest) if dots else ()), *after)
    if not set(output) <= {n for names in inputs for n in names} or len(set(output)) != len(output):
        raise ValueError(f"equation '{equation}': the output repeats a label or names an unknown one")
    return inputs, output


def _dots(count: int) -> tuple[str, ...]:
    return tuple(f".{k}" for k in range(count - 1, -1, -1))


def _distinct(net: Lowering, value: Value, names: tuple[str, ...]) -> _Term:
    """Repeated labels take the diagonal."""
    labels = tuple(dict.fromkeys(names))
    if len(labels) == len(names):
        return _Term(value, labels)
    numbers = [labels.index(name) for name in names]
    return _Term(moved(net, value, lambda a: np.einsum(a, numbers, list(range(len(labels))))), labels)


def _summed_out(net: Lowering, term: _Term, wanted: set[str]) -> _Term:
    axes = tuple(i for i, name in enumerate(term.labels) if name not in wanted)
    if not axes:
        return term
    x = net.variable(term.value)
    rows = lanes(net, x, axes)
    total = sum_last(net, rows, roundings=rows.shape[1])
    rest = tuple(s for i, s in enumerate(x.shape) if i not in axes)
    return _Term(net.reshape(total, rest), tuple(name for name in term.labels if name in wanted))


def _contract(net: Lowering, a: _Term, b: _Term, wanted: set[str], sizes: Mapping[str, int]) -> _Term:
    """The product of two terms, summed over the labels that nothing else wants."""
    everything = (*a.labels, *(name for name in b.labels if name not in a.labels))
    gone = [name for name in everything if name not in wanted]
    both = [name for name in everything if name in wanted and name in a.labels and name in b.labels]
    left = [name for name in everything if name in wanted and name not in b.labels]
    right = [name for name in everything if name in wanted and name not in a.labels]
    labels = (*both, *left, *right)
    if not gone:
        x, y = (_arranged(net, t, labels, sizes, spread=False) for t in (a, b))
        if isinstance(x, Const) and isinstance(y, Const):
            known = folded("Mul", x, y)
            return _Term(known if known is not None else multiplied(net, net.variable(x), y), labels)
        return _Term(multiplied(net, x, y), labels)
    batch, rows, columns, terms = (math.prod(sizes[n] for n in part) for part in (both, left, right, gone))
    outer = (batch,) if both else ()
    x = _arranged(net, a, (*both, *left, *gone), sizes, spread=True)
    y = _arranged(net, b, (*both, *gone, *right), sizes, spread=True)
    x = moved(net, x, lambda v: v.reshape((*outer, rows, terms)))
    y = moved(net, y, lambda v: v.reshape((*outer, terms, columns)))
    z = matrix_product(net, x, y)
    return _Term(moved(net, z, lambda v: v.reshape([sizes[n] for n in labels])), labels)


def _arranged(
    net: Lowering, term: _Term, labels: Sequence[str], sizes: Mapping[str, int], *, spread: bool
) -> Value:
    """Axes in the order of ``labels``; new ones repeated, or (without ``spread``) of size 1."""
    order = [term.labels.index(name) for name in labels if name in term.labels]
    own, full = [name in term.labels for name in labels], [sizes[name] for name in labels]

    def arrange(data: Array) -> Array:
        placed = np.transpose(data, order)
        sized = iter(placed.shape)
        placed = placed.reshape([next(sized) if mine else 1 for mine in own])
        return np.broadcast_to(placed, guard(full)) if spread else placed

    return moved(net, term.value, arrange)


EINSUM: Mapping[str, Operator] = {"Einsum": _einsum}
