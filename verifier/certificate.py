"""Writes certificates, version 1 (docs/reference/certificate.md). Reading is the checker's business."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bounds.graph import Array
from verifier.files import replacing
from verifier.problem import Problem
from verifier.search.trace import TreeTracer
from verifier.verdict import Semantics, Witness

VERSION = 1


def write_unsat(
    path: str | Path,
    problem: Problem,
    semantics: Semantics,
    tracer: TreeTracer,
    *,
    forward: bool,
    version: str,
) -> None:
    """Writes a proof tree.

    Args:
        path: file to write (atomically: a reader never sees half of it).
        problem, semantics: what was proved.
        tracer: the whole tree and its evidence.
        forward: whether the forward pass was part of the bounding rule.
        version: the producer's version.
    """
    neurons = sum(n.size for n in problem.graph.relus)
    header = _header(problem, semantics, "unsat", version) | {"forward": forward}
    arrays = _tree(len(problem.property.cases), tracer) | _evidence(tracer, neurons)
    _write(path, header, arrays)


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
        "relus": [{"tensor": n.tensor or n.source, "size": n.size} for n in problem.graph.relus],
        "producer": {"name": "surebound", "version": version},
        "root_precision": 64,
    }


def _text(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _tree(cases: int, tracer: TreeTracer) -> dict[str, Array]:
    total = cases + 2 * sum(len(ids) for ids, _, _, _ in tracer.splits)
    dim = np.full(total, -1, dtype=np.int32)
    at = np.zeros(total)
    left = np.full(total, -1, dtype=np.int32)
    for ids, dims, points, first in tracer.splits:
        dim[ids], at[ids] = dims, points
        left[ids] = first + 2 * np.arange(len(ids))
    return {"node_dim": dim, "node_at": at, "node_left": left}


def _evidence(tracer: TreeTracer, neurons: int) -> dict[str, Array]:
    width = (neurons + 7) // 8
    if not tracer.evidence:
        empty = np.zeros(0, dtype=np.int32)
        return {
            "ev_node": empty,
            "ev_disjunct": empty,
            "ev_row": empty,
            "ev_exact": np.zeros(0, dtype=np.uint8),
            "ev_slopes": np.zeros((0, neurons), dtype=np.uint8),
            "box_node": empty,
            "box_slopes": np.zeros((0, width), dtype=np.uint8),
            "box_refined": np.zeros((0, width), dtype=np.uint8),
        }
    node = np.concatenate([ids[e.box] for ids, e in tracer.evidence])
    order = np.argsort(node, kind="stable")
    box_node = np.concatenate([ids for ids, _ in tracer.evidence])
    box_slopes = np.concatenate([e.box_slopes for _, e in tracer.evidence])
    box_refined = np.concatenate([e.box_refined for _, e in tracer.evidence]).astype(np.uint8)
    box_order = np.argsort(box_node, kind="stable")
    pieces = {
        "ev_disjunct": np.concatenate([e.group for _, e in tracer.evidence]).astype(np.int32),
        "ev_row": np.concatenate([e.row for _, e in tracer.evidence]).astype(np.int32),
        "ev_exact": np.concatenate([e.exact for _, e in tracer.evidence]).astype(np.uint8),
        "ev_slopes": np.concatenate([e.slopes for _, e in tracer.evidence]).reshape(-1, neurons),
    }
    return {
        "ev_node": node[order].astype(np.int32),
        **{name: np.ascontiguousarray(a[order]) for name, a in pieces.items()},
        "box_node": box_node[box_order].astype(np.int32),
        "box_slopes": np.ascontiguousarray(box_slopes[box_order]).reshape(-1, width),
        "box_refined": np.ascontiguousarray(box_refined[box_order]).reshape(-1, width),
    }


def _write(path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    with (
        replacing(Path(path)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z,
    ):
        z.writestr("certificate.json", json.dumps(header, sort_keys=True, indent=1) + "\n")
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            z.writestr(f"arrays/{name}.npy", buffer.getvalue())
