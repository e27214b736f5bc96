"""Verdicts whose truth is known by other means, through ``verifier.verify`` on files."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from oracles import exact_least, least_margin
from tiny_queries import ABS, ask, dense, spike, text, vnnlib

from verifier import Options, conclude, verify
from verifier.problem import load_models, make_problem
from verifier.spec.load import load as load_property
from verifier.verdict import Semantics, Status, UnknownReason

SAT, UNSAT, UNKNOWN, LATE = Status.SAT, Status.UNSAT, Status.UNKNOWN, Status.TIMED_OUT
FLOAT32 = Semantics.FLOAT32


def random_layers(rng, sizes, *, dyadic):
    def numbers(*shape):
        raw = rng.integers(-8, 9, shape) / 4 if dyadic else rng.standard_normal(shape)
        return np.asarray(raw, np.float32).astype(np.float64)

    return [(numbers(b, a), numbers(b)) for a, b in itertools.pairwise(sizes)]


def condition(rows):
    """``c . y + d <= 0`` for all rows, as VNN-LIB."""
    atoms = []
    for c, d in rows:
        terms = " ".join(f"(* {text(float(v))} Y_{i})" for i, v in enumerate(c))
        atoms.append(f"(<= (+ {terms} {text(d)}) 0.0)")
    return f"(and {' '.join(atoms)})"


# ---- (a) enumeration agrees


@pytest.mark.parametrize("seed", range(48))
def test_enumeration_agrees(tmp_path, seed):
    """Pattern enumeration with linear programming, 2 to 4 inputs; margins below 1e-6 are not judged."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(2, 5))
    sizes = [inputs, int(rng.integers(2, 6)), *([int(rng.integers(2, 4))] if seed % 3 == 0 else []), 2]
    layers = random_layers(rng, sizes, dyadic=seed % 2 == 0)
    lo = np.round(rng.uniform(-1, 0, inputs) * 8) / 8
    hi = lo + np.where(rng.random(inputs) < 0.15, 0.0, np.round(rng.uniform(0, 2, inputs) * 8) / 8)
    # aim near the boundary: shift the rows by their value somewhere in the box
    rows = [(np.round(rng.standard_normal(2) * 4) / 4, 0.0) for _ in range(1 + seed % 2)]
    base = least_margin(layers, lo, hi, rows)
    rows = [(c, float(np.float32(d - base + rng.choice([-0.3, -0.02, 0.02, 0.3])))) for c, d in rows]
    margin = least_margin(layers, lo, hi, rows)
    assert abs(margin) > 1e-6
    report = ask(tmp_path, layers, list(zip(lo, hi, strict=True)), condition(rows))
    assert report.status is (UNSAT if margin > 0 else SAT)


@pytest.mark.parametrize("seed", range(24))
def test_exact_enumeration_agrees_on_one_input(tmp_path, seed):
    """One input, dyadic numbers: the truth is exact, boundary cases included."""
    rng = np.random.default_rng(1000 + seed)
    layers = random_layers(rng, [1, 3, 3, 2] if seed % 2 else [1, 4, 1], dyadic=True)
    out = len(layers[-1][1])
    rows = [(np.asarray(rng.integers(-2, 3, out), dtype=float), Fraction(0)) for _ in range(1 + seed % 2)]
    rows[0][0][0] = 1.0
    lo, hi = Fraction(-1), Fraction(int(rng.integers(0, 9)), 8)
    least = exact_least(layers, lo, hi, rows)
    below = least.limit_denominator(1 << 20) - Fraction(1, 1 << 20)
    below = Fraction(int(below * (1 << 22)), 1 << 22)
    # moved well above, just above, just below; and exactly onto the boundary where that is a dyadic number
    for shift, expected in (
        (below - Fraction(1, 8), UNSAT),
        (below, UNSAT),
        (least + Fraction(1, 1 << 18), SAT),
    ):
        shift = Fraction(int(shift * (1 << 24)), 1 << 24)
        moved = [(c, d - shift) for c, d in rows]
        truth = exact_least(layers, lo, hi, moved)
        if (truth > 0) != (expected is UNSAT):
            continue
        report = ask(tmp_path, layers, [(lo, hi)], condition([(c, float(d)) for c, d in moved]))
        assert report.status is expected, (shift, truth)


