"""Writes docs/explanation/comparison.md: features with a source for each cell, and the measured times.

The times come from ``benchmarks/results/vnncomp_peers_*.csv``, which ``scripts/bench vnncomp`` writes; the lists of
where others are better come from them and from the report on them. A test fails when the page is behind.

    ./scripts/bench comparison
"""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "explanation" / "comparison.md"
OURS = "surebound"
SURE = ("sat", "unsat")
# as the raw results spell them -> as the page does
NAMES = {
    "alpha-beta-crown": "alpha,beta-CROWN",
    "vibecheck-nn": "vibecheck-nn",
    "nnenum": "nnenum",
    "maraboupy": "Marabou",
}

# key -> what it is, and where
SOURCES = {
    "A": "alpha,beta-CROWN, code of the release of December 2025 (`8250d5f`, with auto_LiRPA `9d100ec`), read: "
    "<https://github.com/Verified-Intelligence/alpha-beta-CROWN>",
    "A-dep": "the same repository's instructions, and issues #8, #15, #37, #56 on installing it",
    "V": "vibecheck-nn 1.1.0, code of the wheel, read: <https://github.com/stanleybak/vibecheck-nn>",
    "E": "nnenum 1.0.1 (`b18238f`), code, read: <https://github.com/stanleybak/nnenum>",
    "N": "NeuralSAT, code, and `neuralsat` 0.2.17 on PyPI: <https://github.com/dynaroars/neuralsat>",
    "M": "Marabou 2.0: its documentation and `maraboupy` 2.0.0: "
    "<https://github.com/NeuralNetworkVerification/Marabou>; the tool paper, "
    "[arXiv 2401.14461](https://arxiv.org/abs/2401.14461)",
    "M-proof": "Isac et al., Neural network verification with proof production, "
    "[arXiv 2206.00512](https://arxiv.org/abs/2206.00512): Farkas vectors for the piecewise linear fragment",
    "N-proof": "APTP, proofs as activation pattern trees (NeurIPS 2025), in NeuralSAT's repository: ReLU splits, leaves "
    "re-proved by a MILP solver",
    "S-level": "[what a verdict means](soundness.md)",
    "S-check": "[the checker](checker.md)",
    "S-ops": "[operators](../reference/operators.md), [activations](../reference/activations.md)",
    "S-lip": "[Lipschitz bounds](lipschitz.md), [certified training](training.md)",
    "S-svc": "[verification as a service](../howto/service.md)",
    "S-cli": "[command line](../reference/cli.md)",
    "S-test": "[robustness as a unit test](../howto/pytest.md)",
    "S-conf": "[conformance](../reference/conformance.md)",
    "S-readme": "[README](../../README.md), Limits",
}

