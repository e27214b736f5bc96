"""Known constants, closed examples, and every method on the same small problems."""

from __future__ import annotations

import numpy as np
import pytest
from lipschitz_nets import Net, random_net

import sdp
from bounds.errors import BadInput, ModelUnsupported
from sdp.certify import certify, proved_positive
from sdp.chain import Infeasible, starting_multipliers
from sdp.increments import chain_of
from sdp.interior import Joint, joint_form
from sdp.lipsdp import SolverFailed
from sdp.objective import Norm
from verifier.cli.lipschitz import METHODS

OWN = ("product", "greedy", "eclipse-fast", "eclipse-cf", "eclipse", "first-order", "interior", "auto")
QUICK = sdp.Effort(seconds=20, sampling=sdp.Sampling(points=16, rounds=4, candidates=8))


def test_methods_of_the_command_are_those_of_the_library() -> None:
    assert METHODS == sdp.NAMES


# -------------------------------------------------------------------- exact constants
@pytest.mark.parametrize("layer", ["maxmin", "groupsort3", "groupsort4", "householder", "abs", "two-abs"])
def test_norm_preserving_layers_alone_are_exactly_one(layer: str, rng: np.random.Generator) -> None:
    net = Net(12)
    if layer == "maxmin":
        net.maxmin()
    elif layer.startswith("groupsort"):
        net.group_sort(int(layer[-1]))
    elif layer == "householder":
        u = np.zeros(12)
        u[[1, 3]] = 0.6, 0.8
        net.householder(u)
    else:
        net.apply("Abs")
        if layer == "two-abs":
            net.apply("Abs")
    bound = sdp.lipschitz(net.model(), effort=QUICK)
    assert bound.upper == pytest.approx(1.0, abs=2e-5)
    assert bound.upper >= bound.lower > 0.999


def test_two_rectifiers_per_pair_are_one() -> None:
    """Max and Min of a pair read opposite operands; unrelated rectifiers would give sqrt 2."""
    chain = chain_of(Net(2).maxmin().model().graph)
    assert chain.elements == 1


def test_a_difference_of_rectifiers_is_not_zero() -> None:
    """relu(x) - relu(x - 1) has constant 1; "LipSDP-network" claims 0."""
    net = Net(1).dense(np.array([[1.0], [1.0]]))
    (net.x,) = net.op("Add", net.x, net.const([[0.0, -1.0]]))
    net.apply("Relu").dense(np.array([[1.0, -1.0]]))
    bound = sdp.lipschitz(net.model(), effort=QUICK)
    assert bound.upper == pytest.approx(1.0, abs=1e-4)
    assert bound.upper >= 1.0


