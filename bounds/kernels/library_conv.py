"""Convolutions by onnxruntime, three to five times as fast as a matrix product per kernel position.

onnxruntime is loaded anyway, to replay counterexamples, and its CPU convolutions are plain sums of products
(im2col or direct), which is all that :mod:`bounds.numerics` assumes. That is not taken on trust: before a
session is used its operator convolves an image in which a transform (Winograd, FFT) would lose small numbers
beside large ones, and must give exactly what sums give; see :func:`_is_plain`. Where a session cannot be
had, or fails that, the caller computes by itself.

Sessions have one convolution each and are made once it is clear that much will be asked of them. Large calls
are dealt out to threads (:mod:`bounds.threads`); every row is computed by one of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bounds.threads import threads

if TYPE_CHECKING:
    from bounds.ops.conv import ConvGeometry

_Run: TypeAlias = Callable[[Any], Any]
"""Images ``m C H W`` to images."""
_Key: TypeAlias = tuple[Any, ...]

# multiply-adds of one call below which starting a session's run costs as much, and of all calls before one is
# made (that takes about a millisecond)
_LEAST_CALL, _LEAST_EVER = 500_000, 50_000_000
# sessions that are kept; each holds its weights
_MOST_SESSIONS = 192
# fewer channels than this and a transposed convolution beats the convolution by the turned kernel
_FEW_CHANNELS = 8
# multiply-adds of a call that is dealt out to threads
_LEAST_DEALT = 20_000_000
_SEVERITY_ERROR = 3


@dataclass(slots=True)
class _Held:
    """A convolution that was asked for: the weights (so that their address stays theirs), the multiply-adds
    so far, and its session (None: not yet; False: there is none)."""

    weight: Any
    asked: int = 0
    run: _Run | bool | None = None


@dataclass(slots=True)
class LibraryConvolutions:
    """Convolutions and their adjoints in float32."""

    _held: OrderedDict[_Key, _Held] = field(default_factory=OrderedDict)

    def conv(self, x: Any, taps: Any, g: ConvGeometry) -> Any | None:
        """The convolution of ``R n`` images, ``R n'``; None where the caller had better do it.

        Args:
            x: images.
            taps: weights ``(kh kw, groups, O/groups, C/groups)``.
            g: geometry.
        """
        run, work = self._session(x, taps, g, adjoint=False)
        if run is None:
            return None
        return _dealt(run, x.reshape(len(x) * g.n, g.c, g.h, g.w), work).reshape(len(x), -1)

    def adjoint(self, a: Any, taps: Any, g: ConvGeometry) -> Any | None:
        """The adjoint on ``R n'`` features, likewise."""
        run, work = self._session(a, taps, g, adjoint=True)
        if run is None:
            return None
        return _dealt(run, a.reshape(len(a) * g.n, g.o, g.p, g.q), work).reshape(len(a), -1)

    def _session(self, x: Any, taps: Any, g: ConvGeometry, *, adjoint: bool) -> tuple[_Run | None, int]:
        """A session, where there is one, and the multiply-adds of the call."""
        work = len(x) * g.n * g.o * g.p * g.q * (g.c // g.groups) * len(taps)
        if work < _LEAST_CALL:
            return None, work
        # images of any size share a session; what a convolution leaves unread its adjoint must fill up
        rest = (g.h - g.strides[0] * g.p, g.w - g.strides[1] * g.q)
        key = (id(taps), adjoint, g.pads, rest)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(taps)
            if len(self._held) > _MOST_SESSIONS:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        held.asked += work
        if held.run is None and held.asked >= _LEAST_EVER:
            held.run = _made(taps, g, adjoint=adjoint) or False
        return held.run if callable(held.run) else None, work


def _dealt(run: _Run, images: Any, work: int) -> Any:
    """One run, or one per thread where there is enough to do."""
    if work < _LEAST_DEALT:
        return run(images)
    count, pool = _pool()
    if pool is None or len(images) < 2 * count:
        return run(images)
    ends = [len(images) * i // count for i in range(count + 1)]
    return np.concatenate(list(pool.map(run, (images[s:e] for s, e in pairwise(ends)))))


def _made(taps: Any, g: ConvGeometry, *, adjoint: bool) -> _Run | None:
    """A run of one convolution or adjoint, if the library has a plain one of this geometry."""
    node = _adjoint_node(g) if adjoint else _node(g)
    if node is None:
        return None
    kind, attributes, turned = node
    shape = (*g.kernel, g.groups, g.o // g.groups, g.c // g.groups)
    weight = np.moveaxis(taps.reshape(shape), (2, 3, 4), (0, 1, 2)).reshape(g.o, g.c // g.groups, *g.kernel)
    if turned:
        weight = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    run = _run_of(kind, attributes, np.ascontiguousarray(weight))
    if run is None or not _is_plain(kind, attributes, weight, g, adjoint=adjoint):
        return None
    return run


_Node: TypeAlias = tuple[str, dict[str, Any], bool]
"""Operator, attributes, whether the kernel is turned and transposed."""


def _extent(g: ConvGeometry) -> tuple[int, int]:
    """Rows and columns that one feature reads."""
    y, x = (d * (k - 1) + 1 for k, d in zip(g.kernel, g.dilations, strict=True))
    return y, x


def _node(g: ConvGeometry) -> _Node | None:
    """The operator that convolves, if it has our number of features."""
    axes = zip(g.padded, _extent(g), g.strides, (g.p, g.q), strict=True)
    if any((n - e) // s + 1 != p for n, e, s, p in axes):
        return None
    return "Conv", {**_common(g), "strides": list(g.strides), "pads": list(g.pads)}, False


def _adjoint_node(g: ConvGeometry) -> _Node | None:
    """The operator whose value is the adjoint's: a convolution by the turned kernel, where that is faster."""
    top, left, bottom, right = g.pads
    axes = [
        (n, p, s, e, before, after)
        for n, p, s, e, before, after in zip(
            (g.h, g.w), (g.p, g.q), g.strides, _extent(g), (top, left), (bottom, right), strict=True
        )
    ]
    more = [n - ((p - 1) * s + e - before - after) for n, p, s, e, before, after in axes]
    if any(not 0 <= m < s for m, s in zip(more, g.strides, strict=True)):
        return None
    starts = [e - 1 - before for *_, e, before, _ in axes]
    ends = [n - p + before for n, p, *_, before, _ in axes]
    if g.strides == (1, 1) and g.groups == 1 and g.c > _FEW_CHANNELS and min(*starts, *ends) >= 0:
        return "Conv", {**_common(g), "strides": [1, 1], "pads": [*starts, *ends]}, True
    attributes = {"strides": list(g.strides), "pads": list(g.pads), "output_padding": more}
    return "ConvTranspose", {**_common(g), **attributes}, False


def _common(g: ConvGeometry) -> dict[str, Any]:
    return {"dilations": list(g.dilations), "group": g.groups, "kernel_shape": list(g.kernel)}


def _run_of(kind: str, attributes: dict[str, Any], weight: Any) -> _Run | None:
    """A session of one operator; None without one."""
    import onnxruntime

    # onnxruntime derives many exceptions straight from Exception; each means that it has no such operator
    try:
        session = onnxruntime.InferenceSession(
            _model(kind, attributes, weight), _options(), providers=["CPUExecutionProvider"]
        )
    except Exception:
        return None

    def run(images: Any) -> Any:
        return session.run(None, {"x": np.ascontiguousarray(images)})[0]

    return run


def _model(kind: str, attributes: dict[str, Any], weight: Any) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy"]
    graph = helper.make_graph([node], "one", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SEVERITY_ERROR
    # threads are ours: a pool for each session would be hundreds of them, one for all is every session's in
    # the process
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    # freed memory goes back to the process, which keeps it (see the allocator); an arena each would add up
    options.enable_cpu_mem_arena = False
    return options


@cache
def _pool() -> tuple[int, ThreadPoolExecutor | None]:
    """The threads that share large calls."""
    count = threads()
    return count, ThreadPoolExecutor(count, "convolution") if count > 1 else None


def _is_plain(kind: str, attributes: dict[str, Any], weight: Any, g: ConvGeometry, *, adjoint: bool) -> bool:
    """Whether the library's operator is a plain sum of products on this geometry.

    Huge entries are put among ones, far enough apart that some results see none of them: there, sums of small
    whole numbers are exact, and a transform that mixes whole tiles would lose them. With a kernel of ones the
    right answer is a count.
    """
    run = _run_of(kind, attributes, np.ones_like(np.ascontiguousarray(weight)))
    if run is None:
        return False
    huge = np.float32(2.0**40)
    step = max(_extent(g)) + 2 * max(g.strides)
    shape = (2, g.o, g.p, g.q) if adjoint else (2, g.c, g.h, g.w)
    image = np.ones(shape, dtype=np.float32)
    image[:, :, ::step, ::step] = huge
    found = run(image)
    # the same in exact whole numbers, tap by tap
    counts = _counts(image == huge, g, adjoint=adjoint)
    ones = _counts(image != huge, g, adjoint=adjoint)
    small = counts == 0
    # where every result sees a huge entry the probe says nothing
    if found.shape[2:] != ones.shape[2:] or not small.any():
        return False
    return bool((np.broadcast_to(found == ones, found.shape) | ~small).all())


def _counts(marked: Any, g: ConvGeometry, *, adjoint: bool) -> Any:
    """How many marked entries each result sees, ``2 1 H W`` (every channel sees the same)."""
    height, width = g.padded
    top, left = g.pads[0], g.pads[1]
    plane = marked[:, :1].astype(np.float32) * (marked.shape[1] // g.groups)
    image = np.zeros((len(marked), 1, height, width), dtype=np.float32)
    if adjoint:
        for _, _, rows, columns in g.taps():
            image[..., rows, columns] += plane
        return image[..., top : top + g.h, left : left + g.w]
    image[..., top : top + g.h, left : left + g.w] = plane
    out = np.zeros((len(marked), 1, g.p, g.q), dtype=np.float32)
    for _, _, rows, columns in g.taps():
        out += image[..., rows, columns]
    return out
