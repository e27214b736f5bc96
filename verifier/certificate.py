"""Writes certificates, version 5 (docs/reference/certificate.md). Reading is the checker's business."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bounds.graph import Array, Graph, Node
from bounds.methods.edge_slopes import EdgeSlopes
from bounds.methods.parameters import Parameters
from verifier.files import replacing
from verifier.problem import Problem
from verifier.search.trace import BoxRecord, EvidenceRecord, MultiplierRecord, TreeTracer
from verifier.verdict import Semantics, Witness

VERSION = 5


def write_unsat(
    path: str | Path,
    problem: Problem,
    semantics: Semantics,
    tracer: TreeTracer,
    *,
    forward: bool,
    version: str,
    whole: Mapping[int, Array] | None = None,
) -> None:
    """Writes a proof tree.

    Args:
        path: file to write (atomically: a reader never sees half of it).
        problem, semantics: what was proved.
        tracer: the whole tree and its evidence.
        forward: whether the forward pass was part of the bounding rule.
        version: the producer's version.
        whole: case -> ``d`` bool, inputs that were searched as whole numbers; cases without any are left out.
    """
    header = _header(problem, semantics, "unsat", version) | {"forward": forward}
    arrays = _tree(len(problem.property.cases), tracer) | evidence_arrays(tracer, problem.graph)
    _write(path, header, arrays | whole_arrays(whole or {}))


def write_sat(
    path: str | Path, problem: Problem, semantics: Semantics, witness: Witness, *, version: str
) -> None:
    """Writes a witness."""
    header = _header(problem, semantics, "sat", version) | {
        "forward": False,
        "witness": {
            "x": [_text(v) for v in witness.x],
            "y": [_text(v) for v in witness.y],
            "case": witness.case,
            "disjunct": witness.disjunct,
            "kind": witness.kind,
            "versions": dict(witness.versions),
        },
    }
    _write(path, header, {})


def _header(problem: Problem, semantics: Semantics, verdict: str, version: str) -> dict[str, Any]:
    prop = problem.property
    return {
        "format": "surebound-certificate",
        "version": VERSION,
        "verdict": verdict,
        "semantics": semantics.value,
        "models": [{"name": name, "sha256": m.sha256} for name, m in problem.models.items()],
        "property": {"language": prop.language, "sha256": prop.sha256, "text": prop.text},
        "relus": _listed(problem.graph.relus),
        "scalars": _listed(problem.graph.scalars),
        "products": _listed(problem.graph.products),
        "producer": {"name": "surebound", "version": version},
        "root_precision": 64,
    }


def _listed(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    return [{"tensor": n.tensor or n.source, "size": n.size} for n in nodes]


def _text(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _tree(cases: int, tracer: TreeTracer) -> dict[str, Array]:
    total = cases + 2 * sum(len(ids) for ids, _, _, _ in tracer.splits)
    dim = np.full(total, -1, dtype=np.int32)
    at = np.zeros(total)
    left = np.full(total, -1, dtype=np.int32)
    for ids, dims, points, children in tracer.splits:
        dim[ids], at[ids], left[ids] = dims, points, children
    return {"node_dim": dim, "node_at": at, "node_left": left}


def whole_arrays(whole: Mapping[int, Array]) -> dict[str, Array]:
    """Pairs of cases and inputs that were searched as whole numbers."""
    pairs = [(c, j) for c, mask in sorted(whole.items()) for j in np.flatnonzero(mask).tolist()]
    names = enumerate(("whole_case", "whole_input"))
    return {name: np.array([p[i] for p in pairs], dtype=np.int32) for i, name in names}


def evidence_arrays(tracer: TreeTracer, graph: Graph, *, sizes: bool = False) -> dict[str, Array]:
    """Arrays about evidence and its boxes, sorted by node (docs/reference/certificate.md).

    ``sizes``: with the number of slopes of each line that has one for every edge, as ``edge_size``; whoever
    knows the network can do without.
    """
    neurons, scalars, products = (
        sum(n.size for n in nodes) for nodes in (graph.relus, graph.scalars, graph.products)
    )
    empty = EvidenceRecord(
        *(np.zeros(0, dtype=np.int64) for _ in range(3)),
        parameters=Parameters.none(0),
        exact=np.zeros(0, dtype=bool),
        boxes=BoxRecord(*(np.zeros(0, dtype=np.int64) for _ in range(7)), rows=None),
        box=np.zeros(0, dtype=np.int64),
        multipliers=MultiplierRecord.none(),
    )
    records = tracer.evidence or [empty]
    rows = {
        "ev_node": ([r.node for r in records], np.int32, ()),
        "ev_disjunct": ([r.group for r in records], np.int32, ()),
        "ev_row": ([r.row for r in records], np.int32, ()),
        "ev_exact": ([r.exact for r in records], np.uint8, ()),
        "ev_slopes": ([r.parameters.slopes for r in records], np.uint8, (neurons,)),
        "ev_lines": ([r.parameters.lines for r in records], np.float32, (2 * scalars,)),
        "ev_mixes": ([r.parameters.mixes for r in records], np.uint8, (2 * products,)),
    }
    boxes = {
        "box_node": ([r.boxes.node for r in records], np.int32, ()),
        "box_slopes": ([r.boxes.slopes for r in records], np.uint8, (_bytes(neurons),)),
        "box_lines": ([r.boxes.lines for r in records], np.float32, (2 * scalars,)),
        "box_mixes": ([r.boxes.mixes for r in records], np.uint8, (2 * products,)),
        "box_refined": ([r.boxes.refined for r in records], np.uint8, (_bytes(neurons),)),
        "box_refined_scalars": ([r.boxes.refined_scalars for r in records], np.uint8, (_bytes(scalars),)),
        "box_refined_products": (
            [r.boxes.refined_products for r in records],
            np.uint8,
            (_bytes(2 * products),),
        ),
    }
    arrays = _sorted(rows) | _sorted(boxes)
    order = np.argsort(np.concatenate([r.node for r in records]), kind="stable")
    box = np.concatenate([r.box for r in records])[order]
    arrays["ev_box"] = np.searchsorted(arrays["box_node"], box).astype(np.int32)
    widths = neurons, 2 * scalars, 2 * products
    edges = _edges(records, order)
    arrays |= _multipliers(records, order) | (edges if sizes else {n: edges[n] for n in _EDGES})
    return arrays | _rows(records, arrays["box_node"], widths)


_EDGES = ("edge_ev", "edge_neuron", "edge_slopes")


def _edges(records: Sequence[EvidenceRecord], order: Array) -> dict[str, Array]:
    """Lines with a slope for every edge by evidence, where evidence is sorted by ``order``."""
    starts = np.cumsum([0, *(len(r.node) for r in records)])
    held = EdgeSlopes.concat([r.edges for r in records], starts[:-1]).take(order)
    return {
        "edge_ev": held.row.astype(np.int32),
        "edge_neuron": held.neuron.astype(np.int32),
        "edge_slopes": held.slopes.astype(np.uint8),
        "edge_size": np.diff(held.start),
    }


def _multipliers(records: Sequence[EvidenceRecord], order: Array) -> dict[str, Array]:
    """Multipliers by evidence, where evidence is sorted by ``order``."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    starts = np.cumsum([0, *(len(r.node) for r in records)])
    held = [r.multipliers for r in records]
    evidence = place[
        np.concatenate([m.evidence + s for m, s in zip(held, starts, strict=False)]).astype(np.int64)
    ]
    by = np.argsort(evidence, kind="stable")
    return {
        "beta_ev": evidence[by].astype(np.int32),
        "beta_operand": np.concatenate([m.operand for m in held])[by].astype(np.int32),
        "beta": np.concatenate([m.beta for m in held])[by].astype(np.float64),
    }


