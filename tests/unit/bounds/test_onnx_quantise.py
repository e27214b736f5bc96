"""Quantised operators against onnxruntime: the same whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_checks import Array, agree, f, model_of, w

from bounds.errors import ModelInvalid, ModelUnsupported
from bounds.evaluate import evaluate


def bytes_(*shape: int, signed: bool = False, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-128, 128, shape).astype(np.int8)
        if signed
        else rng.integers(0, 256, shape).astype(np.uint8)
    )


def zero(*values: int, signed: bool = False) -> Array:
    return np.array(values if len(values) != 1 else values[0], np.int8 if signed else np.uint8)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("z", [0, 100])
def test_quantize_and_back(signed: bool, z: int) -> None:
    given = {"s": f(0.05), "z": zero(z, signed=signed)}
    kind = "int8" if signed else "uint8"
    agree("y = QuantizeLinear(x, s, z)", 13, x=(2, 3), spread=5, outputs=f"{kind} y", **given)
    agree("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", 13, x=(2, 3), spread=5, **given)


def test_halves_go_to_even_and_ends_saturate() -> None:
    model = model_of("y = QuantizeLinear(x, s, z)", 13, x=(7,), s=f(2), z=zero(10), outputs="uint8 y")
    x = np.array([[1, 3, 5, -1, -3, -1e3, 1e3]], np.float64)
    np.testing.assert_array_equal(evaluate(model.graph, x), [[10, 12, 12, 10, 8, 0, 255]])


def test_without_zero_point() -> None:
    agree("y = QuantizeLinear(x, s)", 13, x=(2, 3), s=f(0.05), spread=5, outputs="uint8 y")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_per_channel(axis: int) -> None:
    shape = (2, 3, 2)
    n = shape[axis]
    s, z = abs(w(n)) + f(0.01), bytes_(n, signed=True) // 2
    body = f"q = QuantizeLinear<axis={axis}>(x, s, z) y = DequantizeLinear<axis={axis}>(q, s, z)"
    agree(body, 13, x=shape, s=s, z=z, spread=20)


def test_fake_quantisation_is_one_function() -> None:
    model = agree(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = DequantizeLinear(k, ks, kz)"
        "m = MatMul(d, r) a = Relu(m) t = QuantizeLinear(a, s, z) y = DequantizeLinear(t, s, z)",
        13, x=(2, 3), s=f(0.05), z=zero(3, signed=True), k=bytes_(3, 4, signed=True), ks=f(0.01),
        kz=zero(0, signed=True), tolerance=6e-2,
    )  # fmt: skip
    assert len(model.graph.scalars) == 2


def test_constants() -> None:
    body = "q = QuantizeLinear(a, s, z) c = DequantizeLinear(q, s, z) y = Add(x, c)"
    agree(body, 13, x=(5,), a=w(5), s=f(0.1), z=zero(7))
    agree(
        "c = DequantizeLinear(i, s) y = Add(x, c)",
        13,
        x=(2,),
        i=np.array([2**30 + 1, -3], np.int32),
        s=f(0.1),
    )
    with pytest.raises(ModelUnsupported, match="edge of two steps"):
        model_of(
            "q = QuantizeLinear(a, s) c = DequantizeLinear(q, s) y = Add(x, c)",
            13,
            x=(1,),
            a=f(0.35),
            s=f(0.1),
        )


def test_blocks() -> None:
    body = (
        "q = QuantizeLinear<axis=1,block_size=2>(x, s, z) y = DequantizeLinear<axis=1,block_size=2>(q, s, z)"
    )
    agree(body, 21, x=(2, 4), s=abs(w(2, 2)) + f(0.1), z=bytes_(2, 2, signed=True) // 4, spread=5)


QX = "q = QuantizeLinear(x, s, z)"


def test_integer_products() -> None:
    given = {"s": f(0.02), "z": zero(120)}
    agree(
        f"{QX} y = MatMulInteger(q, k, z, kz)",
        13,
        x=(2, 3),
        k=bytes_(3, 4),
        kz=zero(99),
        outputs="int32 y",
        **given,
    )
    agree(f"{QX} y = MatMulInteger(q, k)", 13, x=(2, 3), k=bytes_(3, 4), outputs="int32 y", **given)
    body = f"{QX} y = ConvInteger<pads=[1,1,1,1]>(q, k, z, kz)"
    agree(body, 13, x=(1, 2, 4, 4), k=bytes_(3, 2, 3, 3), kz=zero(99), outputs="int32 y", **given)


def test_quantised_matrix_product() -> None:
    body = f"{QX} m = QLinearMatMul(q, s, z, k, ks, kz, ys, yz) y = DequantizeLinear(m, ys, yz)"
    given = {"s": f(0.02), "z": zero(120), "ks": f(0.013), "kz": zero(128), "ys": f(0.05), "yz": zero(127)}
    agree(body, 13, x=(2, 3), k=bytes_(3, 4), tolerance=2e-2, **given)
    body = (
        "a = QuantizeLinear(x, s, z) b = QuantizeLinear(u, s, z) y = QLinearMatMul(a, s, z, b, s, z, ys, yz)"
    )
    agree(body, 13, x=(2, 3), u=(3, 2), outputs="uint8 y", s=f(0.02), z=zero(120), ys=f(0.05), yz=zero(127))


@pytest.mark.parametrize("channels", [False, True])
def test_quantised_convolution(channels: bool) -> None:
    body = (
        f"{QX} c = QLinearConv<pads=[1,0,1,0]>(q, s, z, k, ks, kz, ys, yz, b) y = DequantizeLinear(c, ys, yz)"
    )
    ks, kz = (f(0.013, 0.02, 0.031), np.zeros(3, np.int8)) if channels else (f(0.013), zero(0, signed=True))
    agree(body, 13, x=(1, 2, 4, 4), k=bytes_(3, 2, 3, 2, signed=True), ks=ks, kz=kz, s=f(0.02), z=zero(120),
          ys=f(0.5), yz=zero(127), b=np.array([100, -2000, 3], np.int32), tolerance=2e-2)  # fmt: skip


def test_what_is_not_analysed() -> None:
    with pytest.raises(ModelUnsupported, match="static quantisation"):
        model_of("y, s, z = DynamicQuantizeLinear(x)", 13, x=(2, 3), outputs="uint8 y")
    with pytest.raises(ModelInvalid, match="not positive"):
        model_of("y = QuantizeLinear(x, s)", 13, x=(2, 3), s=f(-0.1), outputs="uint8 y")
