"""A second engine: bounds by the auto_LiRPA library, where it is installed. Nominal, for comparison.

auto_LiRPA (Xu et al., Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond, 2020; BSD
licence) computes linear bounds in ordinary float32 and accounts for no rounding. What it says is therefore
*nominal*: it may guide and cross-check, and it **refutes nothing**. :class:`AutoLirpaBounder` says so in the
terms of every bounder: no group is ever ``refuted``; groups with a positive bound are ``close``, which makes
a search bound them again with arithmetic that counts.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Generator
from typing import Any, TypeAlias

import numpy as np

from bounds.domain import Objectives
from bounds.errors import BadInput, ModelUnsupported
from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, Fn, nodes
from bounds.graph import Array, Graph
from bounds.methods.bounder import BoundResult, Effort

Bounds: TypeAlias = tuple[Array, "Array | None"]

METHODS = ("IBP", "CROWN-IBP", "CROWN", "CROWN-Optimized")
"""The library's methods offered here; the last one is alpha-CROWN."""

HOW_TO_INSTALL = (
    "it needs PyTorch and the auto_LiRPA repository (the release on PyPI does not run with current PyTorch): "
    "pip install torch appdirs tqdm graphviz, then "
    "pip install --no-deps git+https://github.com/Verified-Intelligence/auto_LiRPA"
)