def test_the_oracles_agree():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        layers = random_layers(rng, [1, 3, 2, 2], dyadic=True)
        rows = [(np.array([1.0, -1.0]), Fraction(1, 4)), (np.array([0.5, 2.0]), Fraction(-1))]
        exact = exact_least(layers, Fraction(-1), Fraction(2), rows)
        near = least_margin(layers, np.array([-1.0]), np.array([2.0]), [(c, float(d)) for c, d in rows])
        assert abs(float(exact) - near) < 1e-7
        samples = [max(_values(layers, rows, Fraction(k, 16))) for k in range(-16, 33)]
        assert min(samples) >= exact


def _values(layers, rows, x):
    v = np.array([x], dtype=object)
    for i, (w, b) in enumerate(layers):
        v = w @ (np.maximum(v, 0) if i else v) + b
    return [(c * v).sum() + d for c, d in rows]


# ---- (b) equality

TIES = {
    # |x| has least value 0, reached inside, at a corner, or at a point that is no float
    "inside": (ABS, [(-1.0, 2.0)], "0.0"),
    "corner": (ABS, [(0.0, 1.0)], "0.0"),
    # relu(x - 1) + relu(1 - x) = |x - 1| on [1, 2]
    "breakpoint": ([([[1.0], [-1.0]], [-1.0, 1.0]), ([[1.0, 1.0]], [0.0])], [(1.0, 2.0)], "0.0"),
    # a linear function at a decimal corner that is no float: y = x, least value 0.1
    "decimal": ([([[1.0]], [0.0])], [("0.1", "0.7")], "0.1"),
    "decimal-relu": ([([[1.0]], [0.0]), ([[1.0]], [0.0])], [("0.1", "0.7")], "0.1"),
    "decimal-two": ([([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])], [("0.1", "0.5"), ("0.2", "0.9")], "0.3"),
    "point": ([([[2.0]], [1.0]), ([[3.0]], [0.5])], [(0.25, 0.25)], "5.0"),
}


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("attack", [True, False])
def test_equality(tmp_path, name, attack):
    """``y < least`` never happens, ``y <= least`` does, even where only at a decimal end of the box."""
    layers, box, least = TIES[name]
    strict = ask(tmp_path, layers, box, f"(< Y_0 {least})", attack=attack)
    assert strict.status is UNSAT
    loose = ask(tmp_path, layers, box, f"(<= Y_0 {least})", attack=attack, max_domains=400)
    assert loose.status is (SAT if attack else UNKNOWN)


def test_equality_between_decimal_neighbours(tmp_path):
    """The float64 nearest to 0.1 is above 0.1: arithmetic that rounds the bound gets these wrong."""
    layers, box = [([[1.0]], [0.0])], [("0.1", "0.7")]
    assert Fraction(0.1) > Fraction(1, 10)
    assert ask(tmp_path, layers, box, "(< Y_0 0.1)").status is UNSAT
    assert ask(tmp_path, layers, box, "(<= Y_0 0.09999999999999999999999999)").status is UNSAT
    # the only violation is at 1/10, which no float32 input can be: confirmed over the reals
    found = ask(tmp_path, layers, box, "(<= Y_0 0.1)")
    assert found.status is SAT
    assert found.witness is not None
    assert (found.witness.kind, found.witness.x) == ("rigorous", (Fraction(1, 10),))
    assert ask(tmp_path, layers, box, "(<= Y_0 0.10000001)").status is SAT


# ---- (c), (d) hardly violated


def test_violated_by_1e_7_only(tmp_path):
    """|x - 0.375| >= 0 always; ``<= 1e-7`` holds on a sliver of width 2e-7, ``<= -1e-7`` nowhere."""
    layers = [([[1.0], [-1.0]], [-0.375, 0.375]), ([[1.0, 1.0]], [0.0])]
    box = [(-3.0, 5.0)]
    assert ask(tmp_path, layers, box, "(<= Y_0 0.0000001)").status is SAT
    assert ask(tmp_path, layers, box, "(<= Y_0 -0.0000001)").status is UNSAT
    blind = ask(tmp_path, layers, box, "(<= Y_0 0.0000001)", attack=False, max_domains=3000)
    assert blind.status is UNKNOWN and blind.reason in (UnknownReason.PRECISION, UnknownReason.DOMAINS)


