"""Root bounds with optimised relaxations against auto_LiRPA's alpha-CROWN, on ten small networks.

Both bound the nine class margins of each query of :mod:`networks` on the whole box, with the same number of
iterations, in one process, taking turns. auto_LiRPA runs its plain call ``compute_bounds(x, C=C,
method="CROWN-Optimized", bound_upper=False)`` with the library's defaults (Adam, rate 0.5, decay 0.98, keep
best; called so it optimises the intermediate bounds as well, with slopes of their own for every neuron), on
the PyTorch module itself, in unaccounted float32. surebound reads the ONNX file; its bounds are rigorous, in
float32 and in float64. The requirement is judged with the arithmetic given by ``--precision``.

*Tight* compares mean lower bounds without tolerance. Times are the best of the repeats, after a warm-up of
both; *with construction* adds building the bounded module, or reading the ONNX file and compiling it.

    ./scripts/bench alpha_crown [--iterations 20] [--threads 1 2] [--network relu_mlp ...]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import itertools
import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import described, provenance, write
from networks import RECIPES, Network, default_cache, network
from threadpoolctl import threadpool_limits
from torch import nn

from bounds.domain import Objectives
from bounds.io.onnx import load
from bounds.kernels.numpy import NumpyKernels
from bounds.methods.objective import bound_objectives, compile_objectives, optimise_slopes
from bounds.methods.rule import FORWARD_INPUTS, Rule, relax_boxes
from bounds.numerics import FLOAT32, FLOAT64, Precision
from bounds.plan import compile_plan

Array = np.ndarray[Any, np.dtype[Any]]
SAMPLES = 20_000


@dataclass(frozen=True)
class Timed:
    """Lower bounds ``9`` and seconds: of bounding, and with construction."""

    lower: list[float]
    seconds: float
    total: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.lower))


@dataclass(frozen=True)
class Row:
    """All results on one network with one number of threads; ``sampled`` are least margins seen."""

    network: str
    threads: int
    eps: float
    sampled: list[float]
    results: dict[str, Timed]
    precision: str

    @property
    def ours(self) -> Timed:
        return self.results[f"surebound alpha {self.precision}"]

    @property
    def theirs(self) -> Timed:
        return self.results["auto_LiRPA alpha"]

    @property
    def tight(self) -> bool:
        return self.ours.mean >= self.theirs.mean

    @property
    def violated(self) -> list[str]:
        """Engines whose bound lies above a margin that a sampled point has."""
        return [
            name for name, r in self.results.items() if np.any(np.array(r.lower) > np.array(self.sampled))
        ]

    def faster(self, precision: str) -> float:
        return self.theirs.seconds / self.results[f"surebound alpha {precision}"].seconds


def objectives(net: Network) -> Objectives:
    """The margins as nine groups of one row."""
    c = net.margins
    n = len(c)
    zeros = np.zeros((n, net.centre.size))

    def rational() -> tuple[Array, Array, Array]:
        raise NotImplementedError("this benchmark uses no exact arithmetic")

    return Objectives(c, zeros, np.zeros(n), np.zeros(n, bool), np.arange(n + 1), False, rational)


def surebound(net: Network, precision: Precision, iterations: int) -> tuple[Array, float, float]:
    """Our bounds; 0 iterations: plain CROWN."""
    start = time.perf_counter()
    plan = compile_plan(load(net.onnx).graph, NumpyKernels(precision))
    compiled = compile_objectives(plan, objectives(net))
    lo, hi = net.box
    built = time.perf_counter()
    tape = relax_boxes(plan, lo, hi, Rule(forward=plan.input_size <= FORWARD_INPUTS, sharpen=iterations))
    if iterations:
        picks = np.arange(compiled.source.rows)
        found = optimise_slopes(
            tape, compiled, np.zeros_like(picks), picks, iterations, keep_slopes=False
        ).lower
    else:
        found = bound_objectives(tape, compiled).lower[0]
    done = time.perf_counter()
    return np.asarray(found, dtype=np.float64), done - built, done - start


def for_library(module: nn.Module) -> nn.Module:
    """A copy in which GELU is the library's own operator (it has none for erf)."""
    from auto_LiRPA.operators.gelu import GELU

    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GELU):
                setattr(parent, name, GELU())
    return module


def auto_lirpa(net: Network, method: str, iterations: int) -> tuple[Array, float, float]:
    """The library's bounds."""
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    module, (lo, hi) = for_library(net.module), (torch.tensor(v, dtype=torch.float32) for v in net.box)
    options: dict[str, Any] = {"optimize_bound_args": {"iteration": max(iterations, 1)}}
    if net.name == "vit":
        options["sparse_intermediate_bounds"] = False  # with it the library stops with a shape error
    start = time.perf_counter()
    bounded = BoundedModule(module, torch.zeros_like(lo), bound_opts=options)
    x = BoundedTensor((lo + hi) / 2, PerturbationLpNorm(norm=np.inf, x_L=lo, x_U=hi))
    rows = torch.tensor(net.margins, dtype=torch.float32)[None]
    built = time.perf_counter()
    with contextlib.nullcontext() if iterations else torch.no_grad():
        lower = bounded.compute_bounds(x=(x,), C=rows, method=method, bound_upper=False)[0]
    done = time.perf_counter()
    return lower.detach().numpy()[0].astype(np.float64), done - built, done - start


