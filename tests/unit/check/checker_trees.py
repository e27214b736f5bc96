"""Version 3 certificates made at random: trees of splits and copies, shared boxes, multipliers, own rows.

Also what they say, checked without the checker: which sampled points belong to a node, by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import checker_nets as nets
import numpy as np

from verifier.check.network import Kind, Network
from verifier.spec.model import Property

Array = np.ndarray
N = nets.helper.make_node


def tangle(rng: np.random.Generator, style: str) -> bytes:
    """A tensor with many readers, one behind a reshape, one behind a movement; products; input readers.

    Functions are "smooth", "rational", or there are "none" besides rectifiers.
    """
    w = {
        "w": nets.dyadic(rng, 2, 4), "b": nets.dyadic(rng, 4), "v": nets.dyadic(rng, 14, 3, bits=2) / 2,
        "c": nets.dyadic(rng, 3), "o": nets.dyadic(rng, 9, 2), "e": nets.dyadic(rng, 2, 3),
        "square": np.int64([2, 2]), "flat": np.int64([1, 4]),
    }  # fmt: skip
    bend, other = {"smooth": ("Sigmoid", "Tanh"), "rational": ("Mul", "Abs"), "none": ("Relu", "Abs")}[style]
    nodes = [
        N("Gemm", ["x", "w", "b"], ["z"]),
        N("Relu", ["z"], ["r"]),
        N("Reshape", ["z", "square"], ["zz"]),
        N(bend, ["zz", "zz"] if bend == "Mul" else ["zz"], ["f"]),
        N("Reshape", ["f", "flat"], ["g"]),
        N("Mul", ["z", "g"], ["m"]),
        N("Transpose", ["zz"], ["zt"]),
        N("Reshape", ["zt", "flat"], ["zm"]),
        N("Relu", ["zm"], ["n"]),
        N("Relu", ["x"], ["p"]),
        N("Concat", ["r", "m", "n", "p"], ["all"], axis=1),
        N("Gemm", ["all", "v", "c"], ["h"]),
        N("Relu", ["h"], ["k"]),
        N(other, ["h"], ["l"]),
        N("MatMul", ["x", "e"], ["d"]),
        N("Mul", ["k", "d" if style == "none" else "l"], ["i"]),
        N("Concat", ["k", "l", "i"], ["last"], axis=1),
        N("MatMul", ["last", "o"], ["y"]),
    ]
    return nets.model(nodes, w, [1, 2])


@dataclass(frozen=True)
class Facts:
    """Points (points, inputs), and the values of all operands and of all rows there: (points, ...)."""

    x: Array
    operands: Array
    rows: Array


def operand_values(network: Network, values: list[Array]) -> Array:
    """(points, Q), numbered as in the format."""
    parts = [np.zeros((len(values[0]), 0))]
    for kind, k in ((Kind.RELU, 0), (Kind.SCALAR, 0), (Kind.PRODUCT, 0), (Kind.PRODUCT, 1)):
        parts += [values[network.nodes[i].operands[k]] for i in network.of(kind)]
    return np.concatenate(parts, axis=1)


def facts(plain: nets.Plain, prop: Property, x: Array, *, exact: bool = False) -> Facts:
    """All about some points; evaluated in their precision, or exactly."""
    if exact:
        columns = zip(*(plain.everything([Fraction(float(v)) for v in p]) for p in x), strict=True)
        values = [np.array(column, object) for column in columns]
    else:
        values = plain.rounded(x)
    kind = object if exact else np.float64
    rows = []
    for disjunct in prop.cases[0].disjuncts:
        for row in disjunct:
            total = np.full(len(x), row.constant if exact else float(row.constant), kind)
            for source, i in ((row.outputs, plain.network.output), (row.inputs, 0)):
                for j, c in source.items():
                    total = total + values[i][:, j].astype(kind) * (c if exact else float(c))
            rows.append(total)
    return Facts(values[0], operand_values(plain.network, values), np.array(rows, kind).T)


def members(arrays: dict[str, Any], known: Facts, slack: float = 0.0) -> Array:
    """(T, points): which points lie in a node's region, by at least ``slack``."""
    inputs, size = known.x.shape[1], len(arrays["node_dim"])
    inside = np.zeros((size, len(known.x)), bool)
    inside[0] = True
    for node in range(size):
        left, dim = int(arrays["node_left"][node]), int(arrays["node_dim"][node])
        if left == -1:
            continue
        below = above = np.ones(len(known.x), bool)
        if dim >= 0:
            z = known.x[:, dim] if dim < inputs else known.operands[:, dim - inputs]
            at = arrays["node_at"][node]
            at = Fraction(float(at)) if z.dtype == object else at
            below, above = (z <= at - slack).astype(bool), (z >= at + slack).astype(bool)
        inside[left], inside[left + 1] = inside[node] & below, inside[node] & above
    return inside