TOOLS = ("surebound", "alpha,beta-CROWN", "vibecheck-nn", "NeuralSAT", "nnenum", "Marabou")
# feature -> one (text, source) for each of TOOLS. "-" is "not offered or not found", by the same source
FEATURES: dict[str, tuple[tuple[str, str], ...]] = {
    "rounding of the tool is part of the proof": (
        ("yes", "S-level"), ("- (float64 option)", "A"), ("- (float64 recheck)", "V"), ("-", "N"), ("-", "E"), ("-", "M"),
    ),
    "rounding of the deployed network": (
        ("yes (`float32`)", "S-level"), ("-", "A"), ("-", "V"), ("-", "N"), ("-", "E"), ("-", "M"),
    ),
    "proofs that another program checks": (
        ("splits and functions of all kinds, fewer operators than the search, no solver", "S-check"), ("-", "A"), ("-", "V"),
        ("ReLU splits, with a MILP solver", "N-proof"), ("-", "E"), ("piecewise linear", "M-proof"),
    ),
    "VNN-LIB 1.0": (
        ("yes", "S-cli"), ("two levels of and/or", "A"), ("yes", "V"), ("yes", "N"), ("yes", "E"), ("partly", "M"),
    ),
    "VNN-LIB 2.0": (("yes", "S-conf"), ("-", "A"), ("yes, also nonlinear", "V"), ("2026", "N"), ("-", "E"), ("-", "M")),
    "several networks in one question": (
        ("yes", "S-conf"), ("-", "A"), ("pairs", "V"), ("-", "N"), ("-", "E"), ("-", "M"),
    ),
    "nonlinear functions": (
        ("any of one variable; products, softmax", "S-ops"),
        ("sigmoid, tanh, sine, GELU, products, softmax, powers", "A"),
        ("sigmoid, tanh, sine, products, softmax, powers", "V"), ("sigmoid, tanh", "N"), ("-", "E"),
        ("sigmoid, softmax, bilinear", "M"),
    ),
    "norms": (("1, 2, infinity", "S-cli"), ("1, 2, infinity", "A"), ("infinity", "V"), ("infinity", "N"),
              ("boxes", "E"), ("boxes, linear", "M")),
    "GPU": (("**- (`verify` uses the CPU only)**", "S-readme"), ("yes", "A"), ("yes", "V"), ("yes", "N"), ("-", "E"),
            ("-", "M")),
    "cutting planes, MIP": (
        ("**-**", "S-readme"), ("yes (with CPLEX, Gurobi)", "A"), ("yes (with Gurobi)", "V"), ("yes (with Gurobi)", "N"),
        ("LP (GLPK)", "E"), ("MILP (with Gurobi)", "M"),
    ),
    "Lipschitz constants, certified training": (
        ("yes, both", "S-lip"), ("training examples of auto_LiRPA", "A"), ("-", "V"), ("-", "N"), ("-", "E"), ("-", "M"),
    ),
    "service with queue and pages": (
        ("yes", "S-svc"), ("-", "A"), ("-", "V"), ("-", "N"), ("-", "E"), ("-", "M"),
    ),
    "in a test suite": (("pytest plugin", "S-test"), ("-", "A"), ("-", "V"), ("-", "N"), ("-", "E"), ("-", "M")),
    "installed by": (
        ("pip, no solver", "S-readme"), ("git and conda", "A-dep"), ("pip, Gurobi", "V"), ("pip, Gurobi", "N"),
        ("pip from git", "E"), ("pip", "M"),
    ),
    "licence": (("Apache-2.0", "S-readme"), ("BSD-3-Clause", "A"), ("GPL-3.0", "V"), ("MIT", "N"), ("GPL-3.0", "E"),
                ("BSD-like", "M")),
}  # fmt: skip

HEAD = """# Comparison with other tools

*Written by `./scripts/bench comparison`: times from `benchmarks/results`, features from the table in
`benchmarks/comparison.py`.*

All of the tools named here are good at something that the others are not. This page says what surebound does
differently, and where it is behind. "-" means not offered, or not found where the source says we looked; corrections
are welcome.

## Features
"""
HOW = """
## Measured times

Real instances of VNN-COMP on **one core, without a GPU**, all tools on the same machine, whole processes with their
start-up, one run each: [versions, conditions, exceptions and every row](../../benchmarks/results/vnncomp_peers.md). The
machine is not what alpha,beta-CROWN is made for: it wants a GPU, and about 5 s of each of its times are its start-up. What
counts in the competition is how many instances are decided in minutes, on a GPU: see [its results]({official}).

Instances that surebound decides in 20 s, a sample by seed spread over the families; medians over those that both decide:

| beside | instances | it decides | both | surebound, median s | it, median s | median ratio |
|---|---:|---:|---:|---:|---:|---:|
"""
_OFFICIAL = "https://github.com/VNN-COMP/vnncomp2025_results"
AGAIN = """
To measure again: `./scripts/bench vnncomp --root ROOT --instances LIST --peer 'NAME=COMMAND {onnx} {vnnlib} {timeout}'`
(exact command lines: [how](../../benchmarks/results/vnncomp_peers_how.md)), then `./scripts/bench comparison`.

## Where the others are better
"""
TAIL = """- **Hard image-sized networks.** With a GPU, alpha,beta-CROWN and others search many times more subproblems
  in the same time. surebound decides none of carvana_unet, cifar_biasfield and yolo here.
- **Cuts and MIP.** Instances that need them (oval21's hardest) are out of reach.
- **Maturity.** alpha,beta-CROWN has won the competition every year since 2021; its bounds have been read and attacked by
  many. surebound is young, and its certificates are the answer to that: check them.

## Where surebound is different

- What it says is proved with all rounding paid for, and it can prove statements about float32 evaluation. The others'
  `unsat` is nominal ([levels](soundness.md)).
- Its proofs can be checked without it, and without a solver.
- Start-up and small networks: a process that decides a question at the root takes half a second.
- One engine for every function of one variable, from the exact expression in the file.
- Around the engine: jobs, tests, training, robustness on data sets.
"""


