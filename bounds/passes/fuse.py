"""Fuses a SCALE into the affine node before it, where the error of the new constants is provable.

``W' = c W`` has entries of one product each, so a relative error bound holds. ``b' = c b + s`` may
cancel; its absolute error is bounded by ``(e_W + e_S + 4 u)(|c b| + |s|)`` and the fusion happens
only if that is small relative to every entry of b'. LINEAR after LINEAR is never fused: the entries
of a matrix product cancel, and no useful relative bound holds.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from bounds.graph import Array, Graph, Node, Op
from bounds.io.values import ROUND
from bounds.passes.base import Rewriter, Rewritten
from bounds.passes.dead import drop_dead

_ACCEPTED = 2.0**-40  # a fused constant may be off by this much, relative; otherwise nothing is fused
_TINY = 2.0**-900


class FuseScale:
    """The pass.

    With ``exact_only`` (level float32) it only turns ``W x`` followed by ``+ s`` into ``W x + s``:
    the same stored numbers, and the bound ``gamma_{k1 + k2} (|W| |x| + |s|)`` covers both roundings.
    Without (level real), scales are multiplied into weights.
    """

    def __init__(self, *, exact_only: bool) -> None:
        self.exact_only = exact_only

    def apply(self, graph: Graph) -> Rewritten:
        """Fuses and removes what is left over."""
        return Rewritten(drop_dead(Rewriter(graph).run(self._emit))[0])

    def _emit(self, rewriter: Rewriter, node: Node) -> int:
        if node.op is Op.SCALE and rewriter.uses[node.inputs[0]] == 1:
            before = rewriter.nodes[rewriter.renamed[node.inputs[0]]]
            fused = self._fuse(before, node)
            if fused is not None:
                return rewriter.put(fused, before.inputs)
        return rewriter.put(node)

    def _fuse(self, before: Node, node: Node) -> Node | None:
        names = _CONSTANTS.get(before.op)
        if names is None:
            return None
        scale = _per_output(node.params["scale"], node.shape, before)
        shift = _per_output(node.params["shift"], node.shape, before)
        if scale is None or shift is None:
            return None
        weight, bias = before.params[names[0]], before.params[names[1]]
        fresh = self._constants(before, node, (weight, bias), (scale, shift))
        if fresh is None:
            return None
        params: dict[str, Any] = {**before.params, names[0]: fresh[0], names[1]: fresh[1]}
        return replace(
            before,
            params=MappingProxyType(params),
            roundings=before.roundings + node.roundings,
            weight_error=fresh[2],
            source=node.source,
            tensor=node.tensor,
        )

    def _constants(
        self, before: Node, node: Node, old: tuple[Array, Array], by: tuple[Array, Array]
    ) -> tuple[Array, Array, float] | None:
        """New weight, new bias and their relative error; None if it cannot be proved small."""
        (weight, bias), (scale, shift) = old, by
        unit = bool(np.all(scale == 1))
        if self.exact_only and not (unit and not bias.any() and before.op is not Op.SCALE):
            return None
        error = max(before.weight_error, node.weight_error)
        if unit and not bias.any():
            return (
                weight,
                _frozen(np.broadcast_to(shift, np.broadcast_shapes(shift.shape, bias.shape))),
                error,
            )
        factor = scale if before.op is Op.SCALE else _on_outputs(scale, before)
        product = weight * factor
        if not _accurate(product, (weight != 0) & (factor != 0)):
            return None
        errors = before.weight_error + node.weight_error
        scaled = bias * scale
        total = np.asarray(scaled + shift)
        spread = (errors + 4 * ROUND) * (1 + 2.0**-20) * (np.abs(scaled) + np.abs(shift))
        spread = spread + _TINY * ((bias != 0) & (scale != 0))  # underflow of the product
        exact = ((shift == 0) & (scale == 1)) | (bias == 0)
        with np.errstate(all="ignore"):  # a sum that cancels to zero has no relative bound: infinity
            ratio = np.where(exact, 0.0, np.where(spread > 0, spread / np.abs(total), 0.0))
        error = max((errors + ROUND) * (1 + 2.0**-20), float(ratio.max(initial=0.0)))
        if not error <= _ACCEPTED:
            return None
        return (
            _frozen(product),
            _frozen(np.broadcast_to(total, np.broadcast_shapes(total.shape, bias.shape))),
            error,
        )


_CONSTANTS: dict[Op, tuple[str, str]] = {
    Op.LINEAR: ("weight", "bias"),
    Op.CONV: ("weight", "bias"),
    Op.SCALE: ("scale", "shift"),
}


def _per_output(constant: Array, shape: tuple[int, ...], before: Node) -> Array | None:
    """The constant as one number per output feature or channel, or None if it varies otherwise.

    After a SCALE it stays as it is: both broadcast against the same shape.
    """
    if before.op is Op.SCALE:
        return constant
    axis = len(shape) - 1 if before.op is Op.LINEAR else 1
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    if any(s != 1 for i, s in enumerate(full.shape) if i != axis):
        return None
    return np.broadcast_to(full.ravel(), (shape[axis],))


def _on_outputs(scale: Array, before: Node) -> Array:
    return scale.reshape((-1,) + (1,) * (before.params["weight"].ndim - 1))


def _accurate(product: Array, nonzero: Array) -> bool:
    """Whether no product underflowed or overflowed, so that each has relative error ``2^-53``."""
    size = np.abs(product)
    return bool(np.all(np.isfinite(product) & ((size > _TINY) | ~nonzero)))


def _frozen(array: Array) -> Array:
    fresh = np.array(array)
    fresh.setflags(write=False)
    return fresh
