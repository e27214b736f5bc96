"""The checker's bounds against exact rationals and enumeration; nothing here uses the prover."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import checker_nets as nets
import numpy as np
import pytest

from verifier.check.arithmetic import Arithmetic, float_above, float_below
from verifier.check.bounds import Bounder
from verifier.check.evidence import property_rows
from verifier.check.importer import combine
from verifier.check.network import Kind, Network
from verifier.check.regions import Given
from verifier.check.state import Choices

FLOAT, EXACT = Arithmetic(False), Arithmetic(True)
CASES = [(name, seed) for name in nets.EVERY for seed in range(4)]


def setup(
    name: str, seed: int, *, scale: float = 1.0
) -> tuple[Network, np.ndarray, np.ndarray, np.random.Generator]:
    make, size = nets.EVERY[name]
    rng = np.random.default_rng(seed)
    data = make(rng)
    network = combine({"": data}, nets.make_property(size, 2, []))
    low = nets.dyadic(rng, 3, size).astype(np.float64) * scale
    return network, low, low + np.abs(nets.dyadic(rng, 3, size)).astype(np.float64) * scale, rng


@np.errstate(all="ignore")  # as where evidence is proved
def lower(
    network: Network,
    low: np.ndarray,
    high: np.ndarray,
    to: Arithmetic,
    seed: int,
    *,
    forward=False,
    float32=False,
    fitting=False,
) -> tuple[np.ndarray, Any]:
    """Lower bounds of y0, y1, -y0, -y1 for every box, and the state; with random slopes, or ``fitting``
    ones (1 for active neurons, 0 for the others)."""
    rng = np.random.default_rng(seed)
    bounder = Bounder(network, to, float32=float32, forward=forward)
    own = nets.choices(network, rng, len(low), bits=True)
    rows = [nets.row({j: s}) for s in (1, -1) for j in range(2)] * len(low)
    box = np.repeat(np.arange(len(low)), 4)
    chosen = nets.choices(network, rng, len(rows))
    everything = nets.everything(network, len(low))
    state = bounder.run(to.array(low), to.array(high), Given(own, everything))
    if fitting:
        nodes = [state.relaxed[i] for i in network.of(Kind.RELU)]
        active: Any = [r.low >= 0 for r in nodes]
        bits = np.concatenate([np.zeros((len(low), 0)), *active], axis=1).astype(np.uint8)
        own = Choices(bits * np.uint8(128), own.lines, own.mixes)
        state = bounder.run(to.array(low), to.array(high), Given(own, everything))
        chosen = Choices(np.repeat(own.slopes, 4, axis=0), chosen.lines, chosen.mixes)
    return bounder.minimum(state, property_rows(bounder, rows, box, state.mag), chosen), state


# in the families left out, neurons are stable by equality (max(a, a)), which float64 cannot see
@pytest.mark.parametrize(
    ("name", "seed"), [c for c in CASES if c[0] not in ("extrema", "maxpool", *nets.CURVED)]
)
@pytest.mark.parametrize("forward", [False, True])
def test_float_bounds_lie_just_below_exact_ones(name: str, seed: int, forward: bool) -> None:
    network, low, high, _ = setup(name, seed)
    # sides that are no short dyadic numbers, or neurons would be stable by equality in one arithmetic only
    low, high = low + 1 / 3, high + 0.7
    ours, state = lower(network, low, high, FLOAT, seed, forward=forward)
    exact, truth = lower(network, low, high, EXACT, seed, forward=forward)
    for i in network.of(Kind.RELU):
        assert np.array_equal(state.relaxed[i].ambiguous, truth.relaxed[i].ambiguous.astype(bool))
    for f, e in zip(ours, exact, strict=True):
        assert e - Fraction(1, 10**9) < Fraction(float(f)) <= e
    for k in range(len(network.nodes)):
        for values, truths, sign in ((state.low[k], truth.low[k], 1), (state.high[k], truth.high[k], -1)):
            pairs = zip(values.ravel().tolist(), truths.ravel().tolist(), strict=True)
            assert all(sign * Fraction(v) <= sign * e for v, e in pairs)


@pytest.mark.parametrize(("name", "seed"), CASES)
@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0**-540, 2.0**400])
def test_exact_outputs_lie_inside(name: str, seed: int, forward: bool, scale: float) -> None:
    """At corners, the centre and random points; at scales where products underflow too."""
    network, low, high, rng = setup(name, seed, scale=scale)
    ours, _ = lower(network, low, high, FLOAT, seed, forward=forward)
    plain = nets.Plain(network)
    for b in range(len(low)):
        for _ in range(12):
            x = low[b] + (high[b] - low[b]) * rng.integers(0, 5, low.shape[1]) / 4
            y = plain.exact([Fraction(v) for v in np.clip(x, low[b], high[b]).tolist()])
            for value, bound in zip(
                [y[0], y[1], -y[0], -y[1]], ours[4 * b : 4 * b + 4].tolist(), strict=True
            ):
                assert not bound > -np.inf or Fraction(bound) <= value  # a NaN proves nothing


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_a_point_is_evaluated_exactly(name: str, seed: int) -> None:
    """On a box without width, exact mode has no relaxation left: it is evaluation."""
    network, low, _, _ = setup(name, seed)
    found, _ = lower(network, low, low, EXACT, seed, fitting=True)
    plain = nets.Plain(network)
    for b in range(len(low)):
        y = plain.exact([Fraction(v) for v in low[b].tolist()])
        assert list(found[4 * b : 4 * b + 4]) == [y[0], y[1], -y[0], -y[1]]


def test_one_neuron_by_hand() -> None:
    """relu(x) on [-1, 3]: chord 3/4 (x + 1); lower slope 1/2 as stored."""
    data = nets.model([nets.helper.make_node("Relu", ["x"], ["y"])], {}, [1, 1])
    network = combine({"": data}, nets.make_property(1, 1, []))
    for to in (FLOAT, EXACT):
        bounder = Bounder(network, to, float32=False, forward=False)
        low, high = to.array(np.array([[-1.0]])), to.array(np.array([[3.0]]))
        state = bounder.run(low, high)
        rows = [nets.row({0: 1}, inputs={0: Fraction(-1, 2)}), nets.row({0: -1}, inputs={0: Fraction(3, 4)})]
        packed = property_rows(bounder, rows, np.zeros(2, np.int64), state.mag)
        found = bounder.minimum(
            state, packed, Choices(np.array([[64], [0]], np.uint8), np.zeros((2, 0)), np.zeros((2, 0)))
        )
        if to.exact:
            assert list(found) == [0, Fraction(-3, 4)]
        else:
            assert np.all(found <= [0, -0.75]) and np.all(found > [-1e-12, -0.75 - 1e-12])


def test_every_slope_is_sound() -> None:
    network, low, high, rng = setup("dense", 11)
    plain = nets.Plain(network)
    points = [low[0] + (high[0] - low[0]) * rng.random(2) for _ in range(50)]
    least = min(plain.exact([Fraction(v) for v in p.tolist()])[0] for p in points)
    for seed in range(40):
        found, _ = lower(network, low[:1], high[:1], FLOAT, seed)
        assert Fraction(float(found[0])) <= least


def test_float32_level_covers_onnxruntime_and_is_looser() -> None:
    """Long sums whose float32 value depends on the order, and cancel."""
    import onnxruntime

    rng = np.random.default_rng(5)
    w = rng.standard_normal((300, 2)).astype(np.float32) * 100
    v = rng.standard_normal((2, 2)).astype(np.float32)
    nodes = [nets.helper.make_node("MatMul", ["x", "w"], ["z"]), nets.helper.make_node("Relu", ["z"], ["a"])]
    nodes.append(nets.helper.make_node("Gemm", ["a", "v"], ["y"]))
    data = nets.model(nodes, {"w": w, "v": v}, [1, 300])
    network = combine({"": data}, nets.make_property(300, 2, []))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outside = 0
    for k in range(20):
        x = rng.standard_normal((1, 300)).astype(np.float32)
        y = session.run(None, {"x": x})[0][0].astype(np.float64)
        point = x.astype(np.float64)
        real, _ = lower(network, point, point, FLOAT, k)
        deployed, _ = lower(network, point, point, FLOAT, k, float32=True)
        both = np.concatenate([y, -y])
        assert np.all(deployed <= both)
        assert np.all(deployed < real)
        outside += int(np.any(real > both))
    assert outside  # the float32 results do leave the bounds of the real function


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_proved_by_overflow(value: float) -> None:
    network, low, high, _ = setup("dense", 1)
    with np.errstate(all="ignore"):
        for bad in (low.copy(), low * 0 - 1e308):
            bad[:, 0] = value if bad[0, 0] != -1e308 else -1e308
            found, _ = lower(network, bad, np.maximum(high, 1e308), FLOAT, 0)
            assert not np.any(found > -1e300)


def test_outward_rounding_of_rationals() -> None:
    for value in (
        Fraction(1, 3),
        Fraction(-1, 3),
        Fraction(1, 10**400),
        Fraction(10**400),
        -Fraction(10**400),
    ):
        low, high = float_below(value), float_above(value)
        assert low == -np.inf or Fraction(low) <= value
        assert high == np.inf or value <= Fraction(high)
        assert low < high
    assert float_below(Fraction(1, 4)) == float_above(Fraction(1, 4)) == 0.25


def test_property_coefficients_that_are_no_floats_are_charged() -> None:
    """With 1/3 the float row differs from the true one; the bound must stay below the truth."""
    data = nets.model([nets.helper.make_node("Identity", ["x"], ["y"])], {}, [1])
    network = combine({"": data}, nets.make_property(1, 1, []))
    assert network.output == 0
    bounder = Bounder(network, FLOAT, float32=False, forward=False)
    point = np.array([[2.0**60]])
    state = bounder.run(point, point)
    for sign in (1, -1):
        rows = [nets.row({0: Fraction(sign, 3)}, Fraction(1, 7), {0: Fraction(sign, 11)})]
        packed = property_rows(bounder, rows, np.zeros(1, np.int64), state.mag)
        bound = bounder.minimum(state, packed, None)[0]
        truth = rows[0].value({0: Fraction(2**60)}, {0: Fraction(2**60)})
        assert truth - 2000 < Fraction(float(bound)) <= truth