def engines() -> dict[str, Callable[[Network, int], tuple[Array, float, float]]]:
    """Name -> a function of a network and an iteration count (the warm-up asks for fewer)."""
    return {
        "auto_LiRPA CROWN": lambda net, _: auto_lirpa(net, "CROWN", 0),
        "surebound CROWN": lambda net, _: surebound(net, FLOAT32, 0),
        "auto_LiRPA alpha": lambda net, n: auto_lirpa(net, "CROWN-Optimized", n),
        "surebound alpha float32": lambda net, n: surebound(net, FLOAT32, n),
        "surebound alpha float64": lambda net, n: surebound(net, FLOAT64, n),
    }


def sampled(net: Network, seed: int) -> list[float]:
    """Least margins over random points and corners of the box."""
    lo, hi = net.box
    rng = np.random.default_rng(seed)
    t = rng.random((SAMPLES, lo.shape[1]))
    t[SAMPLES // 2 :] = np.round(t[SAMPLES // 2 :])
    with torch.no_grad():
        y = copy.deepcopy(net.module).double()(torch.tensor(lo + t * (hi - lo)))
    return (y.numpy() @ net.margins.T).min(axis=0).tolist()


def measure(net: Network, threads: int, args: argparse.Namespace) -> Row:
    """All engines on one network, in turns."""
    torch.set_num_threads(threads)
    best: dict[str, Timed] = {}
    with threadpool_limits(threads), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for engine in engines().values():
            engine(net, 2)
        for _ in range(args.repeats):
            for name, engine in engines().items():
                lower, seconds, total = engine(net, args.iterations)
                held = best.get(name)
                if held is None or seconds < held.seconds:
                    best[name] = Timed(lower.tolist(), seconds, total)
    return Row(net.name, threads, net.eps, sampled(net, args.seed), best, args.precision)


COLUMNS = (
    "network", "threads", "sampled", "auto_LiRPA CROWN", "our CROWN", "auto_LiRPA alpha", "our alpha float32",
    "our alpha float64", "margins tight", "s auto_LiRPA", "s float32", "s float64", "faster float32",
    "faster float64", "with construction",
)  # fmt: skip


def table(rows: list[Row]) -> str:
    """Markdown: tightness and times, and the two requirements."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    for row in rows:
        wins = sum(a >= b for a, b in zip(row.ours.lower, row.theirs.lower, strict=True))
        cells = [row.network, str(row.threads), f"{np.mean(row.sampled):.3f}"]
        cells += [f"{row.results[name].mean:.4f}" for name in engines()]
        cells.append(f"{wins} of {len(row.ours.lower)}")
        timed = ("auto_LiRPA alpha", "surebound alpha float32", "surebound alpha float64")
        cells += [f"{row.results[name].seconds:.3f}" for name in timed]
        cells += [f"{row.faster(p):.1f}x" for p in ("float32", "float64")]
        cells.append(f"{row.theirs.total / row.ours.total:.1f}x")
        lines.append(f"| {' | '.join(cells)} |")
    text = "Bounds are means over nine margins; larger is tighter. "
    return "\n".join(lines) + f"\n\n{text}{summary(rows)}\n"


def summary(rows: list[Row]) -> str:
    """One sentence per number of threads."""
    parts = []
    for threads in dict.fromkeys(r.threads for r in rows):
        group = [r for r in rows if r.threads == threads]
        ratios = [r.faster(r.precision) for r in group]
        loose = ", ".join(r.network for r in group if not r.tight) or "none"
        tight = f"{sum(r.tight for r in group)} of {len(group)}"
        mean = float(np.exp(np.mean(np.log(ratios))))
        parts.append(
            f"{threads} thread(s), {group[0].precision}: at least as tight on {tight} (looser: {loose}); "
            f"faster by {min(ratios):.1f}x at least, {mean:.1f}x in the geometric mean."
        )
    return " ".join(parts)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="*", default=[r.name for r in RECIPES])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "float64"), default="float64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument(
        "--name", default="alpha_crown", help="results go to benchmarks/results/NAME.{json,md}"
    )
    return parser.parse_args(argv)


def save(rows: list[Row], args: argparse.Namespace) -> str:
    """Writes the results so far; returns the table."""
    chosen = ("iterations", "repeats", "seed", "precision")
    record = provenance(**{name: getattr(args, name) for name in chosen})
    record["versions"]["auto_LiRPA"] = metadata.version("auto_LiRPA")
    text = f"{table(rows)}\n{described(record)}, auto_LiRPA {record['versions']['auto_LiRPA']}\n"
    write(args.name, record | {"rows": [asdict(r) for r in rows]}, text)
    return text


def main() -> int:
    args = parse()
    logging.getLogger("auto_LiRPA.utils").setLevel(logging.CRITICAL)
    rows: list[Row] = []
    text = ""
    chosen = [r for r in RECIPES if r.name in args.network]
    for threads, recipe in itertools.product(args.threads, chosen):
        row = measure(network(recipe, args.cache), threads, args)
        rows.append(row)
        theirs, ours = (f"{r.mean:9.4f} in {r.seconds:7.3f} s" for r in (row.theirs, row.ours))
        note = f"  NOT BELOW SAMPLES: {', '.join(row.violated)}" if row.violated else ""
        print(f"{row.network:12} {threads} thread(s): auto_LiRPA {theirs}, ours {ours}{note}", flush=True)
        text = save(rows, args)
    print(f"\n{text}")
    return 1 if any("surebound" in name for r in rows for name in r.violated) else 0


if __name__ == "__main__":
    sys.exit(main())
