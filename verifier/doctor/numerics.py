"""The arithmetic that proofs rest on, probed: rounding to nearest, subnormals, full float32 products.

Settings lie (a library built with ``-ffast-math`` changes the processor's mode when it is loaded, a BLAS
may shorten products by an environment variable), so each probe computes something whose exact result is
known and looks at the bits. They run in this process, after everything is loaded that a run loads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bounds.graph import Array
from verifier.doctor.model import Finding, Level

_SIZE = 64  # a product of this size goes through the library's blocked code
_FTZ = (
    "some library loaded here sets the processor's flush-to-zero mode (usually one built with -ffast-math); "
    "find it by leaving packages out, and replace it"
)
_SHORT = "unset what shortens products (NVIDIA_TF32_OVERRIDE, ONEDNN_DEFAULT_FPMATH_MODE and the like)"
Product = Callable[[Array, Array], Array]


def check_rounding() -> Iterator[Finding]:
    """Round to nearest, in both precisions and both directions."""
    for dtype, bits in ((np.float32, 24), (np.float64, 53)):
        one = np.ones(_SIZE, dtype=dtype)
        below, above = dtype(2.0 ** -(bits + 1)), dtype(1.5 * 2.0**-bits)
        step = dtype(2.0 ** -(bits - 1))
        good = np.all(one + below == 1) and np.all(one + above == 1 + step) and np.all(-one - below == -1)
        name = f"rounding of {np.dtype(dtype).name}"
        if good:
            yield Finding(name, Level.OK, "to nearest")
        else:
            yield Finding(name, Level.PROBLEM, "is not to nearest: every error bound would be wrong", _FTZ)


def check_subnormals() -> Iterator[Finding]:
    """Subnormals are kept: as inputs and as results, in numpy's loops and in its products.

    The error terms allow for flushing in sums of products; the rest of the arithmetic was only ever
    tested without it, so it counts as a problem.
    """
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        tiny, least = info.tiny, info.smallest_subnormal
        halves = np.full(_SIZE, tiny, dtype=dtype) * dtype(0.5)  # a subnormal result
        doubled = np.full(_SIZE, least, dtype=dtype) * dtype(2)  # a subnormal operand
        eye = np.eye(_SIZE, dtype=dtype)
        product = np.full((_SIZE, _SIZE), least, dtype=dtype) @ eye
        kept = np.all(halves > 0) and np.all(doubled == 2 * least) and np.all(product == least)
        name = f"subnormals of {np.dtype(dtype).name}"
        if kept:
            yield Finding(name, Level.OK, "kept")
        else:
            yield Finding(name, Level.PROBLEM, "are flushed to zero", _FTZ)


def full_product(product: Product) -> bool:
    """Whether float32 products with the unit matrix change nothing.

    They do not in any order of summing and with any fusing, since all other terms are zero; a mode that
    shortens operands (TF32, bfloat16, float16) drops the last bits.
    """
    rng = np.random.default_rng(0)
    a = (1 + rng.integers(0, 2**23, (_SIZE, _SIZE)) * 2.0**-23).astype(np.float32)
    found = np.asarray(product(a, np.eye(_SIZE, dtype=np.float32)))
    return found.dtype == np.float32 and bool(np.array_equal(found, a))


def _result(name: str, product: Product, level: Level = Level.PROBLEM) -> Finding:
    if full_product(product):
        return Finding(name, Level.OK, "full precision")
    return Finding(name, level, "are shortened (TF32, bfloat16 or the like)", _SHORT)


def check_products() -> Iterator[Finding]:
    """Products of numpy and onnxruntime."""
    yield _result("float32 products, numpy", lambda a, b: a @ b)
    yield _result("float32 products, onnxruntime", _onnxruntime_product)


def _onnxruntime_product(a: Array, b: Array) -> Array:
    import onnxruntime
    from onnx import TensorProto, helper

    shape = list(a.shape)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "g", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"a": a, "b": b})[0]


def check_torch() -> Iterator[Finding]:
    """PyTorch, where it is installed: its devices, and whether its products are full."""
    from verifier.doctor.packages import version_of

    if not version_of("torch"):
        return
    try:
        import torch
    except Exception as error:  # whatever a broken library raises is the finding
        reason = f"cannot be loaded: {type(error).__name__}: {error}"
        yield Finding("torch", Level.PROBLEM, " ".join(reason.split()), "reinstall torch")
        return
    devices = ["cpu"]
    devices += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    yield Finding("torch devices", Level.OK, ", ".join(devices))

    def on(device: str) -> Product:
        def product(a: Array, b: Array) -> Array:
            left, right = (torch.from_numpy(v).to(device) for v in (a, b))
            return (left @ right).cpu().numpy()

        return product

    for device in [d.split(" ")[0] for d in devices]:
        yield _result(f"float32 products, torch on {device}", on(device), Level.NOTE)
    if torch.cuda.is_available() and torch.backends.cudnn.allow_tf32:
        yield Finding(
            "convolutions, torch on cuda",
            Level.NOTE,
            "TF32 is allowed (PyTorch's default): such a network is not what level float32 speaks about",
            "torch.backends.cudnn.allow_tf32 = False where the network runs",
        )


def check_float() -> Iterator[Finding]:
    """Python's own floats are binary64, which exact rationals are made from."""
    good = (sys.float_info.mant_dig, sys.float_info.max_exp) == (53, 1024)
    yield Finding(
        "Python floats", Level.OK if good else Level.PROBLEM, "binary64" if good else "are not binary64"
    )
