"""CROWN-IBP on a chain of affine maps and rectifiers, with both directions of differentiation by hand.

The same mathematics as :mod:`bounds.methods.nominal`, for the networks that are trained most. Recorded
operation by operation, half of a small network's step is bookkeeping of the recorder, and most of a large
one's is elementwise traffic; here a step is two recorded functions. Values are flat; those of images have
their channels last (``h w c``), in which PyTorch's CPU library computes convolutions several times faster (it
need not reorder operands). Nominal, as everything for training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bounds.kernels.torch import output_padding
from bounds.methods import nominal
from bounds.ops.base import AffineMap
from bounds.ops.conv import ConvGeometry, ConvMap
from bounds.ops.linear import DenseMap
from bounds.ops.structure import ScaleMap
from bounds.plan import AffineStep, InputStep, Plan, ReluStep


@dataclass(frozen=True, slots=True)
class Dense:
    """``x -> W x``, W of ``outputs inputs``."""

    def apply(self, x: Tensor, w: Tensor) -> Tensor:
        """``D outputs``."""
        return x @ w.mT

    def adjoint(self, a: Tensor, w: Tensor) -> Tensor:
        """``D inputs``."""
        return a @ w

    def gradient(self, x: Tensor, a: Tensor, w: Tensor) -> Tensor:
        """Of ``a . W x`` in W."""
        del w
        return a.mT @ x

    def spread(self, bias: Tensor) -> Tensor:
        """The flat bias."""
        return bias


@dataclass(frozen=True, slots=True)
class Convolution:
    """The same of a kernel on flat ``h w c`` images."""

    geometry: ConvGeometry

    def apply(self, x: Tensor, w: Tensor) -> Tensor:
        """``D p*q*o``."""
        g = self.geometry
        y = functional.conv2d(self._images(x), w, None, g.strides, g.pads[:2], g.dilations, g.groups)
        return _flat(y)

    def adjoint(self, a: Tensor, w: Tensor) -> Tensor:
        """``D h*w*c``."""
        g = self.geometry
        if g.c == 1:  # the library has nothing fast for one channel: a product, and patches summed up
            patches = w.reshape(g.o, -1).mT @ a.reshape(len(a), g.p * g.q, g.o).mT
            return functional.fold(
                patches, (g.h, g.w), g.kernel, dilation=g.dilations, padding=g.pads[:2], stride=g.strides
            ).flatten(1)
        more = output_padding(g) or (0, 0)
        return _flat(
            functional.conv_transpose2d(
                self._features(a), w, None, g.strides, g.pads[:2], more, g.groups, g.dilations
            )
        )

    def gradient(self, x: Tensor, a: Tensor, w: Tensor) -> Tensor:
        """Of ``a . W x`` in the kernel."""
        g = self.geometry
        wanted = (False, True, False)
        return torch.ops.aten.convolution_backward(
            self._features(a), self._images(x), w, None, g.strides, g.pads[:2], g.dilations, False, (0, 0),
            g.groups, wanted,
        )[1]  # fmt: skip

    def spread(self, bias: Tensor) -> Tensor:
        """The flat bias of ``o`` channels."""
        return bias.expand(self.geometry.p * self.geometry.q, -1).reshape(-1)

    def _images(self, x: Tensor) -> Tensor:
        g = self.geometry
        return x.reshape(len(x), g.h, g.w, g.c).permute(0, 3, 1, 2)

    def _features(self, a: Tensor) -> Tensor:
        g = self.geometry
        return a.reshape(len(a), g.p, g.q, g.o).permute(0, 3, 1, 2)


def _flat(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(len(images), -1)


@dataclass(frozen=True, slots=True)
class Link:
    """An affine map of the chain, a scale that follows it before the rectifier, its operand's image.

    Attributes:
        kind: how it is applied.
        slot: its slot.
        scale: slot of the scale, or None.
        image: channels, height and width where its operand is an image.
    """

    kind: Dense | Convolution
    slot: int
    scale: int | None
    image: tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Chain:
    """The links of a plan in order; a rectifier follows each but the last."""

    links: tuple[Link, ...]

    def weights(self, given: Callable[[int, str], Tensor | None]) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias (flat) of every link, with scales multiplied in and images channels last.

        Args:
            given: the present parameter of a slot's node by name, or None.
        """
        return [_weight(link, given) for link in self.links]

    def inputs(self, x: Tensor) -> Tensor:
        """Flat inputs in the order of the first link."""
        image = self.links[0].image
        if image is None or isinstance(self.links[0].kind, Dense):
            return x
        return _flat(x.reshape(len(x), *image))

    def intervals(self, weights: Any, lo: Tensor, hi: Tensor) -> Walked:
        """Intervals up to the last link."""
        lo, hi = self.inputs(lo), self.inputs(hi)
        middle, radius = (lo + hi) * 0.5, (hi - lo) * 0.5
        kinds = [link.kind for link in self.links[:-1]]
        flat = [t for pair in weights[:-1] for t in pair]
        made: Any = _Up.apply(kinds, middle, radius, *flat)
        return Walked((middle, radius), list(made[:-2]), (made[-2], made[-1]))

    def lower(self, weights: Any, found: Walked, c: Tensor, d: Tensor) -> Tensor:
        """``D S``: lower bounds of ``c y + d``, rows ``c: D S outputs``, by a backward pass."""
        w, bias = weights[-1]
        const = d if bias is None else d + c @ bias
        kinds = [link.kind for link in self.links[:-1]]
        flat = [t for pair in weights[:-1] for t in pair]
        made: Any = _Down.apply(kinds, c @ w, *found.inputs, *found.before, *flat)
        return const + made