def _rows(
    records: Sequence[EvidenceRecord], box_node: Array, widths: tuple[int, int, int]
) -> dict[str, Array]:
    """Rows of intermediate bounds with parameters of their own, by box."""
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    found = [(r.boxes.node[r.boxes.rows.box], r.boxes.rows) for r in records if r.boxes.rows is not None]
    node, operand, upper = (
        np.concatenate([start, *parts])
        for start, parts in zip(
            none,
            ([n for n, _ in found], [r.operand for _, r in found], [r.upper for _, r in found]),
            strict=True,
        )
    )
    order = np.lexsort((upper, operand, node))
    held = [r.parameters for _, r in found]
    parameters = {
        "row_slopes": ([p.slopes for p in held], np.uint8, widths[0]),
        "row_lines": ([p.lines for p in held], np.float32, widths[1]),
        "row_mixes": ([p.mixes for p in held], np.uint8, widths[2]),
    }
    return {
        "row_box": np.searchsorted(box_node, node[order]).astype(np.int32),
        "row_operand": operand[order].astype(np.int32),
        "row_upper": upper[order].astype(np.uint8),
    } | {
        name: np.concatenate([np.zeros((0, width), dtype), *parts])[order].astype(dtype)
        for name, (parts, dtype, width) in parameters.items()
    }


def _sorted(arrays: Mapping[str, tuple[list[Array], Any, tuple[int, ...]]]) -> dict[str, Array]:
    """Joins the parts of each array and sorts all by the first one (the node)."""
    joined = {
        name: np.concatenate([p.reshape(len(p), *width) for p in parts])
        for name, (parts, _, width) in arrays.items()
    }
    node = next(iter(joined.values()))
    order = np.argsort(node, kind="stable")
    return {
        name: np.ascontiguousarray(joined[name][order].astype(dtype))
        for name, (_, dtype, _) in arrays.items()
    }


def _bytes(bits: int) -> int:
    return (bits + 7) // 8


def _write(path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    with (
        replacing(Path(path)) as file,
        zipfile.ZipFile(file, "w") as z,
    ):
        z.writestr(_entry("certificate.json"), json.dumps(header, sort_keys=True, indent=1) + "\n")
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            # the archive's own level does not hold for entries that are made beforehand
            z.writestr(_entry(f"arrays/{name}.npy"), buffer.getvalue(), compresslevel=1)


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: equal proofs make equal files."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
