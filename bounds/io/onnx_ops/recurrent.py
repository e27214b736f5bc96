"""RNN, LSTM and GRU, unrolled over their fixed sequence length.

Per step and direction: one LINEAR of the concatenated ``[x_t, h]`` (of ``x_t`` alone where h is zero)
for all gates with the input's biases, a SCALE that adds the recurrent biases (left out where all are zero),
then the gates. SCALAR and MUL nodes per step, in order:

* RNN: ``h = f(.)``.
* LSTM: ``i``, ``f`` (if c is not zero), ``c~``, MUL ``i c~``, MUL ``f c``, ``o``, ``h(c)``, MUL ``o h(c)``.
* GRU: ``z``, ``r`` (if h is not zero), [MUL ``r h``, or MUL ``r (h R + b)`` if linear_before_reset], ``h~``,
  MUL ``(1 - z) h~``, MUL ``z h`` (if h is not zero).

Peepholes are SCALE and ADD before a gate; ``clip`` joins the gate's own function.

Rounding counts: a gate's sum has ``I + H`` products and at most three more terms, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bounds.expression import Expr, Fn, X, compose, const
from bounds.expression import call as apply_fn
from bounds.graph import Array, Op
from bounds.io.context import Builder, Call, Context
from bounds.io.values import Const, Value, Var

_DEFAULTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
_ALPHA = {
    "LeakyRelu": 0.01,
    "Elu": 1.0,
    "HardSigmoid": 0.2,
    "Affine": 1.0,
    "ScaledTanh": 1.0,
    "ThresholdedRelu": 1.0,
}
_BETA = {"HardSigmoid": 0.5, "ScaledTanh": 1.0, "Affine": 0.0}


def _clamped(e: Expr, low: float, high: float) -> Expr:
    return apply_fn(Fn.MIN, apply_fn(Fn.MAX, e, const(low)), const(high))


_FORMULAS: Mapping[str, Callable[[float, float], Expr]] = {
    "Affine": lambda a, b: a * X + b,
    "Elu": lambda a, _: apply_fn(Fn.WHERE, apply_fn(Fn.STEP, X), X, a * (apply_fn(Fn.EXP, X) - 1.0)),
    "HardSigmoid": lambda a, b: _clamped(a * X + b, 0.0, 1.0),
    "LeakyRelu": lambda a, _: apply_fn(Fn.WHERE, apply_fn(Fn.STEP, X), X, a * X),
    "Relu": lambda _a, _b: apply_fn(Fn.RELU, X),
    "ScaledTanh": lambda a, b: a * apply_fn(Fn.TANH, b * X),
    "Sigmoid": lambda _a, _b: apply_fn(Fn.SIGMOID, X),
    "Softplus": lambda _a, _b: apply_fn(Fn.SOFTPLUS, X),
    "Softsign": lambda _a, _b: X / (1.0 + apply_fn(Fn.ABS, X)),
    "Tanh": lambda _a, _b: apply_fn(Fn.TANH, X),
    "ThresholdedRelu": lambda a, _: apply_fn(Fn.WHERE, apply_fn(Fn.STRICT, X - a), X, const(0.0)),
}

Activation: TypeAlias = "Callable[[Context, Var], Var]"


@dataclass(frozen=True, slots=True)
class _Weights:
    """One direction: W ``(gates H, I)``, R ``(gates H, H)``, biases ``(gates H,)``, peepholes ``(3 H,)``."""

    w: Array
    r: Array
    wb: Array
    rb: Array
    peephole: Array
    hidden: int

    @property
    def roundings(self) -> int:
        """Of one gate's sum."""
        return self.w.shape[1] + self.hidden + 3

    def gates(self, gates: Sequence[int]) -> _Weights:
        """Only these gates, in this order."""
        rows = np.concatenate([np.arange(g * self.hidden, (g + 1) * self.hidden) for g in gates])
        return _Weights(self.w[rows], self.r[rows], self.wb[rows], self.rb[rows], self.peephole, self.hidden)


@dataclass(frozen=True, slots=True)
class _State:
    """Hidden and cell state ``(B, H)``; None where they are zero."""

    h: Var | None
    c: Var | None = None


Cell: TypeAlias = "Callable[[Context, Call, _Weights, Sequence[Activation], Var, _State], _State]"


def _sums(ctx: Context, k: _Weights, x: Var, h: Var | None) -> Var:
    """``x W^T + h R^T + wb + rb``."""
    weight = k.w
    if h is not None:
        x = ctx.add(Op.CONCAT, [x, h], {"axis": 1})
        weight = np.concatenate([k.w, k.r], axis=1)
    y = ctx.linear(x, weight, k.wb, roundings=k.roundings)
    return ctx.scale(y, 1.0, k.rb, roundings=k.roundings) if np.any(k.rb) else y


