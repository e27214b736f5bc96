"""The PyTorch backend: float32 and float64 on any device, differentiable where gradients are recorded.

Rounding: every product-sum here is a plain sum of products in some order, fused or not, which is all that
:mod:`bounds.numerics` assumes. Two things would break that and are refused: reduced-precision modes
(TF32, bfloat16, autocast), and convolutions by transforms (Winograd, FFT), whose error is not relative to
the terms of each sum. Convolutions are therefore matrix products per kernel position, except where the
library's own convolution has been seen to be direct (:func:`_is_direct`), on the CPU only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bounds.errors import BadInput
from bounds.numerics import Precision

if TYPE_CHECKING:
    from bounds.ops.conv import ConvGeometry

_TYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}
# settings that may shorten float32 products, by kind of device
_SETTINGS = {"cpu": ("mkldnn.matmul", "mkldnn.conv"), "cuda": ("cuda.matmul", "cudnn", "cudnn.conv")}
_FULL = ("none", "ieee")
_PROBE = 64


class TorchKernels:
    """See :class:`bounds.kernels.base.Kernels`.

    Args:
        precision: any floating-point precision (exact rationals are NumPy's business).
        device: where arrays live ("cpu", "cuda", "cuda:1").

    Raises:
        BadInput: the device is not there, or a reduced-precision mode is on.
    """

    name = "torch"

    def __init__(self, precision: Precision, device: str = "cpu") -> None:
        if precision.dtype not in _TYPES:
            raise BadInput(f"PyTorch has no {precision.name} arithmetic: use the NumPy backend for it")
        self.precision = precision
        self.dtype = _TYPES[precision.dtype]
        self.device = _device(device)
        self._check_products()
        self._direct: dict[tuple[Any, ...], bool] = {}

    def array(self, values: Any) -> Any:
        # every pass over boxes starts by bringing them here: the place to notice a changed mode
        self._check_modes()
        if isinstance(values, Tensor):
            dtype = self.dtype if values.is_floating_point() else values.dtype
            return values.to(self.device, dtype)
        array = np.asarray(values)
        if array.dtype.kind in "iu":
            return torch.as_tensor(array.astype(np.int64), device=self.device)
        if array.dtype.kind == "b":
            return torch.tensor(array, device=self.device)
        # a copy: torch and numpy must not share memory that one of them may write to
        return torch.tensor(np.asarray(array, dtype=self.precision.dtype), device=self.device)

    def numpy(self, values: Any) -> Any:
        if not isinstance(values, Tensor):
            return np.asarray(values)
        host = values.detach().cpu()
        return host.double().numpy() if host.is_floating_point() else host.numpy()

    def zeros(self, *shape: int) -> Any:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def matmul(self, a: Any, b: Any) -> Any:
        return torch.matmul(a, b)

    def rowdot(self, a: Any, b: Any) -> Any:
        shared = len(b) > 0 and b.stride(0) == 0
        return a @ b[0] if shared else torch.linalg.vecdot(a, b)

    def abs_dot(self, a: Any, t: Any) -> Any:
        total = a.abs() @ t
        if not torch.isnan(total).any():
            return total
        known = torch.isfinite(t)
        hit = (a[:, ~known] != 0).any(dim=1)
        return torch.where(hit, math.inf, a[:, known].abs() @ t[known])

    def relax(self, a: Any, lower: Any, upper: Any, offset: Any) -> tuple[Any, Any]:
        # one of the two terms is exactly zero, so each coefficient is rounded once
        if torch.is_grad_enabled() and any(t.requires_grad for t in (a, lower, upper, offset)):
            # not by two clamps: at zero both would pass gradients on, and the slopes would be added
            below = a < 0
            return a * torch.where(below, upper, lower), (a * torch.where(below, offset, 0.0)).sum(dim=1)
        negative = a.clamp(max=0)
        drop = self.rowdot(negative, offset)
        return a.clamp(min=0).mul_(lower).addcmul_(negative, upper), drop

    def relax_lines(self, a: Any, lower: Any, upper: Any, below: Any, above: Any) -> tuple[Any, Any, Any]:
        drop = a * torch.where(a < 0, above, below)
        drop = torch.where((a == 0) & ~torch.isfinite(drop), 0.0, drop)
        return self.relax_slopes(a, lower, upper), drop.sum(dim=1), drop.abs().sum(dim=1)

    def relax_slopes(self, a: Any, lower: Any, upper: Any) -> Any:
        return a * torch.where(a < 0, upper, lower)

    def concretize(self, a: Any, centre: Any, radius: Any) -> Any:
        return self.rowdot(a, centre) - self.rowdot(a.abs(), radius)

    def take(self, a: Any, index: Any) -> Any:
        if len(a) == 1 and a.ndim == 2:  # one box: its rows need not be written out
            return a.expand(len(index), -1)
        return a.index_select(0, index)

    def nonzero(self, mask: Any) -> tuple[Any, Any]:
        rows, columns = torch.nonzero(mask, as_tuple=True)
        return rows, columns

    def concat(self, parts: list[Any], axis: int = 0) -> Any:
        return torch.cat(parts, dim=axis)

    def place(self, share: Any, steps: int) -> tuple[Any, Any, Any]:
        place = torch.where(share > 0, share, 0.0).clamp(max=1) * steps  # a NaN compares false
        index = place.clamp(max=steps - 1).long()
        return place, index, place - index

    def on_grid(self, share: Any, steps: int) -> Any:
        return torch.round(share * steps) / steps

    def pick(self, tables: Any, dom: Any, index: Any) -> Any:
        width, points = tables.shape[1:]
        columns = torch.arange(width, device=tables.device)
        return tables.reshape(-1)[(dom[:, None] * width + columns) * points + index]

    def where(self, mask: Any, a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return torch.where(mask, a, b)
        return torch.where(mask, float(a), float(b)).to(self.dtype)

    def minimum(self, a: Any, b: Any) -> Any:
        return torch.minimum(a, b) if isinstance(b, Tensor) else a.clamp(max=b)

    def maximum(self, a: Any, b: Any) -> Any:
        return torch.maximum(a, b) if isinstance(b, Tensor) else a.clamp(min=b)

    def divide(self, a: Any, b: Any) -> Any:
        return a / b

    def floor(self, a: Any) -> Any:
        return torch.floor(a)

    def max0(self, a: Any) -> Any:
        return a.amax(dim=0)

    def sum(self, a: Any, axis: int) -> Any:
        return a.sum(dim=axis)

    def total(self, a: Any) -> Any:
        return a.sum()

    def copy(self, a: Any) -> Any:
        return a.clone()

    def columns(self, a: Any, index: Any) -> Any:
        return a.index_select(1, index.reshape(-1)).reshape(len(a), *index.shape)

    def spread(self, a: Any, index: Any, size: int, *, unique: bool) -> Any:
        del unique  # adding each column once to zero is exact
        return self.zeros(len(a), size).index_add(1, index, a)

    def add_at(self, a: Any, index: Any, values: Any) -> None:
        a.index_put_(index if isinstance(index, tuple) else (index,), values, accumulate=True)

    def unit_rows(self, index: Any, size: int) -> Any:
        return self.zeros(len(index), size).scatter_(1, index[:, None], 1.0)

    def conv_weight(self, weight: Any, geometry: ConvGeometry) -> Any:
        """As it is: ``(O, C/groups, kh, kw)``."""
        del geometry
        return weight

    def conv(self, x: Any, weight: Any, geometry: ConvGeometry) -> Any:
        g = geometry
        images = x.reshape(len(x) * g.n, g.c, g.h, g.w)
        top, left, bottom, right = g.pads
        if not self.precision.u and g.pads == (top, left, top, left) and _fits(g):
            padding = (top, left)
            y = functional.conv2d(images, weight, None, g.strides, padding, g.dilations, g.groups)
            return y.reshape(len(x), -1)
        padded = functional.pad(images, (left, right, top, bottom))
        run = _direct_conv if self._may_call_library(weight, g) else _tap_conv
        return run(padded, weight, g).reshape(len(x), -1)

    def conv_adjoint(self, a: Any, weight: Any, geometry: ConvGeometry) -> Any:
        g = geometry
        features = a.reshape(len(a) * g.n, g.o, g.p, g.q)
        more = None if self.precision.u else output_padding(g)
        if more is not None:
            padding = (g.pads[0], g.pads[1])
            x = functional.conv_transpose2d(
                features, weight, None, g.strides, padding, more, g.groups, g.dilations
            )
            return x.reshape(len(a), -1)
        run = _direct_adjoint if self._may_call_library(weight, g) else _tap_adjoint
        image = run(features, weight, g)
        top, left = g.pads[0], g.pads[1]
        return image[..., top : top + g.h, left : left + g.w].reshape(len(a), -1)

    def _may_call_library(self, weight: Any, g: ConvGeometry) -> bool:
        if not self.precision.u:  # nominal bounds claim nothing about rounding
            return _fits(g)
        if self.device.type != "cpu":
            return False
        key = (g.c, g.o, g.padded, g.p, g.q, g.kernel, g.strides, g.dilations, g.groups)
        if key not in self._direct:
            self._direct[key] = _fits(g) and _is_direct(weight.detach(), g)
        return self._direct[key]

    def _check_modes(self) -> None:
        if self.dtype is not torch.float32 or not self.precision.u:
            return
        found = _reduced_mode(self.device.type)
        if found:
            raise BadInput(
                f"bounds need full float32 products, but {found} is on: turn it off in this process"
            )

    def _check_products(self) -> None:
        """Modes as PyTorch reports them, and a product that any shorter arithmetic gets wrong."""
        self._check_modes()
        a = torch.full((_PROBE, _PROBE), 1.0 + 2 * self.precision.u, dtype=self.dtype, device=self.device)
        one = torch.eye(_PROBE, dtype=self.dtype, device=self.device)
        if self.precision.u and not torch.equal(a @ one, a):
            raise BadInput(
                f"matrix products on {self.device} are rounded more coarsely than {self.precision.name}:"
                " look for an environment variable or setting that allows it"
            )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"unknown device '{name}': use cpu, cuda or cuda:N") from error
    if device.type not in _SETTINGS:
        raise BadInput(f"device '{name}' is not supported: use cpu, cuda or cuda:N")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise BadInput(f"device '{name}' is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


def _reduced_mode(kind: str) -> str:
    """The name of a setting that allows less than float32 in products, or ""."""
    if torch.is_autocast_enabled(kind):
        return f"torch.autocast('{kind}')"
    for name in _SETTINGS[kind]:
        holder: Any = torch.backends
        for part in name.split("."):
            holder = getattr(holder, part, None)
        mode = getattr(holder, "fp32_precision", None)
        if mode is None and name in ("cuda.matmul", "cudnn"):  # PyTorch before 2.9
            mode = "tf32" if holder is not None and holder.allow_tf32 else "none"
        if mode is not None and mode not in _FULL:
            return f"torch.backends.{name}.fp32_precision = '{mode}'"
    if not hasattr(torch.backends, "fp32_precision") and torch.get_float32_matmul_precision() != "highest":
        return "torch.set_float32_matmul_precision"
    return ""


def full_precision() -> None:
    """Turns TF32 off for this process (PyTorch has it on for cuDNN by default)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _direct_conv(padded: Any, weight: Any, g: ConvGeometry) -> Any:
    return functional.conv2d(padded, weight, stride=g.strides, dilation=g.dilations, groups=g.groups)


def _direct_adjoint(features: Any, weight: Any, g: ConvGeometry) -> Any:
    image = functional.conv_transpose2d(
        features, weight, stride=g.strides, dilation=g.dilations, groups=g.groups
    )
    height, width = g.padded
    return functional.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


def output_padding(g: ConvGeometry) -> tuple[int, int] | None:
    """What the library's transposed convolution must add to arrive at the image, if it can."""
    top, left, bottom, right = g.pads
    if (top, left) != (bottom, right) or not _fits(g):
        return None
    sizes = zip((g.h, g.w), (g.p, g.q), g.strides, (top, left), _extent(g), strict=True)
    y, x = (n - ((p - 1) * s - 2 * pad + e) for n, p, s, pad, e in sizes)
    most = [max(s, d) for s, d in zip(g.strides, g.dilations, strict=True)]
    return (y, x) if 0 <= y < most[0] and 0 <= x < most[1] else None


def _per_tap(weight: Any, g: ConvGeometry) -> Any:
    """``(kh kw, groups, O/groups, C/groups)``."""
    shaped = weight.reshape(g.groups, g.o // g.groups, g.c // g.groups, math.prod(g.kernel))
    return shaped.permute(3, 0, 1, 2)


def _tap_conv(padded: Any, weight: Any, g: ConvGeometry) -> Any:
    m, matrices = len(padded), _per_tap(weight, g)
    out: Any = None
    for t, (_, _, rows, columns) in enumerate(g.taps()):
        patch = padded[..., rows, columns].reshape(m, g.groups, g.c // g.groups, g.p * g.q)
        part = torch.matmul(matrices[t], patch)
        out = part if out is None else out.add_(part)
    return out


def _tap_adjoint(features: Any, weight: Any, g: ConvGeometry) -> Any:
    m, matrices = len(features), _per_tap(weight, g)
    flat = features.reshape(m, g.groups, g.o // g.groups, g.p * g.q)
    image = features.new_zeros(m, g.c, *g.padded)
    for t, (_, _, rows, columns) in enumerate(g.taps()):
        part = torch.matmul(matrices[t].mT, flat)
        image[..., rows, columns] += part.reshape(m, g.c, g.p, g.q)
    return image


def _extent(g: ConvGeometry) -> list[int]:
    """Height and width that one output sees."""
    return [d * (k - 1) + 1 for k, d in zip(g.kernel, g.dilations, strict=True)]


def _fits(g: ConvGeometry) -> bool:
    """Whether the library's convolution of the padded image has our output size."""
    seen = zip(g.padded, _extent(g), g.strides, (g.p, g.q), strict=True)
    return all((n - e) // s + 1 == p for n, e, s, p in seen)


def _is_direct(weight: Any, g: ConvGeometry) -> bool:
    """Whether the library's convolution and its adjoint are plain sums on this geometry.

    Huge entries are put into an image of ones, far enough apart that some outputs see none of them. There,
    sums of products of small integers are exact; a transform mixes whole tiles and loses the small ones.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    step = max(_extent(g)) + 2 * max(g.strides)
    huge = 2.0 ** (60 if weight.dtype is torch.float64 else 30)
    ones = torch.ones_like(weight)
    image, features = ones.new_ones(2, g.c, *g.padded), ones.new_ones(2, g.o, g.p, g.q)
    image[:, :, ::step, ::step] = huge
    features[:, :, ::step, ::step] = huge
    with torch.no_grad():
        forth = _same_small(_direct_conv(image, ones, g), _tap_conv(image, ones, g), huge)
        return forth and _same_small(
            _direct_adjoint(features, ones, g), _tap_adjoint(features, ones, g), huge
        )


def _same_small(found: Any, expected: Any, huge: float) -> bool:
    expected = expected.reshape(found.shape)
    small = expected < huge
    return bool(small.any()) and bool((found[small] == expected[small]).all())
