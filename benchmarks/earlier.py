"""How much an earlier proof saves after a small change of the weights: runs with ``--earlier`` and without.

Weights are multiplied by ``1 + share * noise``. Queries are the examples' provable ones; ``MODEL=PROPERTY``
adds others. CPU seconds, of one run each; the order of the two changes with every repetition.

    scripts/bench earlier --repeats 3
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from _common import ROOT, described, provenance, write
from onnx import numpy_helper

from verifier import Options, verify
from verifier.check.main import check
from verifier.verdict import Status

EXAMPLES = {
    "digits_cnn": "digits_cnn_hard",
    "digits_mlp": "digits_mlp_hard",
    "digits_residual": "digits_residual_hard",
}


def changed(model: Path, path: Path, share: float, seed: int) -> Path:
    """The network with weights that differ a little."""
    net, random = onnx.load(model), np.random.default_rng(seed)
    for tensor in net.graph.initializer:
        held = numpy_helper.to_array(tensor)
        if held.dtype == np.float32 and held.size > 1:
            noise = 1 + share * random.standard_normal(held.shape)
            tensor.CopyFrom(numpy_helper.from_array((held * noise).astype(np.float32), tensor.name))
    onnx.save(net, path)
    return path


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(model: Path, prop: Path, limit: float, **more: Any) -> dict[str, Any]:
    """One run."""
    start = _cpu()
    report = verify(model, prop, options=Options(timeout=limit), **more)
    return {"cpu": _cpu() - start, "verdict": report.status.value, "domains": report.stats.domains}


def row(query: tuple[Path, Path], share: float, settings: argparse.Namespace) -> dict[str, Any] | None:
    """One query and one share of noise, several times."""
    model, prop = query
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old.sbcert"), Path(folder, "new.sbcert")
        if timed(model, prop, settings.timeout, certificate=old)["verdict"] != Status.UNSAT.value:
            return None
        runs: dict[str, list[dict[str, Any]]] = {"anew": [], "earlier": []}
        for i in range(settings.repeats):
            other = changed(model, Path(folder, "tuned.onnx"), share, settings.seed + i)
            for kind in sorted(runs, reverse=bool(i % 2)):
                more = {"earlier": old} if kind == "earlier" else {}
                runs[kind].append(timed(other, prop, settings.timeout, certificate=new, **more))
                if runs[kind][-1]["verdict"] == Status.UNSAT.value:
                    check(new, {"": other}, prop)  # raises unless accepted
    ratios = [a["cpu"] / b["cpu"] for a, b in zip(runs["anew"], runs["earlier"], strict=True)]
    name = f"{model.stem} {prop.name.removesuffix('.vnnlib')[-24:]}"
    return {"query": name, "share": share, "ratio": statistics.median(ratios)} | runs


def table(rows: list[dict[str, Any]], record: dict[str, Any]) -> str:
    """For people."""
    lines = [
        "| query | weights changed by | verdicts | subproblems | with `--earlier` | CPU s | CPU s | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        a, b = r["anew"], r["earlier"]
        said = ", ".join(dict.fromkeys(x["verdict"] for x in a + b))
        middle = [
            f"{statistics.median(x[k] for x in part):.{d}f}"
            for k, d in (("domains", 0), ("cpu", 2))
            for part in (a, b)
        ]
        lines.append(
            f"| {r['query']} | {r['share']:.1%} | {said} | {' | '.join(middle)} | {r['ratio']:.2f} |"
        )
    return "\n".join(
        [*lines, "", "Medians; every proof's certificate was checked.", "", described(record), ""]
    )


def main() -> None:
    """Runs all and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("queries", nargs="*", help="MODEL=PROPERTY besides the examples")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.003, 0.01, 0.03])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    queries = [
        (ROOT / f"examples/models/{m}.onnx", ROOT / f"examples/properties/{p}.vnnlib")
        for m, p in EXAMPLES.items()
    ]
    queries += [(Path(a), Path(b)) for a, b in (q.split("=", 1) for q in settings.queries)]
    record = provenance(
        shares=settings.shares, repeats=settings.repeats, timeout=settings.timeout, seed=settings.seed
    )
    rows = [r for q in queries for s in settings.shares if (r := row(q, s, settings)) is not None]
    text = table(rows, record)
    write("earlier", record | {"rows": rows}, text)
    print(text)


if __name__ == "__main__":
    main()
