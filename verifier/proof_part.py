"""What a run adds to a proof tree, as arrays: splits, and evidence, so that another run can go on with both.

A checkpoint holds it (ADR 0010), and what workers prove of one search in shards is put together from it.
Nothing of it is believed: the certificate that is made from it is checked like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from bounds.errors import BadInput
from bounds.graph import Array, Graph
from bounds.methods.edge_slopes import EdgeSlopes
from bounds.methods.parameters import Parameters
from bounds.methods.row_choices import RowChoices
from verifier.certificate import evidence_arrays, whole_arrays
from verifier.search.trace import BoxRecord, EvidenceRecord, MultiplierRecord, TreeTracer

TORN = (
    "no certificate: parts of the search ran on machines that round differently, and their evidence does not "
    "fit together"
)
# name -> element type, axes; those of evidence are described in docs/reference/certificate.md
ARRAYS: Mapping[str, tuple[Any, int]] = {
    "split_node": (np.int64, 1), "split_dim": (np.int32, 1), "split_at": (np.float64, 1),
    "split_left": (np.int64, 1),
    "ev_node": (np.int32, 1), "ev_box": (np.int32, 1), "ev_disjunct": (np.int32, 1),
    "ev_row": (np.int32, 1), "ev_exact": (np.uint8, 1), "ev_slopes": (np.uint8, 2),
    "ev_lines": (np.float32, 2), "ev_mixes": (np.uint8, 2),
    "box_node": (np.int32, 1), "box_slopes": (np.uint8, 2), "box_lines": (np.float32, 2),
    "box_mixes": (np.uint8, 2), "box_refined": (np.uint8, 2), "box_refined_scalars": (np.uint8, 2),
    "box_refined_products": (np.uint8, 2),
    "row_box": (np.int32, 1), "row_operand": (np.int32, 1), "row_upper": (np.uint8, 1),
    "row_slopes": (np.uint8, 2), "row_lines": (np.float32, 2), "row_mixes": (np.uint8, 2),
    "beta_ev": (np.int32, 1), "beta_operand": (np.int32, 1), "beta": (np.float64, 1),
    "edge_ev": (np.int32, 1), "edge_neuron": (np.int32, 1), "edge_slopes": (np.uint8, 1),
    "edge_size": (np.int64, 1),
    "whole_case": (np.int32, 1), "whole_input": (np.int32, 1),
}  # fmt: skip
# arrays of one length
_ALIKE = (
    ("split_node", "split_dim", "split_at", "split_left"),
    ("ev_node", "ev_box", "ev_disjunct", "ev_row", "ev_exact", "ev_slopes", "ev_lines", "ev_mixes"),
    ("box_node", *(f"box_{n}" for n in ("slopes", "lines", "mixes")),
     *(f"box_refined{n}" for n in ("", "_scalars", "_products"))),
    ("row_box", "row_operand", "row_upper", "row_slopes", "row_lines", "row_mixes"),
    ("beta_ev", "beta_operand", "beta"),
    ("edge_ev", "edge_neuron", "edge_size"),
    ("whole_case", "whole_input"),
)  # fmt: skip
# an index -> the array that it is a place in
_PLACES = {"ev_box": "box_node", "row_box": "box_node", "beta_ev": "ev_node", "edge_ev": "ev_node"}


@dataclass(frozen=True, slots=True, eq=False)
class ProofPart:
    """The part of a proof tree that one run, or one run after another, made.

    Attributes:
        first: nodes that there were before; those that it made have ids from here on.
        forward: whether the forward pass was part of the bounding rule.
        arrays: see :data:`ARRAYS`.
    """

    first: int
    forward: bool
    arrays: Mapping[str, Array]

    @staticmethod
    def nothing(roots: int) -> ProofPart:
        """The part of a run that is to begin."""
        arrays = {name: np.zeros((0,) * axes, dtype=kind) for name, (kind, axes) in ARRAYS.items()}
        return ProofPart(roots, False, arrays)

    @staticmethod
    def of(
        tracer: TreeTracer, graph: Graph, whole: Mapping[int, Array], first: int, *, forward: bool
    ) -> ProofPart:
        """What a tracer kept.

        Args:
            tracer, graph: of the run.
            whole: case -> ``d`` bool, inputs that were searched as whole numbers.
            first, forward: see the class.
        """
        none = np.zeros(0, dtype=np.int64)
        held = [(none, none, none, none), *tracer.splits]
        names = _ALIKE[0]
        arrays = {
            name: np.concatenate([s[i] for s in held]).astype(ARRAYS[name][0]) for i, name in enumerate(names)
        }
        arrays |= evidence_arrays(tracer, graph, sizes=True) | whole_arrays(whole)
        return ProofPart(first, forward, arrays)

    def check(self, graph: Graph) -> None:
        """Refuses evidence that is of another network's size.

        Raises:
            BadInput: it is.
        """
        neurons, scalars, products = (
            sum(n.size for n in nodes) for nodes in (graph.relus, graph.scalars, graph.products)
        )
        wide = {"slopes": neurons, "lines": 2 * scalars, "mixes": 2 * products}
        for prefix, (name, width) in product(("ev", "row"), wide.items()):
            if self.arrays[f"{prefix}_{name}"].shape[1] != width:
                raise BadInput("the checkpoint's evidence does not fit the network; run again without it")

    def whole(self) -> dict[int, Array]:
        """Case -> inputs that were searched as whole numbers, as bool up to the last of them."""
        case, element = self.arrays["whole_case"], self.arrays["whole_input"]
        return {
            c: np.isin(np.arange(element[case == c].max() + 1), element[case == c])
            for c in np.unique(case).tolist()
        }

    def tracer(self) -> TreeTracer:
        """A tracer that has kept this, to go on with."""
        tracer = TreeTracer()
        tracer.add(*self.records(0))
        return tracer

    def records(self, shift: int) -> tuple[tuple[Array, Array, Array, Array], EvidenceRecord]:
        """Splits and evidence, where the ids of the nodes that it made are ``shift`` larger."""
        a = {name: v.astype(np.int64) if np.dtype(ARRAYS[name][0]).kind == "i" else v
             for name, v in self.arrays.items()}  # fmt: skip

        def moved(ids: Array) -> Array:
            return np.where(ids >= self.first, ids + shift, ids)

        splits = moved(a["split_node"]), a["split_dim"], a["split_at"], moved(a["split_left"])
        rows = RowChoices(a["row_box"], a["row_operand"], a["row_upper"], _parameters(a, "row"))
        box = moved(a["box_node"])
        refined = (a[f"box_refined{n}"] for n in ("", "_scalars", "_products"))
        boxes = BoxRecord(box, a["box_slopes"], a["box_lines"], a["box_mixes"], *refined, rows=rows)
        start = np.append(0, np.cumsum(a["edge_size"]))
        return splits, EvidenceRecord(
            moved(a["ev_node"]),
            a["ev_disjunct"],
            a["ev_row"],
            _parameters(a, "ev"),
            a["ev_exact"] > 0,
            boxes,
            box[a["ev_box"]],
            MultiplierRecord(a["beta_ev"], a["beta_operand"], a["beta"]),
            EdgeSlopes(a["edge_ev"], a["edge_neuron"], start, a["edge_slopes"]),
        )


def _parameters(arrays: Mapping[str, Array], prefix: str) -> Parameters:
    return Parameters(*(arrays[f"{prefix}_{name}"] for name in ("slopes", "lines", "mixes")))


def continued(part: ProofPart, nodes: int) -> ProofPart:
    """An empty part of the same rule, for a run that adds to a tree of ``nodes`` nodes."""
    return replace(part, first=nodes, arrays={name: a[:0] for name, a in part.arrays.items()})


def joined(base: ProofPart, nodes: int, parts: Sequence[tuple[ProofPart, int]]) -> TreeTracer | None:
    """The whole tree: a part, and those that runs beside each other added below its open nodes.

    Args:
        base: what all of them began from; nodes: that there were then.
        parts: each with the number of nodes at its end; all began with ``nodes`` nodes, and numbered theirs
            from there on.

    Returns:
        None where they do not fit together: another rule, or other intermediate bounds of one box.
    """
    tracer = base.tracer()
    shift = 0
    for part, end in parts:
        if part.first != nodes or part.forward != base.forward:
            return None
        tracer.add(*part.records(shift))
        shift += end - nodes
    return None if tracer.torn else tracer


def contradiction(part: ProofPart, nodes: int) -> str:
    """What is impossible about a part of a tree of ``nodes`` nodes, or ""."""
    a = part.arrays
    if set(a) != set(ARRAYS) or any((v.dtype, v.ndim) != (np.dtype(t), n) for v, (t, n) in _pairs(a)):
        return "an array of the proof is missing, or of another type"
    for names in _ALIKE:
        if len({len(a[name]) for name in names}) != 1:
            return f"arrays of the proof differ in length: {', '.join(names)}"
    limits = {name: len(a[of]) for name, of in _PLACES.items()}
    limits |= dict.fromkeys(("split_node", "split_left", "ev_node", "box_node"), nodes)
    rules = (
        (0 <= part.first <= nodes, "nodes of the proof"),
        (all(bool(((a[n] >= 0) & (a[n] < top)).all()) for n, top in limits.items()), "a place in the proof"),
        (bool((a["edge_size"] >= 0).all()), "sizes of edges"),
        (int(a["edge_size"].sum()) == len(a["edge_slopes"]), "slopes of edges"),
        (bool((np.diff(a["edge_ev"]) >= 0).all()), "the order of edges"),
        (bool((a["whole_case"] >= 0).all() and (a["whole_input"] >= 0).all()), "whole numbers"),
    )
    return next((f"{words} are impossible" for holds, words in rules if not holds), "")


def _pairs(arrays: Mapping[str, Array]) -> list[tuple[Array, tuple[Any, int]]]:
    return [(arrays[name], kind) for name, kind in ARRAYS.items()]