def test_minimum_of_a_random_network_within_1e_7(tmp_path):
    for seed in range(4):
        layers = random_layers(np.random.default_rng(seed), [1, 4, 1], dyadic=True)
        least = exact_least(layers, Fraction(-1), Fraction(1), [(np.array([1.0]), Fraction(0))])
        scaled = int(least * 10**9)
        for offset, expected in ((200, SAT), (-200, UNSAT)):
            bound = Fraction(scaled + offset, 10**9)
            sign = "-" if bound < 0 else ""
            digits = f"{sign}{abs(scaled + offset) // 10**9}.{abs(scaled + offset) % 10**9:09d}"
            assert ask(tmp_path, layers, [(-1.0, 1.0)], f"(<= Y_0 {digits})").status is expected


# y = relu(1e8 x + 1) - relu(1e8 x) is 1 for every x >= 0, but float32 computes 0 near x = 1
VANISHING = [([[1e8], [1e8]], [1.0, 0.0]), ([[1.0, -1.0]], [0.0])]


def test_counterexample_that_rounding_hides(tmp_path):
    """Over the reals y = 1 satisfies ``y >= 0.75``; onnxruntime computes 0."""
    box = [(1.0, 1.0)]
    report = ask(tmp_path, VANISHING, box, "(>= Y_0 0.75)", semantics=FLOAT32)
    # another machine (wider accumulation, fused steps) may well compute 1: undecided is the only right answer
    assert report.status is UNKNOWN


def test_counterexample_that_rounding_hides_is_found(tmp_path):
    report = ask(tmp_path, VANISHING, [(1.0, 1.0)], "(>= Y_0 0.75)")
    assert report.status is SAT and report.witness is not None
    assert report.witness.kind == "rigorous" and report.witness.y == (Fraction(0),)


def test_counterexample_that_rounding_hides_is_confirmed(tmp_path):
    """The chokepoint says sat, kind "rigorous", at level real; at float32 it says nothing."""
    model = dense(tmp_path / "f.onnx", VANISHING)
    prop = load_property(vnnlib(tmp_path / "p.vnnlib", [(1.0, 1.0)], 1, "(>= Y_0 0.75)"))
    for semantics in Semantics:
        problem = make_problem(prop, load_models(model, prop), semantics)
        found = conclude.sat(problem, 0, np.ones(1), semantics)
        if semantics is FLOAT32:
            assert found is None
        else:
            assert (
                found is not None and found.witness.kind == "rigorous" and found.witness.y == (Fraction(0),)
            )


def test_counterexample_that_rounding_makes(tmp_path):
    """Over the reals y = 1 violates nothing; some float32 evaluations give 0 <= 0.25."""
    box = [(1.0, 1.0)]
    assert ask(tmp_path, VANISHING, box, "(<= Y_0 0.25)", semantics=FLOAT32).status is SAT
    blind = ask(tmp_path, VANISHING, box, "(<= Y_0 0.25)", semantics=FLOAT32, attack=False)
    assert blind.status is UNKNOWN
    # at level real onnxruntime's own outputs confirm a violation too, unless nobody looks
    assert ask(tmp_path, VANISHING, box, "(<= Y_0 0.25)", attack=False).status is UNSAT


# ---- (e) precision attacks