@dataclass(frozen=True)
class Times:
    """One tool beside ours: wall seconds of both on each instance, None where undecided."""

    tool: str
    pairs: tuple[tuple[float | None, float | None], ...]
    families: tuple[str, ...]

    @property
    def both(self) -> list[tuple[float, float]]:
        """Of instances that both decide."""
        return [(a, b) for a, b in self.pairs if a is not None and b is not None]


def load(pattern: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows by tool and instance; those of a run named ``again`` replace the first ones."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for path in sorted(RESULTS.glob(pattern)):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[row["tool"], row["family"], row["onnx"], row["vnnlib"]] = row
    return found


def times(rows: dict[tuple[str, ...], dict[str, str]], tool: str) -> Times:
    """A tool beside ours, on the instances that both were run on."""
    instances = [key[1:] for key in rows if key[0] == tool and (OURS, *key[1:]) in rows]

    def seconds(name: str, instance: tuple[str, ...]) -> float | None:
        row = rows[name, *instance]
        return float(row["wall"]) if row["verdict"] in SURE else None

    pairs = tuple((seconds(OURS, i), seconds(tool, i)) for i in instances)
    return Times(tool, pairs, tuple(i[0] for i in instances))


def render() -> str:
    """The page."""
    beside, others = load("vnncomp_peers_beside*.csv"), load("vnncomp_peers_others*.csv")
    found = [times(beside, "alpha-beta-crown")]
    found += [times(others, tool) for tool in NAMES if any(key[0] == tool for key in others)]
    parts = [HEAD, *_features(), HOW.format(official=_OFFICIAL).rstrip("\n")]
    parts += [_row(one) for one in found]
    parts += [AGAIN.rstrip("\n"), "", *_fewer(), *(line for one in found for line in _slower(one)), TAIL]
    return "\n".join(parts)


def _features() -> Iterator[str]:
    numbers = {key: i for i, key in enumerate(SOURCES, start=1)}
    yield "| | " + " | ".join(TOOLS) + " |"
    yield "|---|" + "---|" * len(TOOLS)
    for feature, cells in FEATURES.items():
        texts = (f"{text} [{numbers[source]}](#sources)" for text, source in cells)
        yield f"| {feature} | " + " | ".join(texts) + " |"
    yield "\n### Sources\n"
    yield from (f"{numbers[key]}. {text}." for key, text in SOURCES.items())


def _row(one: Times) -> str:
    theirs = sum(b is not None for _, b in one.pairs)
    mine, other = (statistics.median(side) for side in zip(*one.both, strict=True))
    ratio = statistics.median(b / a for a, b in one.both)
    return (
        f"| {NAMES[one.tool]} | {len(one.pairs)} | {theirs} | {len(one.both)} | {mine:.2f} | {other:.2f} "
        f"| {ratio:.1f} |"
    )


def _fewer() -> Iterator[str]:
    """Families of which ours decides fewer, from the report."""
    text = (RESULTS / "vnncomp_peers.md").read_text(encoding="utf-8")
    section = text.partition("## Instances decided")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines()]
    fewer = [f"{r[0]} ({r[3]} against {r[6]})" for r in rows if r[-1] == "**no**"]
    if not re.search(r"^\| family ", section, re.MULTILINE) or not fewer:
        raise SystemExit(
            "vnncomp_peers.md has no table of instances decided; write it first (benchmarks/README.md)"
        )
    yield (
        f"- **Instances decided in up to 60 s on this core.** Fewer than alpha,beta-CROWN in {', '.join(fewer)}. "
        "(safenlp is all 20 since, by [hulls of rectifiers](../adr/0014-per-edge-slopes.md).)"
    )


def _slower(one: Times) -> Iterator[str]:
    """Families in which ours takes longer, by medians."""
    slower: list[str] = []
    for family in dict.fromkeys(one.families):
        both = [
            (a, b)
            for (a, b), name in zip(one.pairs, one.families, strict=True)
            if name == family and a is not None and b is not None
        ]
        if both:
            mine, other = (statistics.median(side) for side in zip(*both, strict=True))
            if mine > other:
                slower.append(f"{family} ({mine:.2f} s, {other:.2f} s)")
    if slower:
        yield f"- **Time: {NAMES[one.tool]}** is faster on {', '.join(slower)}."


def main() -> None:
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
