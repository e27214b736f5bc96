"""Differentiable bounds: the verifier's values, and gradients that finite differences confirm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backend_graphs import GRAPHS, HOW, TORCH_DEVICES, boxes_of, kernels_on, objectives_of

from bounds.kernels.numpy import NumpyKernels
from bounds.methods.backward import Rows, backward
from bounds.methods.objective import (
    bound_objectives,
    compile_objectives,
    optimise_slopes,
)
from bounds.methods.rule import Rule, relax_boxes
from bounds.numerics import FLOAT64
from bounds.plan import compile_plan
from bounds.relax.relu import ReluRelaxation

torch = pytest.importorskip("torch", reason=HOW)
pytestmark = [pytest.mark.torch, pytest.mark.parametrize("device", TORCH_DEVICES)]
NAMES = pytest.mark.parametrize("name", GRAPHS)


def network(name: str, device: str) -> Any:
    from bounds.methods.differentiable import TrainableNetwork

    kernels_on(device, FLOAT64)  # skips where there is no such device
    return TrainableNetwork(GRAPHS[name](21), precision=FLOAT64, device=device)


def problem(name: str) -> tuple[Any, Any, Any, Any, Any]:
    graph = GRAPHS[name](21)
    lo, hi = boxes_of(graph, 22)
    return graph, lo, hi, objectives_of(graph, 23), np.random.default_rng(24).standard_normal(len(lo) * 4)


@NAMES
@pytest.mark.parametrize("refine", [True, False])
def test_values_are_the_verifiers(name: str, device: str, refine: bool) -> None:
    graph, lo, hi, o, _ = problem(name)
    net = network(name, device)
    c, d = torch.tensor(o.c), torch.tensor(o.d)
    found = net.linear_bounds(torch.tensor(lo), torch.tensor(hi), c, d, refine=refine).detach().cpu().numpy()
    tape = relax_boxes(compile_plan(graph, NumpyKernels(FLOAT64)), lo, hi, Rule(forward=False, refine=refine))
    expected = bound_objectives(tape, compile_objectives(tape.plan, o)).lower
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    intervals = net.interval_bounds(torch.tensor(lo), torch.tensor(hi), c, d).detach().cpu().numpy()
    plain = relax_boxes(tape.plan, lo, hi, Rule(forward=False, refine=False))
    low, high = (np.concatenate([plain.outputs[s][i] for s in tape.plan.outputs], axis=1) for i in (0, 1))
    by_hand = low @ np.maximum(o.c, 0).T + high @ np.minimum(o.c, 0).T + o.d
    np.testing.assert_allclose(intervals, by_hand, rtol=1e-10, atol=1e-10)
    x = (lo + hi) / 2
    assert (found <= (net.evaluate(torch.tensor(x)).detach().cpu().numpy() @ o.c.T + o.d) + 1e-9).all()


@NAMES
@pytest.mark.parametrize("method", ["interval", "linear", "mixed"])
def test_gradients_agree_with_finite_differences(name: str, device: str, method: str) -> None:
    """Central differences along random directions of all parameters and both box sides at once."""
    _, lo, hi, o, weight = problem(name)
    net = network(name, device)
    box = [torch.tensor(v, device=net.kernels.device).requires_grad_() for v in (lo - 0.01, hi + 0.01)]
    leaves = [*net.parameters.values(), *box]
    mix = torch.tensor(weight, device=net.kernels.device)

    def value() -> Any:
        if method == "interval":
            bounds = net.interval_bounds(*box, torch.tensor(o.c))
        else:
            bounds = net.linear_bounds(*box, torch.tensor(o.c), refine=method == "linear")
        return (bounds.reshape(-1) * mix).sum()

    gradients = torch.autograd.grad(value(), leaves, allow_unused=True)
    random, step = np.random.default_rng(25), 1e-6
    for _ in range(3):
        ways = [torch.tensor(random.standard_normal(tuple(p.shape)), device=p.device) for p in leaves]
        slope = sum(float((g * w).sum()) for g, w in zip(gradients, ways, strict=True) if g is not None)
        ends: list[float] = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, w in zip(leaves, ways, strict=True):
                    p.add_(sign * step * w)
                ends.append(float(value()))
                for p, w in zip(leaves, ways, strict=True):
                    p.sub_(sign * step * w)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-5)


@NAMES
def test_every_parameter_is_reached(name: str, device: str) -> None:
    _, lo, hi, o, _ = problem(name)
    net = network(name, device)
    net.linear_bounds(torch.tensor(lo), torch.tensor(hi), torch.tensor(o.c)).sum().backward()
    assert net.parameters
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters.values())
    assert any(bool(p.grad.any()) for p in net.parameters.values())


@NAMES
def test_the_closed_form_gradient_in_the_slopes(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``[A]+ z(x*)``, from the very arrays that optimise_slopes decides by, against autograd."""
    graph, lo, hi, o, _ = problem(name)
    # a term of its own in every input: where a coefficient is exactly zero, x* is not unique
    o = replace(o, g=np.random.default_rng(26).standard_normal(o.g.shape))
    k = kernels_on(device, FLOAT64)
    tape = relax_boxes(compile_plan(graph, k), lo, hi, Rule())
    compiled = compile_objectives(tape.plan, o)
    boxes, picks = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    seen: list[tuple[Any, Any, Any, Any]] = []
    gradient_of = ReluRelaxation.gradient

    def spy(self: Any, arrived: Any, dom: Any, choice: Any, at: Any) -> Any:
        (direction,) = gradient_of(self, arrived, dom, choice, at)
        seen.append((self, choice[0], direction, arrived))
        return (direction,)

    monkeypatch.setattr(ReluRelaxation, "gradient", spy)
    optimise_slopes(tape, compiled, boxes, picks, 2, keep_slopes=False)
    count = len(tape.relus)
    for step in (seen[:count], seen[count:]):
        assert [id(relaxation) for relaxation, *_ in step] == [id(r) for r in tape.relus]
        slopes = [s.detach().clone().requires_grad_() for _, s, _, _ in step]
        picked, dom = k.array(picks), k.array(boxes)
        at = {slot: rows[picked] for slot, rows in compiled.at.items()}
        rows = Rows(at, compiled.const[picked], k.zeros(12), dom)
        a = backward(tape, rows, len(tape.plan.steps), [(s,) for s in slopes]) + compiled.inputs[picked]
        # rows.error pays for rounding and is no part of what is optimised
        value = rows.const + k.concretize(a, k.take(tape.centre, dom), k.take(tape.radius, dom))
        gradients = torch.autograd.grad(value.sum(), slopes)
        for (_, _, direction, arrived), gradient in zip(step, gradients, strict=True):
            torch.testing.assert_close(gradient, arrived.abs() * direction, rtol=1e-9, atol=1e-9)
        assert any(bool(g.any()) for g in gradients)


