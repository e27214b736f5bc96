"""RNN, LSTM and GRU, unrolled over their fixed sequence length, nodes in the order of the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from verifier.check.calls import Call, Operator, moved
from verifier.check.functions import Function, X, compose, const
from verifier.check.functions import call as fn
from verifier.check.fusion import apply, product
from verifier.check.linear import dense_last
from verifier.check.movement import concat
from verifier.check.network import Array, Const, Lowering, Value, Var

_DEFAULTS = {"RNN": ("Tanh",), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
_ALPHA = {
    "LeakyRelu": 0.01, "Elu": 1.0, "HardSigmoid": 0.2, "Affine": 1.0, "ScaledTanh": 1.0,
    "ThresholdedRelu": 1.0,
}  # fmt: skip
_BETA = {"HardSigmoid": 0.5, "ScaledTanh": 1.0, "Affine": 0.0}


def _line(a: float, b: float) -> Function:
    return fn("+", fn("*", const(a), X), const(b))


def _clamped(e: Function, low: float, high: float) -> Function:
    return fn("min", fn("max", e, const(low)), const(high))


def _branch(inner: Function) -> Function:
    return fn("where", fn("step", X), X, inner)


_FORMULAS: Mapping[str, Callable[[float, float], Function]] = {
    "Affine": _line,
    "Elu": lambda a, _: _branch(fn("*", const(a), fn("-", fn("exp", X), const(1)))),
    "HardSigmoid": lambda a, b: _clamped(_line(a, b), 0.0, 1.0),
    "LeakyRelu": lambda a, _: _branch(fn("*", const(a), X)),
    "Relu": lambda _a, _b: fn("relu", X),
    "ScaledTanh": lambda a, b: fn("*", const(a), fn("tanh", fn("*", const(b), X))),
    "Sigmoid": lambda _a, _b: fn("sigmoid", X),
    "Softplus": lambda _a, _b: fn("softplus", X),
    "Softsign": lambda _a, _b: fn("/", X, fn("+", const(1), fn("abs", X))),
    "Tanh": lambda _a, _b: fn("tanh", X),
    "ThresholdedRelu": lambda a, _: fn("where", fn("strict", fn("-", X, const(a))), X, const(0)),
}


@dataclass(frozen=True, slots=True)
class _Weights:
    """One direction: W (gates H, I), R (gates H, H), biases (gates H,), peepholes (3 H,), activations."""

    w: Array
    r: Array
    wb: Array
    rb: Array
    peephole: Array
    activations: tuple[Function, ...]
    hidden: int

    @property
    def roundings(self) -> int:
        """Of one gate's sum: I + H products and at most three more terms."""
        return self.w.shape[1] + self.hidden + 3

    def gates(self, *gates: int) -> _Weights:
        """Only these gates."""
        rows = np.concatenate([np.arange(g * self.hidden, (g + 1) * self.hidden) for g in gates])
        return replace(self, w=self.w[rows], r=self.r[rows], wb=self.wb[rows], rb=self.rb[rows])


@dataclass(frozen=True, slots=True)
class _State:
    """Hidden and cell state (B, H); None where they are zero."""

    h: Var | None
    c: Var | None = None


def _activate(net: Lowering, f: Function, x: Var) -> Var:
    return net.relu(x) if f == fn("relu", X) else apply(net, f, x)


def _sums(net: Lowering, k: _Weights, x: Var, h: Var | None) -> Var:
    weight = k.w
    if h is not None:
        x, weight = concat(net, [x, h], 1), np.concatenate([k.w, k.r], axis=1)
    y = dense_last(net, x, weight, k.wb, roundings=k.roundings)
    return _plus(net, y, k.rb, k.roundings) if np.any(k.rb) else y


def _plus(net: Lowering, x: Var, bias: Array, roundings: int) -> Var:
    return net.affine([(x, ())], x.shape, np.broadcast_to(bias, x.shape), roundings=roundings)


def _gate(net: Lowering, sums: Var, i: int, hidden: int) -> Var:
    return net.take(sums, sums.index()[:, i * hidden : (i + 1) * hidden])


def _peep(net: Lowering, k: _Weights, gate: int, x: Var, c: Var | None) -> Var:
    weights = k.peephole[gate * k.hidden : (gate + 1) * k.hidden]
    if c is None or not np.any(weights):
        return x
    return net.combine([(1, x), (1, net.scaled(c, weights, roundings=1))], roundings=k.roundings)


def _opposite(net: Lowering, x: Var) -> Var:
    return net.scaled(x, np.array(-1.0), np.array(1.0), roundings=1)


def _rnn(net: Lowering, call: Call, k: _Weights, x: Var, state: _State) -> _State:
    del call
    return _State(_activate(net, k.activations[0], _sums(net, k, x, state.h)))


def _lstm(net: Lowering, call: Call, k: _Weights, x: Var, state: _State) -> _State:
    f, g, h = k.activations
    sums = _sums(net, k, x, state.h)
    gate_i, gate_o, gate_f, gate_c = (_gate(net, sums, n, k.hidden) for n in range(4))
    i = _activate(net, f, _peep(net, k, 0, gate_i, state.c))
    forget: Var | None = None
    if call.attributes.get("input_forget", 0):
        forget = _opposite(net, i)
    elif state.c is not None:
        forget = _activate(net, f, _peep(net, k, 2, gate_f, state.c))
    c = product(net, i, _activate(net, g, gate_c))
    if state.c is not None and forget is not None:
        c = net.combine([(1, product(net, forget, state.c)), (1, c)], roundings=1)
    o = _activate(net, f, _peep(net, k, 1, gate_o, c))
    return _State(product(net, o, _activate(net, h, c)), c)