def settled(tree: dict[str, Any], claims: set[tuple[int, int]], node: int, disjunct: int) -> bool:
    """Whether claims (node, disjunct) refute a disjunct everywhere in a node, from the definition."""
    if (node, disjunct) in claims:
        return True
    left = int(tree["node_left"][node])
    if left == -1:
        return False
    parts = [settled(tree, claims, child, disjunct) for child in (left, left + 1)]
    return any(parts) if tree["node_dim"][node] == -2 else all(parts)


def still_proves(arrays: dict[str, Any], prop: Property, known: Facts, slack: float = 0.0) -> None:
    """A certificate (of one case) covers everything, and what it claims is true at all points known."""
    names = "ev_node", "ev_disjunct", "ev_row"
    claims = list(zip(*(arrays[name].tolist() for name in names), strict=True))
    disjuncts = prop.cases[0].disjuncts
    assert all(settled(arrays, {c[:2] for c in claims}, 0, d) for d in range(len(disjuncts)))
    inside = members(arrays, known, slack)
    for node, d, r in claims:
        values = known.rows[inside[node], sum(len(rows) for rows in disjuncts[:d]) + r]
        assert not np.any(values < 0 if disjuncts[d][r].strict else values <= 0)


def random_tree(rng: np.random.Generator, known: Facts, low: Array, high: Array, size: int) -> dict[str, Any]:
    """Splits at values that operands take, or near them; some copies, some splits of the input."""
    inputs, operands = known.x.shape[1], known.operands.shape[1]
    dim, at, left = [-1], [0.0], [-1]
    boxes = [(low, high)]
    while len(dim) < size:
        node = int(rng.choice([k for k, v in enumerate(left) if v == -1]))
        one, two = boxes[node], boxes[node]
        choice = rng.random()
        if choice < 0.1:
            dim[node] = -2
        elif choice < 0.3:
            j = int(rng.integers(inputs))
            dim[node], at[node] = j, float((one[0][j] + one[1][j]) / 2)
            one, two = (one[0].copy(), one[1].copy()), (two[0].copy(), two[1].copy())
            one[1][j] = two[0][j] = at[node]
        else:
            q = int(rng.integers(operands))
            value = float(known.operands[int(rng.integers(len(known.x))), q])
            spread = float(np.ptp(known.operands[:, q]))
            dim[node] = inputs + q
            at[node] = float(np.float32(value + spread * rng.choice([0, 0, 0.1, -0.1, -3, 3])))
        left[node] = len(dim)
        dim, at, left, boxes = [*dim, -1, -1], [*at, 0.0, 0.0], [*left, -1, -1], [*boxes, one, two]
    return {"node_dim": np.int32(dim), "node_at": np.array(at), "node_left": np.int32(left)}


def way(arrays: dict[str, Any], node: int) -> list[int]:
    """From the root to a node."""
    parent = {}
    for k, left in enumerate(arrays["node_left"].tolist()):
        if left != -1:
            parent[left] = parent[left + 1] = k
    path = [node]
    while path[0] in parent:
        path.insert(0, parent[path[0]])
    return path