def test_given_slopes_and_rows_per_box(device: str) -> None:
    _, lo, hi, o, _ = problem("dense")
    net = network("dense", device)
    box = torch.tensor(lo), torch.tensor(hi)
    each = torch.tensor(np.stack([o.c, 2 * o.c, -o.c]))
    d = torch.tensor(o.d)
    shared = net.linear_bounds(*box, torch.tensor(o.c), d)
    own = net.linear_bounds(*box, each, d)
    torch.testing.assert_close(own[0], shared[0])
    torch.testing.assert_close(own[1] - net.kernels.array(d), 2 * (shared[1] - net.kernels.array(d)))
    sizes = [s.size for s in net.plan().relus]
    slopes = [torch.full((12, n), 0.5, dtype=torch.float64, device=net.kernels.device) for n in sizes]
    for s in slopes:
        s.requires_grad_()
    net.linear_bounds(*box, torch.tensor(o.c), slopes=slopes).sum().backward()
    assert any(bool(s.grad.any()) for s in slopes)


def test_a_step_of_training_raises_the_bound(device: str) -> None:
    _, lo, hi, o, _ = problem("residual")
    net = network("residual", device)
    box = torch.tensor(lo), torch.tensor(hi)
    before = net.linear_bounds(*box, torch.tensor(o.c)).min()
    before.backward()
    with torch.no_grad():
        for p in net.parameters.values():
            if p.grad is not None:
                p.add_(1e-3 * p.grad)
    assert net.linear_bounds(*box, torch.tensor(o.c)).min() > before


def test_weights_of_somebody_elses_module(device: str) -> None:
    from bounds.methods.differentiable import TrainableNetwork

    kernels_on(device, FLOAT64)
    graph = GRAPHS["dense"](21)
    first = next(n for n in graph.nodes if "weight" in n.params)
    mine = torch.zeros(first.params["weight"].shape, dtype=torch.float64, device=device, requires_grad=True)
    net = TrainableNetwork(graph, precision=FLOAT64, device=device, weights={f"{first.id}.weight": mine})
    assert net.parameters[f"{first.id}.weight"] is mine
    with pytest.raises(ValueError, match="has shape"):
        TrainableNetwork(graph, weights={f"{first.id}.weight": mine[:1]})


def test_relax_at_zero_has_one_slope(device: str) -> None:
    """The derivative at a zero coefficient is the lower slope, not the sum of both."""
    k = kernels_on(device, FLOAT64)
    a = torch.zeros(1, 2, dtype=torch.float64, device=device, requires_grad=True)
    one = torch.ones_like(a)
    out, drop = k.relax(a, 0.25 * one, 0.5 * one, one)
    (gradient,) = torch.autograd.grad(out.sum() + drop.sum(), a)
    assert gradient.tolist() == [[0.25, 0.25]]
