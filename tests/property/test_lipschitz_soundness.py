"""No bound is below what pairs of inputs show, whatever the network, the norms, the method or the region."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "sdp"))

from lipschitz_nets import random_net

import sdp
from bounds.errors import ModelUnsupported
from bounds.evaluate import evaluate

KINDS = (
    "Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "Abs", "Softsign", "HardSwish", "maxmin",
    "groupsort3", "groupsort4", "householder", "residual", "dense-skip", "Selu", "Erf", "Sin", "Cos", "Atan",
    "HardSigmoid", "Mish", "Swish", "Gelu", "conv", "Exp", "product",
)  # fmt: skip
# no constant everywhere, or one only for operands up to 1e100
LOCAL_ONLY = ("Exp", "product")
NONE = sdp.Effort(seconds=10, sampling=sdp.Sampling(points=12, rounds=3, candidates=8))
ORDER = {"1": 1, "2": 2, "inf": np.inf}


def steepest(
    model: object, rng: np.random.Generator, norms: tuple[str, str], region: sdp.Region | None
) -> float:
    """The largest ratio over random pairs, near and far: independent of Jacobians."""
    graph = model.graph  # type: ignore[attr-defined]
    n = graph.input_size
    if region is None:
        x = rng.standard_normal((400, n)) * 10.0 ** rng.uniform(-2, 1.5, (400, 1))
        y = x + rng.standard_normal((400, n)) * 10.0 ** rng.uniform(-3, 1, (400, 1))
    else:
        x, y = (region.lo + rng.random((400, n)) * (region.hi - region.lo) for _ in range(2))
    change = np.linalg.norm(evaluate(graph, x) - evaluate(graph, y), ORDER[norms[1]], axis=1)
    return float(np.max(change / np.linalg.norm(x - y, ORDER[norms[0]], axis=1)))


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    norms=st.sampled_from(
        [("2", "2"), ("2", "2"), ("inf", "inf"), ("1", "1"), ("inf", "1"), ("2", "inf"), ("1", "2")]
    ),
    method=st.sampled_from(
        ["auto", "auto", "greedy", "first-order", "eclipse-fast", "eclipse-cf", "eclipse", "product"]
    ),
    local=st.booleans(),
)
@settings(max_examples=150)
def test_no_bound_is_below_a_sampled_one(
    seed: int, kind: str, norms: tuple[str, str], method: str, local: bool
) -> None:
    rng = np.random.default_rng(seed)
    widths = [
        int(rng.integers(1, 6)),
        *(
            12 if "sort" in kind or kind == "conv" else int(rng.integers(1, 5)) * 2
            for _ in range(rng.integers(1, 4))
        ),
        3,
    ]
    model = random_net(rng, kind, widths).model()
    region = (
        sdp.Region.around(rng.standard_normal(widths[0]), float(10 ** rng.uniform(-2, 0.5)))
        if local or kind in LOCAL_ONLY
        else None
    )
    try:
        bound = sdp.lipschitz(
            model, norm=norms[0], output_norm=norms[1], method=method, region=region, effort=NONE
        )
    except ModelUnsupported:
        assume(kind not in LOCAL_ONLY)  # exp(exp(exp(x))) on a wide region: refused
        raise
    slack = 1 + 1e-9  # sampling computes in floating point
    assert bound.lower <= bound.upper * slack
    assert steepest(model, rng, norms, region) <= bound.upper * slack


@pytest.mark.slow
def test_no_bound_is_below_a_sampled_one_on_many(rng: np.random.Generator) -> None:
    """The count the project promises: 500 random small networks, over all activations and structures."""
    for i in range(500):
        kind = KINDS[i % len(KINDS)]
        model = random_net(rng, kind, (3, 12, 2) if kind == "Exp" else (3, 12, 12, 2)).model()
        local = kind in LOCAL_ONLY or i % 5 == 4
        region = sdp.Region.around(rng.standard_normal(3), 0.2) if local else None
        bound = sdp.lipschitz(model, region=region, effort=NONE)
        found = max(bound.lower, steepest(model, rng, ("2", "2"), region))
        assert found <= bound.upper * (1 + 1e-9), (i, kind)