@dataclass(frozen=True, slots=True)
class Walked:
    """What intervals found.

    Attributes:
        inputs: centre and radius ``D d`` of the inputs.
        before: ``max(hi, 0)`` and ``min(lo, 0)``, one after the other, of every rectifier's operand.
        last: those of the last link's operand.
    """

    inputs: tuple[Tensor, Tensor]
    before: list[Tensor]
    last: tuple[Tensor, Tensor]


def chain_of(plan: Plan) -> Chain | None:
    """The chain that a plan is, or None: affine maps (dense or convolutions, perhaps with a scale behind) and
    rectifiers in turns, from the inputs to the only output."""
    links: list[Link] = []
    image: tuple[int, int, int] | None = None
    steps = plan.steps
    if not isinstance(steps[0], InputStep) or len(plan.outputs) != 1:
        return None
    expected, index = steps[0].slot, 1
    while index < len(steps):
        step = steps[index]
        if not isinstance(step, AffineStep) or step.sources != (expected,):
            return None
        scale, end = None, step.slot
        follower = steps[index + 1] if index + 1 < len(steps) else None
        if isinstance(follower, AffineStep) and isinstance(follower.map, ScaleMap):
            if follower.sources != (end,):
                return None
            scale = end = follower.slot
            if not _per_row(follower.map, step.map):
                return None
        link = _link(step, scale, image, first=index == 1)
        if link is None:
            return None
        links.append(link)
        image = _image_after(link)
        index += 2 if scale is not None else 1
        if index == len(steps):
            fits = end == plan.outputs[0] and isinstance(link.kind, Dense) and len(links) > 1
            return Chain(tuple(links)) if fits and max(plan.fanout) == 1 else None
        relu = steps[index]
        if not isinstance(relu, ReluStep) or relu.source != end:
            return None
        expected, index = relu.slot, index + 1
    return None


def _per_row(scale: ScaleMap, map_: AffineMap) -> bool:
    """Whether a scale has one number per row of the weight before it (as normalisation has)."""
    rows = map_.geometry.o if isinstance(map_, ConvMap) else map_.size
    return scale.shape[1:2] == (rows,) and scale.size == map_.size


def _link(
    step: AffineStep, scale: int | None, image: tuple[int, int, int] | None, *, first: bool
) -> Link | None:
    map_ = step.map
    if isinstance(map_, DenseMap) and map_.lead == 1:
        return Link(Dense(), step.slot, scale, image)
    if not isinstance(map_, ConvMap) or map_.flip:
        return None
    g = map_.geometry
    own = (g.c, g.h, g.w)
    if g.n != 1 or output_padding(g) is None or (not first and image != own) or (g.c == 1 and g.groups > 1):
        return None
    return Link(Convolution(g), step.slot, scale, own)


def _image_after(link: Link) -> tuple[int, int, int] | None:
    if isinstance(link.kind, Dense):
        return None
    g = link.kind.geometry
    return g.o, g.p, g.q


def _weight(link: Link, given: Callable[[int, str], Tensor | None]) -> tuple[Tensor, Tensor | None]:
    w, bias = given(link.slot, "weight"), given(link.slot, "bias")
    assert w is not None
    if isinstance(link.kind, Convolution):
        w = w.contiguous(memory_format=torch.channels_last)
    elif link.image is not None:
        w = _flat(w.reshape(len(w), *link.image))
    if link.scale is not None:
        factor, shift = given(link.scale, "scale"), given(link.scale, "shift")
        assert factor is not None and shift is not None
        factor, shift = factor.reshape(-1), shift.reshape(-1)
        w = w * factor.reshape(-1, *[1] * (w.dim() - 1))
        bias = shift if bias is None else factor * bias + shift
    return w, None if bias is None else link.kind.spread(bias)


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