def available() -> bool:
    """Whether the library is installed (it is not imported)."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "auto_LiRPA"))


def bound_with_auto_lirpa(
    graph: Graph,
    lo: Array,
    hi: Array,
    objectives: Objectives,
    *,
    method: str = "CROWN-Optimized",
    iterations: int = 20,
) -> Array:
    """Nominal lower bounds of all objectives on all boxes.

    Args:
        graph: the network.
        lo, hi: ``D d`` boxes.
        objectives: ``S`` rows.
        method: one of :data:`METHODS`.
        iterations: of the optimisation (read by ``CROWN-Optimized`` only).

    Returns:
        ``D S`` float64. Not a proof: no rounding is accounted for.

    Raises:
        BadInput: the library is missing or cannot be used, or there is no such method.
        ModelUnsupported: the library lacks an operator of the network.
    """
    return AutoLirpaBounder(graph, objectives, method=method, iterations=iterations).lower(lo, hi)


class AutoLirpaBounder:
    """Bounds blocks of boxes of one network and one set of objectives, nominally.

    Args:
        graph: the network.
        objectives: what to bound.
        method: one of :data:`METHODS`.
        iterations: of the optimisation, unless an effort says otherwise.

    Attributes:
        nominal: True: no result of this class proves anything.
    """

    nominal = True

    def __init__(
        self, graph: Graph, objectives: Objectives, *, method: str = "CROWN-Optimized", iterations: int = 20
    ) -> None:
        if method not in METHODS:
            raise BadInput(f"auto_LiRPA has no method '{method}' here; choose one of {', '.join(METHODS)}")
        self.objectives, self.method, self.iterations = objectives, method, iterations
        self._graph = graph
        self._library, torch = _load()
        self._reads_inputs = bool(np.any(objectives.g))
        self._module = self._wrap(torch)
        rows = np.concatenate([objectives.c, objectives.g], 1) if self._reads_inputs else objectives.c
        self._rows = torch.tensor(rows.astype(np.float32))
        self._torch = torch

    def lower(self, lo: Array, hi: Array, iterations: int | None = None) -> Array:
        """``D S`` float64 nominal lower bounds on the boxes ``D d``."""
        return self._bounds(lo, hi, iterations, lines=False)[0]

    def bound(
        self, lo: Array, hi: Array, wanted: Array, should_stop: Any = None, effort: Effort | None = None
    ) -> BoundResult:
        """Like :meth:`bounds.methods.bounder.BoxBounder.bound`; ``refuted`` is false everywhere.

        Soundness: nothing is claimed. A positive bound is reported as ``close``: all that stands between it
        and a proof is rounding, which this engine does not count.
        """
        del should_stop  # the library cannot be interrupted
        lower, a = self._bounds(lo, hi, None if effort is None else effort.iterations, lines=True)
        group_lower = np.maximum.reduceat(lower, self.objectives.start[:-1], axis=1)
        centre, radius = (lo + hi) / 2, (hi - lo) / 2
        if a is None:  # intervals have no linear bounds: the longest edge, and the centre
            scores, guesses = radius.astype(np.float64), centre.astype(np.float64)
        else:
            weight = wanted[:, self.objectives.group_of_row]
            scores = (np.abs(a) * weight[:, :, None]).sum(1) * radius
            best = np.where(weight, lower, np.inf).argmin(axis=1)
            guesses = centre - np.sign(a[np.arange(len(a)), best]) * radius
        none = np.zeros(wanted.shape, dtype=bool)
        close = wanted & (group_lower > 0)
        return BoundResult(none, group_lower, close, scores, guesses, 0, None)

    def _wrap(self, torch: Any) -> Any:
        from bounds.methods.torch_graph import GraphModule

        module = GraphModule(self._graph, inputs=self._reads_inputs, special=self._special)
        # the library marks unstable elements of rectifiers behind batched products wrongly (a shape error)
        options = {"conv_mode": "matrix", "sparse_intermediate_bounds": not self._graph.products}
        with _translated(self._graph):
            return self._library.BoundedModule(
                module.eval(), torch.zeros(1, self._graph.input_size), bound_opts=options, device="cpu"
            )

    def _special(self, expression: Expr) -> Any:
        """GELU, which the library knows as one operator; it has none for erf alone."""
        if not any(part.fn is Fn.ERF for part in nodes(expression)):
            return None
        z = np.linspace(-6.0, 6.0, 101)
        gelu = 0.5 * z * (1 + evaluate_expression(Expr(Fn.ERF, (Expr(Fn.X),)), z / np.sqrt(2)))
        if not np.allclose(evaluate_expression(expression, z), gelu, rtol=1e-6, atol=1e-6):
            return None
        return importlib.import_module("auto_LiRPA.operators.gelu").GELU()

    def _bounds(self, lo: Array, hi: Array, iterations: int | None, *, lines: bool) -> Bounds:
        torch = self._torch
        low, high = (torch.tensor(v.astype(np.float32)) for v in (lo, hi))
        ball = self._library.PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high)
        x = self._library.BoundedTensor((low + high) / 2, ball)
        spec = self._rows[None].expand(len(lo), -1, -1)
        optimised = self.method == "CROWN-Optimized"
        steps = self.iterations if iterations is None else iterations
        self._module.set_bound_opts({"optimize_bound_args": {"iteration": max(steps, 1)}})
        lines = lines and self.method != "IBP"
        ends = self._module.output_name[0], self._module.input_name[0]
        extra: dict[str, Any] = {"return_A": True, "needed_A_dict": {ends[0]: {ends[1]}}} if lines else {}
        with _translated(self._graph), contextlib.nullcontext() if optimised else torch.no_grad():
            found = self._module.compute_bounds(
                x=(x,), C=spec, method=self.method, bound_upper=False, **extra
            )
        lower = found[0].detach().numpy().astype(np.float64) + self.objectives.d
        lower = np.where(np.isnan(lower), -np.inf, lower)  # the library has NaN where it knows nothing
        if not lines:
            return lower, None
        a = found[2][ends[0]][ends[1]]["lA"]
        return lower, a.detach().numpy().astype(np.float64).reshape(*lower.shape, -1)


def _load() -> tuple[Any, Any]:
    """The library and PyTorch."""
    if not available():
        raise BadInput(f"the engine auto-lirpa is not installed: {HOW_TO_INSTALL}")
    # recorded and dropped: deprecations in the library's imports, which change the filters as they go
    with warnings.catch_warnings(record=True):
        try:
            return importlib.import_module("auto_LiRPA"), importlib.import_module("torch")
        except (ImportError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"the engine auto-lirpa cannot be loaded ({reason}): {HOW_TO_INSTALL}") from None


@contextlib.contextmanager
def _translated(graph: Graph) -> Generator[None]:
    """Silences the library (it prints and logs) and turns what it lacks into one clear error."""
    logger = logging.getLogger("auto_LiRPA.utils")  # the one logger of the library
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()):
            yield
    except (NotImplementedError, RuntimeError, AssertionError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        place = graph.outputs[0].name
        functions = ", ".join(sorted({str(n.params["function"])[:40] for n in graph.scalars})) or "none"
        advice = (
            f"auto_LiRPA cannot bound it ({reason}; scalar functions: {functions}); use the built-in engine"
        )
        raise ModelUnsupported("network", place, advice) from error
    finally:
        logger.setLevel(level)