def _gate(ctx: Context, sums: Var, i: int, hidden: int) -> Var:
    return ctx.take(sums, ctx.index(sums)[:, i * hidden : (i + 1) * hidden])


def _rnn_cell(
    ctx: Context, call: Call, k: _Weights, act: Sequence[Activation], x: Var, state: _State
) -> _State:
    del call
    return _State(act[0](ctx, _sums(ctx, k, x, state.h)))


def _lstm_cell(
    ctx: Context, call: Call, k: _Weights, act: Sequence[Activation], x: Var, state: _State
) -> _State:
    f, g, h = act
    sums = _sums(ctx, k, x, state.h)  # gates in the order i, o, f, c; peepholes i, o, f
    gate_i, gate_o, gate_f, gate_c = (_gate(ctx, sums, n, k.hidden) for n in range(4))
    i = f(ctx, _peep(ctx, k, 0, gate_i, state.c))
    if call.attributes.get("input_forget", 0):
        forget = ctx.scale(i, -1.0, 1.0, roundings=1)
    elif state.c is not None:
        forget = f(ctx, _peep(ctx, k, 2, gate_f, state.c))
    else:
        forget = None
    c = ctx.product(i, g(ctx, gate_c))
    if state.c is not None and forget is not None:
        c = ctx.combine([ctx.product(forget, state.c), c], [1.0, 1.0], roundings=1)
    o = f(ctx, _peep(ctx, k, 1, gate_o, c))
    return _State(ctx.product(o, h(ctx, c)), c)


def _peep(ctx: Context, k: _Weights, gate: int, x: Var, c: Var | None) -> Var:
    weights = k.peephole[gate * k.hidden : (gate + 1) * k.hidden]
    if c is None or not np.any(weights):
        return x
    return ctx.combine([x, ctx.scale(c, weights, 0.0, roundings=1)], [1.0, 1.0], roundings=k.roundings)


def _gru_cell(
    ctx: Context, call: Call, k: _Weights, act: Sequence[Activation], x: Var, state: _State
) -> _State:
    f, g = act
    h, new = state.h, k.gates([2])
    sums = _sums(ctx, k.gates([0, 1]), x, h)
    z = f(ctx, _gate(ctx, sums, 0, k.hidden))
    linear_first = bool(call.attributes.get("linear_before_reset", 0))
    if h is None and not (linear_first and np.any(new.rb)):
        inner = _sums(ctx, new, x, None)
    elif linear_first:
        r = f(ctx, _gate(ctx, sums, 1, k.hidden))
        if h is None:
            recurrent = ctx.scale(r, new.rb, 0.0, roundings=1)
        else:
            recurrent = ctx.product(r, ctx.linear(h, new.r, new.rb, roundings=k.hidden + 1))
        fed = ctx.linear(x, new.w, new.wb, roundings=k.roundings)
        inner = ctx.combine([fed, recurrent], [1.0, 1.0], roundings=k.roundings)
    else:
        assert h is not None
        r = f(ctx, _gate(ctx, sums, 1, k.hidden))
        inner = _sums(ctx, new, x, ctx.product(r, h))
    fresh = ctx.product(ctx.scale(z, -1.0, 1.0, roundings=1), g(ctx, inner))
    if h is None:
        return _State(fresh)
    return _State(ctx.combine([fresh, ctx.product(z, h)], [1.0, 1.0], roundings=1))


_CELLS: Mapping[str, Cell] = {"RNN": _rnn_cell, "LSTM": _lstm_cell, "GRU": _gru_cell}


def _activations(call: Call, directions: int) -> list[list[Activation]]:
    """The activations of every direction, in the order of the operator's definition."""
    default = _DEFAULTS[call.op_type]
    given = call.attributes.get("activations") or [n.encode() for n in default] * directions
    names = [n.decode("utf-8", "replace") for n in given]
    alphas, betas = (list(call.attributes.get(f"activation_{k}") or []) for k in ("alpha", "beta"))
    if len(names) != len(default) * directions:
        raise ValueError(f"{len(names)} activations for {directions} directions")
    found: list[Activation] = []
    for name in names:
        canonical = next((n for n in _FORMULAS if n.lower() == name.lower()), None)
        if canonical is None:
            raise call.unsupported(f"activation {name}; use one of {', '.join(_FORMULAS)}")
        # the lists hold numbers only for the activations that take one
        alpha = (
            float(alphas.pop(0))
            if canonical in _ALPHA and alphas
            else float(np.float32(_ALPHA.get(canonical, 0)))
        )
        beta = (
            float(betas.pop(0))
            if canonical in _BETA and betas
            else float(np.float32(_BETA.get(canonical, 0)))
        )
        found.append(_activation(_FORMULAS[canonical](alpha, beta), call.attributes.get("clip")))
    n = len(default)
    return [found[i * n : (i + 1) * n] for i in range(directions)]


