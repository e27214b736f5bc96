"""Einsum: permutations and matrix products, two operands at a time from the left.

A label that no later operand and not the output wants is summed over as soon as possible. Labels of one
operand only are spread over the other, so that one matrix product per pair does all the summing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.onnx_ops.affine import matrix_product
from bounds.io.onnx_ops.arithmetic import times
from bounds.io.values import Value


@dataclass(frozen=True, slots=True)
class _Term:
    """A tensor whose axes carry labels (one each, all different)."""

    value: Value
    labels: tuple[str, ...]


def _einsum(ctx: Context, call: Call) -> list[Value]:
    operands = [call.operand(i) for i in range(len(call.inputs))]
    inputs, output = _labels(call.text("equation", ""), [v.shape for v in operands])
    sizes: dict[str, int] = {}
    for value, names in zip(operands, inputs, strict=True):
        for name, size in zip(names, value.shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    terms = [_distinct(ctx, v, names) for v, names in zip(operands, inputs, strict=True)]
    result = terms[0]
    for i, other in enumerate(terms[1:], start=2):
        wanted = set(output).union(*(t.labels for t in terms[i:]))
        result = _contract(ctx, call, result, other, wanted, sizes)
    result = _summed_out(ctx, result, set(output))
    order = [result.labels.index(name) for name in output]
    return [ctx.move(result.value, lambda a: np.transpose(a, order))]


def _labels(
    equation: str, shapes: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of every operand's axes and of the output's; those of an ellipsis are ``.0``, ``.1``, ..."""
    sides = equation.replace(" ", "").split("->")
    parts = sides[0].split(",")
    if len(sides) > 2 or len(parts) != len(shapes):
        raise ValueError(f"equation '{equation}' for {len(shapes)} operands")
    inputs: list[tuple[str, ...]] = []
    widest = 0
    for part, shape in zip(parts, shapes, strict=True):
        before, dots, after = part.partition("...")
        hidden = len(shape) - len(before) - len(after) if dots else 0
        if (
            hidden < 0
            or len(before) + len(after) + hidden != len(shape)
            or not (before + after + "a").isalpha()
        ):
            raise ValueError(f"equation '{equation}' for a tensor of shape {list(shape)}")
        widest = max(widest, hidden)
        # broadcasting aligns the hidden axes at the right
        inputs.append((*before, *(f".{k}" for k in range(hidden - 1, -1, -1)), *after))
    ellipsis = tuple(f".{k}" for k in range(widest - 1, -1, -1))
    if len(sides) == 1:
        letters = "".join(parts).replace("...", "")
        output = (*ellipsis, *sorted(c for c in set(letters) if letters.count(c) == 1))
    else:
        before, dots, after = sides[1].partition("...")
        output = (*before, *(ellipsis if dots else ()), *after)
    known = {name for names in inputs for name in names}
    if not set(output) <= known or len(set(output)) != len(output):
        raise ValueError(f"equation '{equation}': the output repeats a label or names an unknown one")
    return inputs, output


def _distinct(ctx: Context, value: Value, names: tuple[str, ...]) -> _Term:
    """Repeated labels take the diagonal."""
    labels = tuple(dict.fromkeys(names))
    if len(labels) == len(names):
        return _Term(value, labels)
    numbers = [labels.index(name) for name in names]
    wanted = list(range(len(labels)))
    return _Term(ctx.move(value, lambda a: np.einsum(a, numbers, wanted)), labels)


def _summed_out(ctx: Context, term: _Term, wanted: set[str]) -> _Term:
    axes = tuple(i for i, name in enumerate(term.labels) if name not in wanted)
    if not axes:
        return term
    x = ctx.variable(term.value)
    terms = math.prod(x.shape[a] for a in axes)
    y = ctx.add(Op.SUM, [x], {"axes": axes}, roundings=terms)
    return _Term(y, tuple(name for name in term.labels if name in wanted))


def _contract(
    ctx: Context, call: Call, a: _Term, b: _Term, wanted: set[str], sizes: Mapping[str, int]
) -> _Term:
    """The product of two terms, summed over the labels that nothing else wants."""
    everything = (*a.labels, *(name for name in b.labels if name not in a.labels))
    gone = [name for name in everything if name not in wanted]
    both = [name for name in everything if name in wanted and name in a.labels and name in b.labels]
    left = [name for name in everything if name in wanted and name not in b.labels]
    right = [name for name in everything if name in wanted and name not in a.labels]
    labels = (*both, *left, *right)
    if not gone:
        x, y = (_arranged(ctx, t, labels, sizes, spread=False) for t in (a, b))
        return _Term(times(ctx, x, y), labels)
    batch, rows, columns, terms = (math.prod(sizes[n] for n in part) for part in (both, left, right, gone))
    x = _arranged(ctx, a, (*both, *left, *gone), sizes)
    y = _arranged(ctx, b, (*both, *gone, *right), sizes)
    outer = (batch,) if both else ()
    x = ctx.move(x, lambda v: v.reshape((*outer, rows, terms)))
    y = ctx.move(y, lambda v: v.reshape((*outer, terms, columns)))
    z = matrix_product(ctx, call, x, y)
    return _Term(ctx.move(z, lambda v: v.reshape([sizes[n] for n in labels])), labels)


def _arranged(
    ctx: Context, term: _Term, labels: Sequence[str], sizes: Mapping[str, int], *, spread: bool = True
) -> Value:
    """The term with axes in the order of ``labels``, new ones repeated (without ``spread``: of size 1)."""
    order = [term.labels.index(name) for name in labels if name in term.labels]
    own = [name in term.labels for name in labels]
    full = [sizes[name] for name in labels]

    def arrange(data: Array) -> Array:
        moved = np.transpose(data, order)
        sized = iter(moved.shape)
        moved = moved.reshape([next(sized) if mine else 1 for mine in own])
        return np.broadcast_to(moved, ctx.guard(full)) if spread else moved

    return ctx.move(term.value, arrange)


BUILDERS: Mapping[str, Builder] = {
    "Einsum": _einsum,
}