def test_linear_networks_have_their_spectral_norm(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    bound = sdp.lipschitz(Net(4).dense(a).dense(b).model(), effort=QUICK)
    true = np.linalg.norm(b.astype(np.float64) @ a.astype(np.float64), 2)
    assert bound.upper == pytest.approx(true, rel=1e-9)
    assert bound.upper >= true * (1 - 1e-14)


# -------------------------------------------------------------------- methods against each other
@pytest.mark.parametrize("kind", ["Relu", "maxmin", "residual", "Tanh"])
def test_methods_agree_on_what_is_possible(kind: str, rng: np.random.Generator) -> None:
    model = random_net(rng, kind, (4, 8, 8, 3)).model()
    found = {m: sdp.lipschitz(model, method=m, effort=QUICK) for m in OWN}
    lower = max(b.lower for b in found.values())
    for name, bound in found.items():
        assert bound.certified
        assert bound.upper >= lower * (1 - 1e-9), name
        assert bound.upper >= found["interior"].upper * (1 - 1e-4), name
    assert found["first-order"].upper <= found["greedy"].upper * (1 + 1e-9)


@pytest.mark.parametrize("solver", ["scs", "clarabel"])
def test_general_solvers_reach_the_same_optimum(solver: str, rng: np.random.Generator) -> None:
    pytest.importorskip("cvxpy", reason="needs cvxpy: pip install 'surebound[sdp]'")
    pytest.importorskip(solver, reason=f"needs {solver}: pip install 'surebound[sdp]'")
    model = random_net(rng, "Relu", (3, 6, 6, 2)).model()
    own = sdp.lipschitz(model, method="interior", effort=QUICK).upper
    theirs = sdp.lipschitz(model, method=f"lipsdp-neuron-{solver}", effort=QUICK).upper
    layer = sdp.lipschitz(model, method=f"lipsdp-layer-{solver}", effort=QUICK).upper
    chain = sdp.lipschitz(model, method=f"lipsdp-chain-{solver}", effort=QUICK)
    assert chain.upper == pytest.approx(own, rel=2e-3)
    assert chain.rows[0].claimed == pytest.approx(own, rel=2e-3)
    assert theirs == pytest.approx(own, rel=2e-3)
    assert layer >= own * (1 - 1e-4)


def test_a_failing_solver_leaves_a_proved_bound(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SolverFailed("SCS ended with status 'infeasible'")

    monkeypatch.setattr("sdp.lipsdp.solve", fail)
    model = random_net(rng, "Relu", (3, 6, 6, 2)).model()
    bound = sdp.lipschitz(model, method="lipsdp-neuron-scs", effort=QUICK)
    assert bound.method == "greedy" and bound.upper >= bound.lower
    assert any("infeasible" in note for note in bound.notes)


def test_derivatives_of_the_barrier(rng: np.random.Generator) -> None:
    chain = chain_of(random_net(rng, "residual", (4, 5, 5, 2)).model().graph)
    last = chain.c.value.T @ chain.c.value
    for norm in (Norm.TWO, Norm.INF):
        form = joint_form(chain, starting_multipliers(chain, last), last, norm)
        y = np.ones(form.inputs + len(form.scale)) * (1 + 0.1 * rng.random(form.inputs + len(form.scale)))

        def gradient(at: np.ndarray, form: Joint = form) -> np.ndarray:
            return form.derivatives(np.linalg.inv(form.matrix(at)))[0]

        hessian = form.derivatives(np.linalg.inv(form.matrix(y)))[1]
        for i in range(len(y)):
            e = np.zeros(len(y))
            e[i] = 1e-6
            numeric = (
                -(np.linalg.slogdet(form.matrix(y + e))[1] - np.linalg.slogdet(form.matrix(y - e))[1]) / 2e-6
            )
            assert gradient(y)[i] == pytest.approx(numeric, rel=1e-4, abs=1e-6)
            column = (gradient(y + e) - gradient(y - e)) / 2e-6
            np.testing.assert_allclose(hessian[i], column, rtol=1e-3, atol=1e-4)


# -------------------------------------------------------------------- the proof
def test_proof_refuses_what_is_indefinite() -> None:
    t, none = np.ones(2), np.zeros(2)
    assert proved_positive(np.diag([1.0, 1e-3]), t, none, 1e-10)
    assert not proved_positive(np.diag([1.0, -1e-9]), t, none, 1e-12)
    assert not proved_positive(np.diag([1.0, 1e-3]), t, np.full(2, 1e-9), 1e-10)  # error above the margin
    assert not proved_positive(np.full((2, 2), np.nan), t, none, 1e-10)


def test_infeasible_multipliers_prove_nothing(rng: np.random.Generator) -> None:
    chain = chain_of(random_net(rng, "Relu", (3, 6, 2)).model().graph)
    last = chain.c.value.T @ chain.c.value
    lam = starting_multipliers(chain, last)
    assert certify(chain, lam, np.ones(2), Norm.TWO).upper > 0
    for bad in ([0.01 * v for v in lam], [-v for v in lam], [v * np.nan for v in lam]):
        with pytest.raises(Infeasible):
            certify(chain, bad, np.ones(2), Norm.TWO)


def test_proof_is_no_smaller_than_exact_arithmetic_says(rng: np.random.Generator) -> None:
    """The recursion in high precision is below the proved number, and close."""
    mpmath = pytest.importorskip("mpmath")
    chain = chain_of(random_net(rng, "Relu", (3, 4, 2)).model().graph)
    last = chain.c.value.T @ chain.c.value
    lam = starting_multipliers(chain, last)
    proved = certify(chain, lam, np.ones(2), Norm.TWO).upper
    with mpmath.workdps(40):
        step = chain.steps[0]
        g, d, f, x, c = (mpmath.matrix(m.value) for m in (step.g, step.d, step.f, chain.x, chain.c))
        big = mpmath.diag([mpmath.mpf(float(v)) for v in lam[0]])
        q = c.T * c
        k = 2 * big - g.T * q * g
        b = f.T * q * g + d.T * big
        p = x.T * (f.T * q * f + b * (k**-1) * b.T) * x
        true = mpmath.sqrt(max(mpmath.eigsy(p, eigvals_only=True)))
    assert true <= proved <= float(true) * (1 + 1e-8)


# -------------------------------------------------------------------- bad input
def test_products_and_jumps_are_refused_with_advice() -> None:
    square = Net(3).dense(np.eye(3))
    (square.x,) = square.op("Mul", square.x, square.x)
    with pytest.raises(ModelUnsupported, match="region"):
        sdp.lipschitz(square.model())
    with pytest.raises(ModelUnsupported, match="jumps"):
        sdp.lipschitz(Net(2).apply("Sign").model())


@pytest.mark.parametrize(
    "options",
    [
        {"method": "none"},
        {"norm": 3},
        {"rows": np.ones((1, 9))},
        {"region": sdp.Region(np.ones(2), np.zeros(2))},
    ],
)
def test_bad_options_are_bad_input(options: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        sdp.lipschitz(Net(2).apply("Relu").model(), **options)  # type: ignore[arg-type]


# -------------------------------------------------------------------- regions
def test_local_bound_on_a_small_ball_is_the_jacobian_norm(rng: np.random.Generator) -> None:
    """Twenty networks, to three digits."""
    kinds = ("Relu", "Tanh", "maxmin", "residual", "LeakyRelu")
    for i in range(20):
        model = random_net(rng, kinds[i % 5], (4, 8, 8, 3)).model()
        region = sdp.Region.around(rng.standard_normal(4), 1e-4, "2")
        bound = sdp.lipschitz(model, region=region, effort=QUICK)
        assert bound.local
        assert bound.lower <= bound.upper * (1 + 1e-12)
        assert bound.upper == pytest.approx(bound.lower, rel=5e-4)


@pytest.mark.parametrize("kind", ["Relu", "Tanh", "residual", "dense-skip"])
def test_eclipse_on_regions_and_with_skips(kind: str, rng: np.random.Generator) -> None:
    """Its recursion from the input's side is the chain's own: nothing falls back to the output's side."""
    model = random_net(rng, kind, (4, 8, 8, 3)).model()
    region = sdp.Region.around(rng.standard_normal(4), 0.5, "2")
    for where in (None, region):
        found = {
            m: sdp.lipschitz(model, method=m, region=where, effort=QUICK)
            for m in ("eclipse-fast", "eclipse-cf", "eclipse", "interior")
        }
        assert all(b.upper >= found["interior"].upper * (1 - 1e-4) for b in found.values())
        assert found["eclipse"].method == "eclipse"
    wide = sdp.lipschitz(model, method="eclipse", effort=QUICK).upper
    small = sdp.Region.around(region.ball.centre, 1e-5, "2")  # type: ignore[union-attr]
    assert sdp.lipschitz(model, method="eclipse", region=small, effort=QUICK).upper <= wide


def test_products_have_local_bounds(rng: np.random.Generator) -> None:
    net = Net(3).dense(rng.standard_normal((3, 3)))
    (net.x,) = net.op("Mul", net.x, net.x)
    bound = sdp.lipschitz(net.model(), region=sdp.Region(-np.ones(3), np.ones(3)), effort=QUICK)
    assert bound.lower <= bound.upper < 100 * bound.lower


def test_a_local_bound_is_no_larger_than_the_global_one(rng: np.random.Generator) -> None:
    model = random_net(rng, "Relu", (4, 8, 8, 3)).model()
    everywhere = sdp.lipschitz(model, effort=QUICK).upper
    assert sdp.lipschitz(
        model, region=sdp.Region.around(np.zeros(4), 0.1), effort=QUICK
    ).upper <= everywhere * (1 + 1e-4)


def test_margins_bound_differences_of_outputs(rng: np.random.Generator) -> None:
    model = random_net(rng, "Relu", (4, 6, 3)).model()
    rows = sdp.margins(3, label=1)
    bound = sdp.lipschitz(model, rows=rows, output_norm="inf", effort=QUICK)
    assert len(bound.rows) == 2
    for row, one in zip(rows, bound.rows, strict=True):
        alone = sdp.lipschitz(model, rows=row, effort=QUICK)
        assert one.upper == pytest.approx(alone.upper, rel=1e-4)
