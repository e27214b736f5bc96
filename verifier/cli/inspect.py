"""``verify inspect``: what a network is made of, and whether it can be analysed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bounds.errors import LimitExceeded, ModelInvalid, ModelUnsupported
from verifier.cli.options import INPUT_FILE

if TYPE_CHECKING:
    from bounds.graph import Graph

_SHOWN = 8  # loosely bounded nodes listed without --json


@click.command("inspect")
@click.argument("model", type=INPUT_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: Path, as_json: bool) -> int:
    """Show the operators, shapes and neurons of MODEL, and what of it is not supported.

    It works on networks that are not supported too; a file that is no ONNX model is an error.
    """
    facts = gather(model)
    if as_json:
        from verifier.report.emit.json import dumps

        click.echo(dumps(facts), nl=False)
    else:
        click.echo("\n".join(_lines(facts)))
    return 0


def gather(path: Path) -> dict[str, Any]:
    """The facts about a file, as plain values in a fixed order."""
    from bounds.io.onnx import describe

    about = describe(path)
    missing = Counter(op for op, _ in about.unsupported)
    lowered, problem = _lower(path)
    return {
        "model": str(path),
        "opset": about.opset,
        "producer": about.producer,
        "inputs": [_port(*p) for p in about.inputs],
        "outputs": [_port(*p) for p in about.outputs],
        "parameters": about.parameters,
        "operators": [
            {"name": name, "count": count, "supported": name not in missing}
            for name, count in sorted(about.operators.items())
        ],
        "unsupported": [{"operator": op, "node": node} for op, node in about.unsupported],
        "supported": not problem,
        "problem": problem,
        **lowered,
    }


def _lower(path: Path) -> tuple[dict[str, Any], str]:
    """What the network is after import, or why it cannot be imported."""
    from bounds.io.onnx import load

    try:
        graph = load(path).graph
    except (ModelUnsupported, ModelInvalid, LimitExceeded) as error:
        return {"neurons": None, "primitives": None, "functions": None, "loose": None}, str(error)
    primitives = Counter(node.op.value for node in graph.nodes)
    functions: Counter[str] = Counter()
    for node in graph.scalars:
        functions[str(node.params["function"])] += node.size
    return {
        "neurons": sum(node.size for node in graph.relus),
        "primitives": dict(sorted(primitives.items())),
        "functions": dict(sorted(functions.items())),
        "loose": _loose(graph),
    }, ""


def _loose(graph: Graph) -> list[dict[str, str]]:
    """Nodes whose relaxation forgets something, and nodes that level ``float32`` cannot speak about."""
    from bounds.graph import UNMODELLED

    found: dict[str, str] = {}
    for node in graph.products:
        found[node.source] = "a product of two tensors is bounded as if they were independent"
    for node in graph.nodes:
        if node.roundings >= UNMODELLED:
            found[node.source] = (
                "its float32 rounding is not modelled: level float32 proves nothing through it"
            )
    return [{"node": name, "why": why} for name, why in found.items()]


def _port(name: str, shape: str, element: str) -> dict[str, str]:
    return {"name": name, "shape": shape, "element": element}


def _lines(facts: dict[str, Any]) -> list[str]:
    producer = f", written by {facts['producer']}" if facts["producer"] else ""
    lines = [f"{facts['model']}: opset {facts['opset']}{producer}"]
    for kind in ("inputs", "outputs"):
        lines += [f"{kind[:-1]:<11} {p['name']}  {p['shape']}  {p['element']}" for p in facts[kind]]
    lines.append(f"parameters  {facts['parameters']}")
    if facts["neurons"] is not None:
        lines.append(f"neurons     {facts['neurons']} (elements of Relu nodes after lowering)")
        lines += [f"function    {size} of {text}" for text, size in facts["functions"].items()]
        lines.append("primitives  " + ", ".join(f"{n} {op}" for op, n in facts["primitives"].items()))
    lines.append("operators")
    for row in facts["operators"]:
        lines.append(f"  {row['count']:>5}  {row['name']}" + ("" if row["supported"] else "  NOT SUPPORTED"))
    lines += [f"loose       {row['node']}: {row['why']}" for row in (facts["loose"] or [])[:_SHOWN]]
    if facts["loose"] and len(facts["loose"]) > _SHOWN:
        lines.append(f"loose       and {len(facts['loose']) - _SHOWN} more (see --json)")
    lines.append("supported   " + ("yes" if facts["supported"] else f"no: {facts['problem']}"))
    return lines