ATTACKS = {
    # 1e8 + 1 - 1e8 in one dot product: 1 over the reals, 0 or 1 by order
    "order": ([([[1e8, 1.0, -1e8]], [0.0])], [(1.0, 1.0)] * 3),
    "order-relu": (
        [([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], [0.0] * 3), ([[1e8, 1.0, -1e8]], [0.0])],
        [(1.0, 1.0)] * 3,
    ),
    # a bias absorbed or not
    "bias": ([([[16777216.0, -16777216.0]], [1.0])], [(1.0, 1.0)] * 2),
    "many-small": ([([[67108864.0, *[1.0] * 6, -67108864.0]], [0.0])], [(1.0, 1.0)] * 8),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("attack", [True, False])
def test_summation_order_is_never_unsat_at_float32(tmp_path, name, attack):
    layers, box = ATTACKS[name]
    assert ask(tmp_path, layers, box, "(<= Y_0 0.5)", attack=False).status is UNSAT  # over the reals
    assert ask(tmp_path, layers, box, "(<= Y_0 0.5)", semantics=FLOAT32, attack=attack).status is not UNSAT


def test_float32_level_still_proves(tmp_path):
    """The stronger level is not merely 'unknown': ordinary networks are proved at it."""
    assert ask(tmp_path, ABS, [(-1.0, 2.0)], "(>= Y_0 2.25)", semantics=FLOAT32).status is UNSAT
    assert ask(tmp_path, ABS, [(-1.0, 2.0)], "(<= Y_0 -0.01)", semantics=FLOAT32).status is UNSAT


OVERFLOWS = [([[1e30], [-1e30]], [0.0, 0.0]), ([[1e30, 1e30]], [0.0])]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_network_that_overflows_float32_is_never_unsat_wrongly(tmp_path):
    """1e30 * 1e30 is infinite in float32: nothing is claimed about what nobody can compute."""
    layers = OVERFLOWS
    for semantics in Semantics:
        report = ask(tmp_path, layers, [(0.0, 1.0)], "(>= Y_0 1.0)", semantics=semantics, max_domains=200)
        assert report.status is not UNSAT


def test_overflow_is_silent(tmp_path):
    """Overflow is an ordinary event (a bound becomes infinite): users see no numpy warning."""
    ask(tmp_path, OVERFLOWS, [(0.0, 1.0)], "(>= Y_0 1.0)", max_domains=20)


# ---- (f) planted counterexamples


@pytest.mark.parametrize("seed", range(6))
def test_planted_counterexample_blind(tmp_path, seed):
    """A spike of width 1e-4 in [-1, 1]^2: with the attack off it is at most unknown, never unsat."""
    rng = np.random.default_rng(seed)
    centre = float(np.float32(rng.uniform(-0.9, 0.9)))
    (w, b), (out, c) = spike(centre, 1e-4, 1.0)
    wide = [(np.hstack([w, np.zeros((3, 1))]), b), (out, c)]
    box = [(-1.0, 1.0), (-1.0, 1.0)]
    blind = ask(tmp_path, wide, box, "(>= Y_0 0.5)", attack=False, max_domains=1500)
    assert blind.status is UNKNOWN
    assert ask(tmp_path, wide, box, "(>= Y_0 1.5)").status is UNSAT
    assert ask(tmp_path, wide, box, "(>= Y_0 0.5)", max_domains=4000).status is not UNSAT


@pytest.mark.parametrize("semantics", list(Semantics))
def test_known_sat_instances_blind(tmp_path, semantics):
    """With the attack switched off no instance with a known violation comes out unsat."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        layers = random_layers(rng, [3, 5, 2], dyadic=False)
        x = rng.uniform(-1, 1, 3).astype(np.float32).astype(np.float64)
        v = x
        for i, (w, b) in enumerate(layers):
            v = w @ (np.maximum(v, 0) if i else v) + b
        bound = text(float(np.float32(v[0] + 1e-4)))
        report = ask(
            tmp_path, layers, [(-1.0, 1.0)] * 3, f"(<= Y_0 {bound})",
            attack=False, max_domains=60, semantics=semantics,
        )  # fmt: skip
        assert report.status is UNKNOWN


# ---- (g) degenerate properties


def test_empty_input_set(tmp_path):
    report = ask(tmp_path, ABS, [(1.0, 0.5)], "(<= Y_0 100.0)")
    assert report.status is UNSAT and any("empty" in note for note in report.notes)


def test_contradictory_property(tmp_path):
    """No case at all is left: the input set is empty, and that is said."""
    report = ask(tmp_path, ABS, [(0.0, 1.0)], "(<= Y_0 100.0)", "(>= 0.0 1.0)")
    assert report.status is UNSAT and any("empty" in note for note in report.notes)


def test_disjunct_that_is_always_true(tmp_path):
    report = ask(tmp_path, ABS, [(0.0, 1.0)], "(or (<= Y_0 -5.0) (<= 0.0 1.0))")
    assert report.status is SAT


def test_strictly_empty_box(tmp_path):
    """``x > 0`` and ``x <= 0``: the closed box is a point, the strict row excludes it."""
    report = ask(tmp_path, ABS, [(-1.0, 0.0)], "(> X_0 0.0)", "(<= Y_0 100.0)")
    assert report.status is UNSAT


def test_several_cases(tmp_path):
    """A disjunction over boxes: unsat only if every case is."""
    box = [(-4.0, 4.0)]
    apart = "(or (and (<= X_0 -1.0) (<= Y_0 {a})) (and (>= X_0 2.0) (<= Y_0 {b})))"
    assert ask(tmp_path, ABS, box, apart.format(a="0.875", b="1.875")).status is UNSAT
    assert ask(tmp_path, ABS, box, apart.format(a="0.875", b="2.0")).status is SAT
    assert ask(tmp_path, ABS, box, apart.format(a="1.0", b="1.875")).status is SAT
    assert (
        ask(tmp_path, ABS, box, apart.format(a="1.0", b="1.875"), attack=False, max_domains=500).status
        is not UNSAT
    )


def test_many_disjuncts_and_rows_that_mix_inputs(tmp_path):
    layers = [([[1.0, -1.0], [0.5, 1.0]], [0.0, 0.25]), ([[1.0, 1.0], [-1.0, 2.0]], [0.0, 0.0])]
    box = [(-1.0, 1.0)] * 2
    never = "(or (>= Y_0 (+ X_0 10.0)) (and (<= Y_1 (- X_1 9.0)) (>= Y_0 0.0)) (<= Y_0 -0.125))"
    assert ask(tmp_path, layers, box, never).status is UNSAT
    assert ask(tmp_path, layers, box, never.replace("-0.125", "0.0")).status is SAT


@pytest.mark.parametrize("literal", ["1" + "0" * 400, "-1" + "0" * 400])
def test_huge_constants(tmp_path, literal):
    """A constant beyond float64 is compared like any other number."""
    assert ask(tmp_path, ABS, [(0.0, 1.0)], f"(<= Y_0 {literal}.0)").status is (
        UNSAT if literal[0] == "-" else SAT
    )


def test_tiny_constants(tmp_path):
    """1e-400 is no float64 but is not 0."""
    tiny = "0." + "0" * 399 + "1"
    assert ask(tmp_path, ABS, [(-1.0, 1.0)], f"(< Y_0 {tiny})").status is SAT
    assert ask(tmp_path, ABS, [(-1.0, 1.0)], f"(<= Y_0 -{tiny})").status is UNSAT


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_stored_numbers_that_float32_cannot_hold(tmp_path):
    """A float64 model with weights of 1e-45: searching in float32 must not lose them."""
    layers = [([[3e-46], [-3e-46]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])]
    box = [(1e30, 1e30)]
    assert ask(tmp_path, layers, box, "(<= Y_0 0.0000000000000002)", double=True).status is UNSAT
    blind = ask(tmp_path, layers, box, "(<= Y_0 0.0000000000000004)", double=True, attack=False)
    assert blind.status is not UNSAT


# ---- (h) limits


def hard(tmp_path, **options):
    """Needs thousands of subproblems: a spiky random network, a threshold near its minimum."""
    layers = random_layers(np.random.default_rng(7), [4, 12, 8, 1], dyadic=False)
    model = dense(tmp_path / "f.onnx", layers)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 4))
    v = x
    for i, (w, b) in enumerate(layers):
        v = (np.maximum(v, 0) if i else v) @ w.T + b
    spec = vnnlib(
        tmp_path / "p.vnnlib", [(-1.0, 1.0)] * 4, 1, f"(<= Y_0 {text(float(np.float32(v.min() - 0.02)))})"
    )
    cancel = options.pop("cancel", None)
    return verify(model, spec, options=Options(attack=False, **options), cancel=cancel)


def test_domain_limit(tmp_path):
    report = hard(tmp_path, max_domains=3)
    assert (report.status, report.reason) == (UNKNOWN, UnknownReason.DOMAINS)
    assert report.stats.domains >= 3 and report.closed_fraction < 1


def test_time_limit(tmp_path):
    report = hard(tmp_path, timeout=1e-9)
    assert (report.status, report.reason) == (LATE, UnknownReason.TIMEOUT)


def test_time_limit_together_with_a_domain_limit(tmp_path):
    report = hard(tmp_path, timeout=1e-9, max_domains=10**6)
    assert (report.status, report.reason) == (LATE, UnknownReason.TIMEOUT)


def test_memory_limit(tmp_path):
    report = hard(tmp_path, memory=2**20)
    assert report.status is UNSAT or report.reason is UnknownReason.MEMORY


def test_cancel_is_polled_inside_bounding(tmp_path):
    """Polled often (several times a subproblem), and nothing more is bounded once it says stop."""
    polls = []

    def cancel():
        polls.append(1)
        return len(polls) > 5

    report = hard(tmp_path, cancel=cancel)
    assert (report.status, report.reason) == (UNKNOWN, UnknownReason.CANCELLED)
    assert len(polls) <= 9  # it was believed at once, not after more work


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 8])
def test_cancel_that_changes_its_mind(tmp_path, nth):
    """A callable that says stop only once must not turn open subproblems into a defect or a proof."""
    polls = []

    def cancel():
        polls.append(1)
        return len(polls) == nth

    report = hard(tmp_path, cancel=cancel, max_domains=50)
    assert (report.status, report.reason) == (UNKNOWN, UnknownReason.CANCELLED)


# ---- (i) determinism


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_same_search(tmp_path, seed):
    layers = random_layers(np.random.default_rng(3), [3, 8, 6, 2], dyadic=False)
    found = [
        ask(tmp_path, layers, [(-1.0, 1.0)] * 3, "(<= Y_0 -4.0)", seed=seed, max_domains=300)
        for _ in range(2)
    ]
    for f in ("status", "reason", "witness", "lower_bound", "closed_fraction"):
        assert getattr(found[0], f) == getattr(found[1], f)
    assert found[0].stats.domains == found[1].stats.domains


# ---- (j) VNN-LIB 2.0: several networks, equal networks, hidden nodes


def vnnlib2(path, body):
    pytest.importorskip("vnnlib", reason="the official VNN-LIB 2.0 parser is not installed")
    path.write_text("(vnnlib-version <2.0>)\n" + body, encoding="utf-8")
    return path


SINGLE = "(declare-network f (declare-input X float32 [1,1]) (declare-output Y float32 [1,1]))\n"
PAIR = SINGLE + "(declare-network g {how}(declare-input A float32 [1,1]) (declare-output B float32 [1,1]))\n"
BOXES = (
    "(assert (>= X[0,0] -1.0)) (assert (<= X[0,0] 1.0))\n(assert (>= A[0,0] -1.0)) (assert (<= A[0,0] 1.0))\n"
)


def test_two_networks(tmp_path):
    """f = |x|, g = |a| + 0.5 on independent inputs."""
    f = dense(tmp_path / "f.onnx", ABS)
    g = dense(tmp_path / "g.onnx", [ABS[0], ([[1.0, 1.0]], [0.5])])
    body = PAIR.format(how="") + BOXES
    for condition_, expected in (
        ("(assert (< (+ Y[0,0] B[0,0]) 0.5))", UNSAT),
        ("(assert (<= (+ Y[0,0] B[0,0]) 0.5))", SAT),
        ("(assert (>= (- Y[0,0] B[0,0]) 0.625))", UNSAT),
        ("(assert (and (== A[0,0] X[0,0]) (>= Y[0,0] B[0,0])))", UNSAT),
    ):
        spec = vnnlib2(tmp_path / "p.vnnlib", body + condition_)
        assert verify({"f": f, "g": g}, spec, options=Options(max_domains=5000)).status is expected, (
            condition_
        )


def test_equal_networks(tmp_path):
    """A Lipschitz-like statement about two copies of one network."""
    f = dense(tmp_path / "f.onnx", ABS)
    body = PAIR.format(how="(equal-to f) ") + BOXES
    near = "(assert (<= A[0,0] (+ X[0,0] 0.25))) (assert (>= A[0,0] (- X[0,0] 0.25)))\n"
    spec = vnnlib2(tmp_path / "p.vnnlib", body + near + "(assert (>= (- B[0,0] Y[0,0]) 0.375))")
    assert verify({"f": f}, spec, options=Options(max_domains=5000)).status is UNSAT
    spec = vnnlib2(tmp_path / "p.vnnlib", body + near + "(assert (>= (- B[0,0] Y[0,0]) 0.125))")
    report = verify({"f": f}, spec, options=Options(max_domains=5000))
    assert report.status is SAT and report.witness is not None
    x, a = report.witness.x
    assert abs(a) - abs(x) >= Fraction(1, 8) and abs(a - x) <= Fraction(1, 4)


def test_hidden_nodes(tmp_path):
    f = dense(tmp_path / "f.onnx", ABS)
    net = (
        "(declare-network f (declare-input X float32 [1,1]) "
        '(declare-hidden H float32 [1,2] "r0") (declare-output Y float32 [1,1]))\n'
        "(assert (>= X[0,0] -1.0)) (assert (<= X[0,0] 1.0))\n"
    )
    for condition_, expected in (
        ("(assert (> (+ H[0,0] H[0,1]) Y[0,0]))", UNSAT),
        ("(assert (>= (+ H[0,0] H[0,1]) Y[0,0]))", SAT),
        ("(assert (and (>= H[0,0] 0.25) (>= H[0,1] 0.25)))", UNSAT),
        ("(assert (and (>= H[0,0] 0.25) (<= Y[0,0] 0.5)))", SAT),
    ):
        spec = vnnlib2(tmp_path / "p.vnnlib", net + condition_)
        assert verify(f, spec, options=Options(max_domains=5000)).status is expected, condition_


def test_hidden_node_that_is_the_output(tmp_path):
    """One tensor under two names: coefficients add up, exactly."""
    f = dense(tmp_path / "f.onnx", ABS)
    net = (
        "(declare-network f (declare-input X float32 [1,1]) "
        '(declare-hidden H float32 [1,1] "m1") (declare-output Y float32 [1,1]))\n'
        "(assert (>= X[0,0] -1.0)) (assert (<= X[0,0] 1.0))\n"
    )
    spec = vnnlib2(
        tmp_path / "p.vnnlib", net + "(assert (< (- (* 16777217.0 Y[0,0]) (* 16777216.0 H[0,0])) 0.0))"
    )
    assert verify(f, spec, options=Options(max_domains=2000)).status is UNSAT


# ---- witnesses stand on their own


def test_witnesses_are_violations(tmp_path):
    """Every sat is replayed here by onnxruntime itself."""
    import onnxruntime

    for seed in range(12):
        layers = random_layers(np.random.default_rng(200 + seed), [3, 6, 2], dyadic=False)
        report = ask(tmp_path, layers, [("-0.1", "0.3")] * 3, "(<= Y_0 Y_1)", max_domains=500)
        if report.status is not SAT:
            continue
        assert report.witness is not None and report.witness.kind == "replayed"
        assert all(Fraction(-1, 10) <= v <= Fraction(3, 10) for v in report.witness.x)
        point = np.array([[float(v) for v in report.witness.x]], np.float32)
        assert [Fraction(float(v)) for v in point[0]] == list(report.witness.x)
        session = onnxruntime.InferenceSession(str(tmp_path / "f.onnx"), providers=["CPUExecutionProvider"])
        y = session.run(None, {"X": point})[0].reshape(-1)
        assert y[0] <= y[1]
    model = onnx.load(str(tmp_path / "f.onnx"))
    assert {t.name for t in model.graph.initializer} >= {"W0", "b0"}
    assert numpy_helper.to_array(model.graph.initializer[0]).dtype == np.float32