def _activation(formula: Expr, clip: float | None) -> Activation:
    if formula.fn is Fn.RELU and clip is None:
        return lambda ctx, x: ctx.relu(x)

    def apply(ctx: Context, x: Var) -> Var:
        return ctx.apply(formula if clip is None else compose(formula, _clamped(X, -clip, clip)), x)

    return apply


def _weights(call: Call, directions: int) -> list[_Weights]:
    found = [call.constant(i, name) for i, name in ((1, "W"), (2, "R"), (3, "B"), (7, "P"))]
    if any(c is not None and not c.exact for c in found):
        raise call.unsupported("weights must be stored constants")
    w, r, b, p = found
    gates = _GATES[call.op_type]
    if w is None or r is None or w.data.ndim != 3 or r.data.ndim != 3:
        raise ValueError("W or R is missing or has no rank 3")
    hidden = r.shape[2]
    if w.shape[:2] != (directions, gates * hidden) or r.shape[:2] != w.shape[:2]:
        raise ValueError(f"W {list(w.shape)} and R {list(r.shape)} for {directions} directions")
    biases = np.zeros((directions, 2 * gates * hidden)) if b is None else b.data
    peepholes = np.zeros((directions, 3 * hidden)) if p is None else p.data
    return [
        _Weights(
            w.data[d],
            r.data[d],
            biases[d, : gates * hidden],
            biases[d, gates * hidden :],
            peepholes[d],
            hidden,
        )
        for d in range(directions)
    ]


def _initial(ctx: Context, call: Call, i: int, direction: int, *, batch_first: bool) -> Var | None:
    """Initial state ``(B, H)`` of a direction; None where it is zero."""
    value = call.optional(i)
    if value is None or (isinstance(value, Const) and not np.any(value.data)):
        return None
    picked = ctx.move(value, lambda a: a[:, direction] if batch_first else a[direction])
    return ctx.variable(picked)


def _recurrent(ctx: Context, call: Call) -> list[Value]:
    x = ctx.variable(call.operand(0))
    batch_first = bool(call.attributes.get("layout", 0))
    steps = x.shape[1] if batch_first else x.shape[0]
    batch = x.shape[0] if batch_first else x.shape[1]
    lengths = call.constant(4, "sequence_lens")
    if lengths is not None and not np.all(lengths.data == steps):
        raise call.unsupported("sequence_lens shorter than the input; cut the input instead")
    way = call.text("direction", "forward")
    if way not in ("forward", "reverse", "bidirectional") or not steps:
        raise ValueError(f"direction {way} over {steps} steps")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[way]
    weights, activations = _weights(call, len(backwards)), _activations(call, len(backwards))
    index = ctx.index(x)
    slices = [ctx.take(x, index[:, t] if batch_first else index[t]) for t in range(steps)]
    runs: list[list[_State]] = []
    for d, reverse in enumerate(backwards):
        state = _State(*(_initial(ctx, call, i, d, batch_first=batch_first) for i in (5, 6)))
        states: list[_State] = []
        for part in reversed(slices) if reverse else slices:
            state = _CELLS[call.op_type](ctx, call, weights[d], activations[d], part, state)
            states.append(state)
        runs.append(states)
    return _outputs(ctx, call, runs, backwards, batch_first=batch_first, batch=batch)


def _outputs(
    ctx: Context,
    call: Call,
    runs: list[list[_State]],
    backwards: list[bool],
    *,
    batch_first: bool,
    batch: int,
) -> list[Value]:
    """Y ``(T, D, B, H)``, the last hidden and (LSTM) cell states ``(D, B, H)``; batch first with layout 1."""
    hidden = [
        [s.h for s in (states[::-1] if reverse else states)]
        for states, reverse in zip(runs, backwards, strict=True)
    ]
    y = _stacked(
        ctx, [h for step in zip(*hidden, strict=True) for h in step], (len(runs[0]), len(runs)), batch
    )
    last = _stacked(ctx, [states[-1].h for states in runs], (len(runs),), batch)
    outputs = [y, last]
    if call.op_type == "LSTM":
        outputs.append(_stacked(ctx, [states[-1].c for states in runs], (len(runs),), batch))
    if batch_first:
        outputs = [ctx.take(v, np.moveaxis(ctx.index(v), -2, 0)) for v in outputs]
    return [*outputs]


def _stacked(ctx: Context, parts: Sequence[Var | None], lead: tuple[int, ...], batch: int) -> Var:
    flat = [ctx.reshape(p, (p.shape[0] * p.shape[1],)) for p in parts if p is not None]
    y = ctx.add(Op.CONCAT, flat, {"axis": 0}) if len(flat) > 1 else flat[0]
    return ctx.reshape(y, (*lead, batch, y.shape[0] // len(parts) // batch))


BUILDERS: Mapping[str, Builder] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
