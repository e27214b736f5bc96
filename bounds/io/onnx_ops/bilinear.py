"""Matrix products of two tensors that both depend on the input.

Normal form: both operands are spread by TAKE to ``(..., M, N, K)``, one MUL multiplies them and a SUM
adds over K. The model's dot product of length K rounds K times in any order, counted on the SUM.
"""

from __future__ import annotations

import numpy as np

from bounds.graph import Op
from bounds.io.context import Context
from bounds.io.values import Var


def product_of_variables(ctx: Context, a: Var, b: Var) -> Var:
    """``a @ b`` with numpy's rules for ranks and broadcasting."""
    if not a.shape or not b.shape:
        raise ValueError("matrix product with a scalar")
    left = ctx.index(a) if len(a.shape) > 1 else ctx.index(a)[None, :]
    right = ctx.index(b) if len(b.shape) > 1 else ctx.index(b)[:, None]
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matrix product of shapes {list(a.shape)} and {list(b.shape)}")
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    rows, terms, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    shape = ctx.guard((*batch, rows, columns, terms))
    x = ctx.take(a, np.broadcast_to(left[..., :, None, :], shape))
    y = ctx.take(b, np.broadcast_to(np.swapaxes(right, -1, -2)[..., None, :, :], shape))
    total = summed(ctx, ctx.product(x, y, roundings=0), roundings=terms)
    kept_rows = (rows,) if len(a.shape) > 1 else ()
    kept_columns = (columns,) if len(b.shape) > 1 else ()
    return ctx.reshape(total, (*batch, *kept_rows, *kept_columns))


def summed(ctx: Context, x: Var, *, roundings: int) -> Var:
    """The sum over the last axis."""
    return ctx.add(Op.SUM, [x], {"axes": (len(x.shape) - 1,)}, roundings=roundings)
