"""RNN, LSTM and GRU against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_checks import agree, model_of, w

from bounds.errors import ModelInvalid, ModelUnsupported

T, B, I, H = 4, 2, 3, 2
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def operands(op: str, directions: int = 1, *, bias: bool = True) -> dict[str, Any]:
    g = GATES[op]
    found: dict[str, Any] = {
        "x": (T, B, I),
        "w": w(directions, g * H, I),
        "r": w(directions, g * H, H, seed=1),
    }
    return {**found, "b": w(directions, 2 * g * H, seed=2)} if bias else found


def names(op: str) -> tuple[str, str]:
    outputs = ["y", "h"] + (["c"] if op == "LSTM" else [])
    return ", ".join(outputs), ", ".join(f"float {n}" for n in outputs)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [False, True])
def test_directions(op: str, direction: str, bias: bool) -> None:
    left, outputs = names(op)
    given = operands(op, 1 + (direction == "bidirectional"), bias=bias)
    used = "x, w, r, b" if bias else "x, w, r"
    agree(f'{left} = {op}<hidden_size={H},direction="{direction}">({used})', 14, outputs=outputs, **given)
    agree(f'{left} = {op}<hidden_size={H},direction="{direction}">({used})', 7, outputs=outputs, **given)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_initial_states_and_lengths(op: str, directions: int) -> None:
    left, outputs = names(op)
    way = "bidirectional" if directions == 2 else "forward"
    state, cell = ("h0, c0", {"c0": w(directions, B, H, seed=4)}) if op == "LSTM" else ("h0", {})
    body = f'{left} = {op}<hidden_size={H},direction="{way}">(x, w, r, b, n, {state})'
    lengths = np.full(B, T, np.int32)
    agree(
        body,
        14,
        outputs=outputs,
        n=lengths,
        h0=w(directions, B, H, seed=3),
        **cell,
        **operands(op, directions),
    )
    cell = {k: v.shape for k, v in cell.items()}
    agree(body, 14, outputs=outputs, n=lengths, h0=(directions, B, H), **cell, **operands(op, directions))


@pytest.mark.parametrize("op", GATES)
def test_clip(op: str) -> None:
    agree(f"y = {op}<hidden_size={H},clip=0.3>(x, w, r, b)", 14, **operands(op))


def test_only_the_last_state() -> None:
    agree(f", y = GRU<hidden_size={H}>(x, w, r, b)", 14, **operands("GRU"))
    agree(f", , y = LSTM<hidden_size={H}>(x, w, r, b)", 14, **operands("LSTM"))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("h0", [None, (2, B, H)])
def test_gru_linear_before_reset(directions: int, h0: tuple[int, ...] | None) -> None:
    way = "bidirectional" if directions == 2 else "reverse"
    head = f'y = GRU<hidden_size={H},linear_before_reset=1,direction="{way}">'
    given = operands("GRU", directions)
    if h0 is None:
        agree(f"{head}(x, w, r, b)", 14, **given)
    else:
        agree(f"{head}(x, w, r, b, , h0)", 14, h0=(directions, *h0[1:]), **given)


def test_lstm_peepholes_and_coupled_gates() -> None:
    given = operands("LSTM")
    agree(f"y = LSTM<hidden_size={H}>(x, w, r, b, , , , p)", 14, p=w(1, 3 * H, seed=5), **given)
    agree(f"y = LSTM<hidden_size={H},input_forget=1>(x, w, r, b)", 14, **given)
    agree(
        f"y = LSTM<hidden_size={H},input_forget=1>(x, w, r, b, , h, c)", 14, h=(1, B, H), c=(1, B, H), **given
    )


ACTIVATIONS = [
    ("Relu", ""), ("LeakyRelu", "activation_alpha=[0.3]"), ("Elu", "activation_alpha=[0.7]"),
    ("Softsign", ""),
    ("HardSigmoid", "activation_alpha=[0.3],activation_beta=[0.4]"), ("Softplus", ""), ("Sigmoid", ""),
    ("ScaledTanh", "activation_alpha=[0.5],activation_beta=[1.5]"),
    ("ThresholdedRelu", "activation_alpha=[0.2]"),
    ("Affine", "activation_alpha=[0.5],activation_beta=[0.25]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "numbers"), ACTIVATIONS)
def test_activations(name: str, numbers: str) -> None:
    more = f",{numbers}" if numbers else ""
    agree(f'y = RNN<hidden_size={H},activations=["{name}"]{more}>(x, w, r, b)', 14, **operands("RNN"))


def test_several_activations() -> None:
    agree(
        f'y = LSTM<hidden_size={H},activations=["Sigmoid","Softsign","Relu"]>(x, w, r, b)',
        14,
        **operands("LSTM"),
    )
    numbers = "activation_alpha=[0.3],activation_beta=[0.4]"
    body = f'y = GRU<hidden_size={H},activations=["HardSigmoid","Tanh"],{numbers}>(x, w, r, b)'
    agree(body, 14, **operands("GRU"))


def test_what_is_not_analysed() -> None:
    body = f"y = RNN<hidden_size={H}>(x, w, r, b, n)"
    with pytest.raises(ModelUnsupported, match="sequence_lens"):
        model_of(body, 14, n=np.array([1, 4], np.int32), **operands("RNN"))
    with pytest.raises(ModelUnsupported, match="W depends"):
        model_of(f"y = RNN<hidden_size={H}>(x, w, r)", 14, x=(T, B, I), w=(1, H, I), r=w(1, H, H))
    with pytest.raises(ModelUnsupported, match="activation Cos"):
        model_of(f'y = RNN<hidden_size={H},activations=["Cos"]>(x, w, r, b)', 14, **operands("RNN"))
    with pytest.raises(ModelInvalid):
        model_of(f"y = GRU<hidden_size={H}>(x, w, r, b)", 14, **operands("LSTM"))


def test_nodes_per_step() -> None:
    lstm = model_of(f"y = LSTM<hidden_size={H}>(x, w, r, b)", 14, **operands("LSTM")).graph
    assert (len(lstm.scalars), len(lstm.products)) == (5 * T - 1, 3 * T - 1)
    gru = model_of(f"y = GRU<hidden_size={H}>(x, w, r, b)", 14, **operands("GRU")).graph
    assert (len(gru.scalars), len(gru.products)) == (3 * T - 1, 3 * T - 2)
