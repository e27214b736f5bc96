"""Shape inference for every primitive: a table ``Op -> rule``.

A rule checks the operands against the table in :mod:`bounds.graph` and returns the shape ``*n`` of
the value. Rules raise ``ValueError`` with the offending shapes; the importer adds the place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bounds.graph import Op

Shape: TypeAlias = tuple[int, ...]
Rule: TypeAlias = Callable[[Sequence[Shape], Mapping[str, Any], "Shape | None"], Shape]


def infer_shape(
    op: Op, shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None = None
) -> Shape:
    """Returns the shape of ``op`` applied to operands of the given ``shapes``.

    Args:
        op: the primitive.
        shapes: shapes ``*n`` of the operands, in order.
        params: constant operands by name, see :mod:`bounds.graph`.
        shape: the wanted shape; needed by ``INPUT``, ``TAKE`` and ``RESHAPE``, which do not
            determine it themselves, and ignored by the others.

    Raises:
        ValueError: operands do not fit together.
    """
    arity = {Op.INPUT: 0, Op.ADD: len(shapes), Op.CONCAT: len(shapes), Op.MUL: 2}.get(op, 1)
    if len(shapes) != arity or (op in (Op.ADD, Op.CONCAT) and not shapes):
        raise ValueError(f"{op.value} got {len(shapes)} operands")
    return RULES[op](shapes, params, shape)


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Number of windows along one axis; ``padding`` is the total of both sides."""
    return (size + padding - (kernel - 1) * dilation - 1) // stride + 1


def broadcasts_to(small: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether an array of shape ``small`` broadcasts against ``shape`` without enlarging it."""
    try:
        return np.broadcast_shapes(tuple(small), tuple(shape)) == tuple(shape)
    except ValueError:
        return False


def _wanted(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shapes, params
    if shape is None or any(s < 0 for s in shape):
        raise ValueError(f"needs a shape of non-negative sizes, got {shape}")
    return shape


def _linear(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    x, weight = shapes[0], params["weight"].shape
    if len(weight) != 2 or not x or x[-1] != weight[1]:
        raise ValueError(f"weight {weight} does not fit input {x}")
    if params["bias"].shape != (weight[0],):
        raise ValueError(f"bias {params['bias'].shape} does not fit weight {weight}")
    return (*x[:-1], weight[0])


def _conv_operands(x: Shape, params: Mapping[str, Any]) -> Shape:
    weight: Shape = params["weight"].shape
    if len(x) != 4 or len(weight) != 4:
        raise ValueError(f"convolution needs rank 4, got input {x} and weight {weight}")
    if params["groups"] < 1 or x[1] % params["groups"] or min(params["strides"]) < 1:
        raise ValueError(f"{params['groups']} groups, strides {params['strides']} do not fit input {x}")
    if min(params["dilations"]) < 1 or min(params["pads"]) < 0:
        raise ValueError(f"bad dilations {params['dilations']} or pads {params['pads']}")
    return weight


def _conv(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    x = shapes[0]
    weight, groups, pads = _conv_operands(x, params), params["groups"], params["pads"]
    if x[1] != weight[1] * groups or weight[0] % groups or params["bias"].shape != (weight[0],):
        raise ValueError(f"weight {weight} with {groups} groups does not fit input {x}")
    size = [
        conv_size(
            x[2 + i], weight[2 + i], params["strides"][i], pads[i] + pads[i + 2], params["dilations"][i]
        )
        for i in (0, 1)
    ]
    if min(size) < 1:
        raise ValueError(f"window {weight[2:]} is larger than the padded input {x}")
    return (x[0], weight[0], *size)


def _conv_transpose(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    x = shapes[0]
    weight, groups, pads = _conv_operands(x, params), params["groups"], params["pads"]
    if x[1] != weight[0] or params["bias"].shape != (weight[1] * groups,):
        raise ValueError(f"weight {weight} with {groups} groups does not fit input {x}")
    size = [
        (x[2 + i] - 1) * params["strides"][i]
        + (weight[2 + i] - 1) * params["dilations"][i]
        + 1
        + params["output_padding"][i]
        - pads[i]
        - pads[i + 2]
        for i in (0, 1)
    ]
    if min(size) < 1 or min(params["output_padding"]) < 0:
        raise ValueError(f"padding {pads} leaves nothing of input {x}")
    return (x[0], weight[1] * groups, *size)


def _scale(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    for name in ("scale", "shift"):
        if not broadcasts_to(params[name].shape, shapes[0]):
            raise ValueError(f"{name} {params[name].shape} does not broadcast against {shapes[0]}")
    return shapes[0]


def _add(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    if any(s != shapes[0] for s in shapes) or len(params["coefficients"]) != len(shapes):
        raise ValueError(f"addition of shapes {list(shapes)} with {len(params['coefficients'])} coefficients")
    return shapes[0]


def _take(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    wanted = _wanted(shapes, params, shape)
    index, fill = params["index"], params["fill"]
    if index.shape != (math.prod(wanted),) or fill.shape != index.shape:
        raise ValueError(f"{index.shape} indices and {fill.shape} fill values for shape {wanted}")
    if index.size and not (index.min() >= -1 and index.max() < math.prod(shapes[0])):
        raise ValueError(f"index out of range for input {shapes[0]}")
    return wanted


def _reshape(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    wanted = _wanted(shapes, params, shape)
    if math.prod(wanted) != math.prod(shapes[0]):
        raise ValueError(f"cannot reshape {shapes[0]} to {wanted}")
    return wanted


def _concat(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    axis, first = params["axis"], shapes[0]
    if not 0 <= axis < len(first):
        raise ValueError(f"axis {axis} of shape {first}")
    for other in shapes:
        if len(other) != len(first) or other[:axis] + other[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ValueError(f"cannot concatenate {first} and {other} along axis {axis}")
    return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])


def _sum(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del shape
    axes = params["axes"]
    if len(set(axes)) != len(axes) or any(not 0 <= a < len(shapes[0]) for a in axes):
        raise ValueError(f"axes {axes} of shape {shapes[0]}")
    return tuple(s for i, s in enumerate(shapes[0]) if i not in axes)


def _same(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del params, shape
    return shapes[0]


def _mul(shapes: Sequence[Shape], params: Mapping[str, Any], shape: Shape | None) -> Shape:
    del params, shape
    if shapes[0] != shapes[1]:
        raise ValueError(f"product of shapes {shapes[0]} and {shapes[1]}")
    return shapes[0]


RULES: Mapping[Op, Rule] = {
    Op.INPUT: _wanted,
    Op.LINEAR: _linear,
    Op.CONV: _conv,
    Op.CONV_TRANSPOSE: _conv_transpose,
    Op.SCALE: _scale,
    Op.ADD: _add,
    Op.TAKE: _take,
    Op.RESHAPE: _reshape,
    Op.CONCAT: _concat,
    Op.SUM: _sum,
    Op.RELU: _same,
    Op.SCALAR: _same,
    Op.MUL: _mul,
}