class _Up(torch.autograd.Function):
    """Intervals through the chain: what rows need of every rectifier's operand, and what follows the last."""

    @staticmethod
    def forward(ctx: Any, kinds: Any, middle: Tensor, radius: Tensor, *flat: Any) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        operands = [middle, radius]
        sizes: list[Tensor] = []
        for kind, (w, bias) in zip(kinds, _pairs(flat), strict=True):
            sizes.append(w.abs())
            centre, width = kind.apply(middle, w), kind.apply(radius, sizes[-1])
            if bias is not None:
                centre += bias
            p, q, middle, radius = nominal.relu_interval(centre, width)
            found += [p, q]
            operands += [middle, radius]
        ctx.kinds = kinds
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*operands, *found, *sizes, *flat)
        return (*found, middle, radius)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        n, saved = len(ctx.kinds), ctx.saved_tensors
        operands, found = _pairs(saved[: 2 * n + 2]), _pairs(saved[2 * n + 2 : 4 * n + 2])
        sizes, weights = saved[4 * n + 2 : 5 * n + 2], _pairs(saved[5 * n + 2 :])
        given = _pairs(grads)
        to_middle, to_radius = (
            torch.zeros_like(o) if g is None else g for g, o in zip(given[-1], operands[-1], strict=True)
        )
        reach = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        made: list[Any] = []
        for k in reversed(range(n)):
            kind, (w, bias) = ctx.kinds[k], weights[k]
            gc, gr = nominal.relu_interval_gradient(
                (*found[k], *operands[k + 1]), *given[k], to_middle, to_radius
            )
            to_w = kind.gradient(operands[k][0], gc, w)
            to_w += _signed(kind.gradient(operands[k][1], gr, w), w)
            made = [to_w, None if bias is None else gc.sum(0), *made]
            if k or reach:
                to_middle, to_radius = kind.adjoint(gc, w), kind.adjoint(gr, sizes[k])
        return (None, to_middle if reach else None, to_radius if reach else None, *made)


def _signed(g: Tensor, w: Tensor) -> Tensor:
    """``g`` times the sign of ``w`` (-1 at 0), in one pass."""
    return torch.ops.aten.leaky_relu_backward(g, w, -1.0, False)


class _Down(torch.autograd.Function):
    """Rows from behind the last rectifier to the inputs, where they take their least value."""

    @staticmethod
    def forward(ctx: Any, kinds: Any, rows: Tensor, *flat: Any) -> Tensor:
        n = len(kinds)
        middle, radius = flat[:2]
        before, weights = _pairs(flat[2 : 2 + 2 * n]), _pairs(flat[2 + 2 * n :])
        boxes, count = rows.shape[:2]
        const = rows.new_zeros(boxes, count)
        entered: list[Tensor] = []
        left: list[Tensor] = []
        a = rows
        for k in reversed(range(n)):
            out, drop = nominal.relu_rows(a, *before[k], weights[k][1])
            entered.append(a)
            left.append(out)
            const += drop
            a = kinds[k].adjoint(out.reshape(boxes * count, -1), weights[k][0]).reshape(boxes, count, -1)
        const += nominal.dot(a, middle) - nominal.dot(a.abs(), radius)
        ctx.kinds, ctx.count = kinds, n
        ctx.save_for_backward(*entered, *left, a, *flat)
        return const

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        n, saved = ctx.count, ctx.saved_tensors
        entered, left, a, flat = saved[:n], saved[n : 2 * n], saved[2 * n], saved[2 * n + 1 :]
        middle, radius = flat[:2]
        before, weights = _pairs(flat[2 : 2 + 2 * n]), _pairs(flat[2 + 2 * n :])
        (g,) = grads
        boxes, count = g.shape
        ends: list[Any] = [None, None]
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            ends = [(g[:, None] @ a)[:, 0], -(g[:, None] @ a.abs())[:, 0]]
        given = (middle[:, None] - a.sgn().mul_(radius[:, None])).mul_(g[:, :, None])
        to_before: list[Any] = []
        to_weights: list[Any] = []
        for k in range(n):
            kind, (w, bias) = ctx.kinds[k], weights[k]
            out, entering = left[n - 1 - k], entered[n - 1 - k]
            flat_given = given.reshape(boxes * count, -1)
            to_w = kind.gradient(flat_given, out.reshape(boxes * count, -1), w)
            onward = kind.apply(flat_given, w).reshape(boxes, count, -1)
            given, to_p, to_q, to_bias = nominal.relu_rows_gradient(onward, g, entering, before[k], out, bias)
            to_before += [to_p, to_q]
            to_weights += [to_w, to_bias]
        return (None, given, *ends, *to_before, *to_weights)