def _gru(net: Lowering, call: Call, k: _Weights, x: Var, state: _State) -> _State:
    (f, g), h, new = k.activations, state.h, k.gates(2)
    sums = _sums(net, k.gates(0, 1), x, h)
    z = _activate(net, f, _gate(net, sums, 0, k.hidden))
    linear_first = bool(call.attributes.get("linear_before_reset", 0))
    if h is None and not (linear_first and np.any(new.rb)):
        inner = _sums(net, new, x, None)
    elif linear_first:
        r = _activate(net, f, _gate(net, sums, 1, k.hidden))
        if h is None:
            recurrent = net.scaled(r, new.rb, roundings=1)
        else:
            recurrent = product(net, r, dense_last(net, h, new.r, new.rb, roundings=k.hidden + 1))
        fed = dense_last(net, x, new.w, new.wb, roundings=k.roundings)
        inner = net.combine([(1, fed), (1, recurrent)], roundings=k.roundings)
    else:
        assert h is not None
        r = _activate(net, f, _gate(net, sums, 1, k.hidden))
        inner = _sums(net, new, x, product(net, r, h))
    fresh = product(net, _opposite(net, z), _activate(net, g, inner))
    if h is None:
        return _State(fresh)
    return _State(net.combine([(1, fresh), (1, product(net, z, h))], roundings=1))


_CELLS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


def _activations(call: Call, directions: int) -> list[tuple[Function, ...]]:
    default = _DEFAULTS[call.op]
    given = call.attributes.get("activations") or [n.encode() for n in default] * directions
    alphas, betas = (list(call.attributes.get(f"activation_{k}") or []) for k in ("alpha", "beta"))
    clip = call.attributes.get("clip")
    if len(given) != len(default) * directions:
        raise ValueError(f"{len(given)} activations for {directions} directions")
    found: list[Function] = []
    for given_name in given:
        name = next(
            (n for n in _FORMULAS if n.lower() == given_name.decode("utf-8", "replace").lower()), None
        )
        if name is None:
            raise call.refuse(f"activation {given_name!r}")
        # the lists hold numbers only for the activations that take one
        numbers = [
            float(stored.pop(0)) if name in known and stored else float(np.float32(known.get(name, 0)))
            for known, stored in ((_ALPHA, alphas), (_BETA, betas))
        ]
        f = _FORMULAS[name](*numbers)
        found.append(f if clip is None else compose(f, _clamped(X, -float(clip), float(clip))))
    n = len(default)
    return [tuple(found[i * n : (i + 1) * n]) for i in range(directions)]


def _weights(call: Call, directions: int) -> list[_Weights]:
    w, r = call.needed(1), call.needed(2)
    b, p = call.const(3), call.const(7)
    gates, hidden = _GATES[call.op], r.shape[2]
    if w.shape[:2] != (directions, gates * hidden) or r.shape[:2] != w.shape[:2]:
        raise ValueError(f"W {w.shape} and R {r.shape} for {directions} directions")
    biases = np.zeros((directions, 2 * gates * hidden)) if b is None else b.data
    peepholes = np.zeros((directions, 3 * hidden)) if p is None else p.data
    middle = gates * hidden
    return [
        _Weights(w[d], r[d], biases[d, :middle], biases[d, middle:], peepholes[d], functions, hidden)
        for d, functions in enumerate(_activations(call, directions))
    ]


def _initial(net: Lowering, value: Value | None, direction: int, *, batch_first: bool) -> Var | None:
    if value is None or (isinstance(value, Const) and not np.any(value.data)):
        return None
    return net.variable(moved(net, value, lambda a: a[:, direction] if batch_first else a[direction]))


def _recurrent(net: Lowering, call: Call) -> list[Value]:
    x, batch_first = net.variable(call.operand(0)), bool(call.attributes.get("layout", 0))
    batch, steps = x.shape[:2] if batch_first else x.shape[1::-1]
    lengths = call.const(4)
    way = call.text("direction", "forward")
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(way)
    if (lengths is not None and not np.all(lengths.data == steps)) or ways is None or not steps:
        raise call.refuse(f"direction {way}, or sequences shorter than the input")
    weights, index = _weights(call, len(ways)), x.index()
    slices = [net.take(x, index[:, t] if batch_first else index[t]) for t in range(steps)]
    runs: list[list[_State]] = []
    for d, reverse in enumerate(ways):
        h, c = (_initial(net, call.optional(i), d, batch_first=batch_first) for i in (5, 6))
        state, states = _State(h, c), list[_State]()
        for part in reversed(slices) if reverse else slices:
            state = _CELLS[call.op](net, call, weights[d], part, state)
            states.append(state)
        runs.append(states)
    hidden = [[s.h for s in (run[::-1] if back else run)] for run, back in zip(runs, ways, strict=True)]
    lead = (steps, len(ways))
    outputs = [
        _stacked(net, [h for step in zip(*hidden, strict=True) for h in step], lead, batch),
        _stacked(net, [run[-1].h for run in runs], lead[1:], batch),
    ]
    if call.op == "LSTM":
        outputs.append(_stacked(net, [run[-1].c for run in runs], lead[1:], batch))
    if batch_first:
        outputs = [net.take(v, np.moveaxis(v.index(), -2, 0)) for v in outputs]
    return [*outputs]


def _stacked(net: Lowering, parts: Sequence[Var | None], lead: tuple[int, ...], batch: int) -> Var:
    y = concat(net, [net.reshape(p, (p.size,)) for p in parts if p is not None], 0)
    return net.reshape(y, (*lead, batch, y.size // len(parts) // batch))


RECURRENT: Mapping[str, Operator] = dict.fromkeys(_CELLS, _recurrent)