def random_claims(
    rng: np.random.Generator, network: Network, tree: dict[str, Any], rows: int, *, own_rows: int = 6
) -> dict[str, Any]:
    """Evidence everywhere in a tree, about all rows of one disjunct, with random parameters of all kinds."""
    size = len(tree["node_dim"])
    paths = [way(tree, node) for node in range(size)]
    node = np.repeat(np.arange(size), rows)
    boxes = np.array([rng.choice(paths[v]) if rng.random() < 0.7 else v for v in node.tolist()])
    box_node = np.unique(boxes)
    lines, own = (
        nets.choices(network, rng, n, bits=b) for n, b in ((len(node), False), (len(box_node), True))
    )
    counts = [network.elements(kind) for kind in nets.KINDS.values()]
    total = counts[0] + counts[1] + 2 * counts[2]
    bits = (rng.random((len(box_node), total)) < 0.7).astype(np.uint8)
    marks = np.split(bits, [counts[0], counts[0] + counts[1]], axis=1)
    pairs = np.argwhere(rng.random((len(node), total)) < rng.choice([0, 0.03, 0.2], (len(node), 1)))
    where = np.argwhere(np.repeat(bits, 2, axis=1))  # box, 2 q + side
    where = where[np.sort(rng.permutation(len(where))[: own_rows * len(box_node)])]
    special = nets.choices(network, rng, len(where))
    packed = [np.packbits(m, axis=1, bitorder="little") for m in marks]
    return {
        **tree,
        "ev_node": node.astype(np.int32),
        "ev_box": np.searchsorted(box_node, boxes).astype(np.int32),
        "ev_disjunct": np.zeros(len(node), np.int32),
        "ev_row": np.tile(np.arange(rows), size).astype(np.int32),
        "ev_exact": np.zeros(len(node), np.uint8),
        "ev_slopes": lines.slopes, "ev_lines": lines.lines, "ev_mixes": lines.mixes,
        "box_node": box_node.astype(np.int32),
        "box_slopes": np.packbits(own.slopes // 128, axis=1, bitorder="little"),
        "box_lines": own.lines, "box_mixes": own.mixes,
        "box_refined": packed[0], "box_refined_scalars": packed[1], "box_refined_products": packed[2],
        "row_box": where[:, 0].astype(np.int32),
        "row_operand": (where[:, 1] // 2).astype(np.int32),
        "row_upper": (where[:, 1] % 2).astype(np.uint8),
        "row_slopes": special.slopes, "row_lines": special.lines, "row_mixes": special.mixes,
        "beta_ev": pairs[:, 0].astype(np.int32),
        "beta_operand": pairs[:, 1].astype(np.int32),
        "beta": rng.standard_normal(len(pairs)) * rng.choice([0, 0.1, 1, 3], len(pairs)),
    }  # fmt: skip


def thinned(rng: np.random.Generator, arrays: dict[str, Any], disjuncts: int) -> dict[str, Any]:
    """Some of the evidence: every disjunct is still refuted everywhere, but no more than that."""
    wanted: set[tuple[int, int]] = set()

    def settle(node: int, disjunct: int) -> None:
        left = int(arrays["node_left"][node])
        if left == -1 or rng.random() < 0.15:
            wanted.add((node, disjunct))
        elif arrays["node_dim"][node] == -2:
            settle(left + int(rng.integers(2)), disjunct)
        else:
            settle(left, disjunct)
            settle(left + 1, disjunct)

    for d in range(disjuncts):
        settle(0, d)
    pairs = zip(arrays["ev_node"].tolist(), arrays["ev_disjunct"].tolist(), strict=True)
    kept = np.array([pair in wanted for pair in pairs])
    made = {k: v[kept] if k.startswith("ev_") else v for k, v in arrays.items()}
    boxes = np.unique(made["ev_box"])
    made["ev_box"] = np.searchsorted(boxes, made["ev_box"]).astype(np.int32)
    rows, terms = np.isin(arrays["row_box"], boxes), kept[arrays["beta_ev"]]
    for k, v in arrays.items():
        if k.startswith("box_"):
            made[k] = v[boxes]
        elif k.startswith(("row_", "beta")):
            made[k] = v[rows if k.startswith("row_") else terms]
    made["row_box"] = np.searchsorted(boxes, made["row_box"]).astype(np.int32)
    made["beta_ev"] = (np.cumsum(kept) - 1)[made["beta_ev"]].astype(np.int32)
    return made
