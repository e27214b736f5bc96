"""Evidence: its arrays make sense, and every row of it is positive where it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.check.arithmetic import Arithmetic, float_above
from verifier.check.bounds import Bounder
from verifier.check.edges import Stated, among, read_stated
from verifier.check.network import Array, Kind, Network
from verifier.check.nonlinear import SLOPE_UNIT
from verifier.check.reader import Certificate, reject
from verifier.check.regions import Given, Sharp, limits_of
from verifier.check.state import Choices, Layout, Marks, Rows, State
from verifier.check.tree import Tree
from verifier.spec.model import Case, Row
from verifier.verdict import Semantics

_BLOCK_ELEMENTS = 1 << 20
_MOST_BOXES = 128
_VALIDATED = 1 << 16  # pieces of evidence at once


# ------------------------------------------------------------------ the arrays
def validate(arrays: Mapping[str, Array], cases: Sequence[Case], tree: Tree) -> None:
    """Ranges, order and cross-references of all arrays but the tree's; raises CertificateRejected."""
    node, boxes, box = arrays["ev_node"], arrays["box_node"], arrays["ev_box"]
    for name, nodes in (("ev_node", node), ("box_node", boxes)):
        if np.any(nodes[1:] < nodes[:-1]) or np.any(nodes < 0) or np.any(nodes >= tree.size):
            reject("evidence", f"{name} is not ascending, or names no node")
    if not np.array_equal(np.unique(box), np.arange(len(boxes))) or np.any(boxes[1:] == boxes[:-1]):
        reject("evidence", "ev_box names no box, or a box has no evidence or is listed twice")
    tops = dict.fromkeys(("ev_exact", "row_upper"), 1)
    tops |= dict.fromkeys(("ev_slopes", "ev_mixes", "box_mixes", "row_slopes", "row_mixes"), SLOPE_UNIT)
    if any(np.any(arrays[k] > top) for k, top in tops.items()):
        reject("evidence", f"one of {', '.join(tops)} is out of range")
    for k in range(0, len(node), _VALIDATED):
        part = slice(k, k + _VALIDATED)
        if not np.all(tree.within(node[part], boxes[box[part]])):
            reject("evidence", "the box of some evidence is not that of its node or of one above it")
        _validate_rows(arrays, cases, tree, part)
    _validate_sharp(arrays)
    _validate_multipliers(arrays)


def _validate_rows(arrays: Mapping[str, Array], cases: Sequence[Case], tree: Tree, part: slice) -> None:
    case = tree.case_of(arrays["ev_node"][part])
    if np.any(tree.empty[case]):
        reject("evidence", "evidence about an empty case")
    disjunct, row = (arrays[name][part].tolist() for name in ("ev_disjunct", "ev_row"))
    for c, d, r in zip(case.tolist(), disjunct, row, strict=True):
        if not 0 <= d < len(cases[c].disjuncts) or not 0 <= r < len(cases[c].disjuncts[d]):
            reject("evidence", f"case {c} has no row {r} in disjunct {d}")


def _validate_sharp(arrays: Mapping[str, Array]) -> None:
    """Rows of step 3 with choices of their own are about elements that step 3 bounds in that box."""
    box, operand = arrays["row_box"].astype(np.int64), arrays["row_operand"].astype(np.int64)
    counts = operands(arrays)
    if np.any(box[1:] < box[:-1]) or np.any(box < 0) or np.any(box >= len(arrays["box_node"])):
        reject("rows", "row_box is not ascending, or names no box")
    if np.any(operand < 0) or np.any(operand >= sum(counts)):
        reject("rows", "row_operand names no operand")
    number = (box * sum(counts) + operand) * 2 + arrays["row_upper"]
    if len(np.unique(number)) != len(number):
        reject("rows", "a bound of an operand has two rows")
    first = 0
    names = "box_refined", "box_refined_scalars", "box_refined_products"
    for name, count in zip(names, counts, strict=True):
        mine = (operand >= first) & (operand < first + count)
        bit = operand[mine] - first
        if not np.all(arrays[name][box[mine], bit // 8] >> (bit % 8).astype(np.uint8) & 1):
            reject("rows", f"an operand has a row, but {name} does not mark it")
        first += count


def _validate_multipliers(arrays: Mapping[str, Array]) -> None:
    ev, operand, beta = (arrays[name] for name in ("beta_ev", "beta_operand", "beta"))
    total = sum(operands(arrays))
    if np.any(ev[1:] < ev[:-1]) or np.any(ev < 0) or np.any(ev >= len(arrays["ev_node"])):
        reject("multipliers", "beta_ev is not ascending, or names no evidence")
    if np.any(operand < 0) or np.any(operand >= total):
        reject("multipliers", "beta_operand names no operand")
    if not np.all(np.isfinite(beta)):
        reject("multipliers", "a multiplier is no finite number")
    if len(np.unique(ev.astype(np.int64) * total + operand)) != len(ev):
        reject("multipliers", "an operand has two multipliers in one row")


def operands(arrays: Mapping[str, Array]) -> tuple[int, int, int]:
    """Numbers of rectified elements, of scalar ones, and of operands of products."""
    widths = [arrays[f"ev_{name}"].shape[1] for name in ("slopes", "lines", "mixes")]
    return widths[0], widths[1] // 2, widths[2]


# ------------------------------------------------------------------ proofs
def prove(
    network: Network,
    certificate: Certificate,
    cases: Sequence[Case],
    tree: Tree,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Re-proves all evidence (cases are linear); raises CertificateRejected where one does not hold."""
    arrays = certificate.arrays
    float32 = certificate.semantics is Semantics.FLOAT32
    ball = cases[0].ball if len(cases) == 1 else None
    order = np.argsort(arrays["ev_box"], kind="stable")  # what hangs on one box is proved with it
    exactly = arrays["ev_exact"][order] == 1
    step = _boxes_at_once(network, tree, forward=certificate.forward)
    stated = read_stated(Layout(network), arrays)
    for exact in (False, True):
        evidence = order[exactly == exact]
        of = arrays["ev_box"][evidence]
        boxes = np.unique(of)
        if not len(boxes):
            continue
        bounder = Bounder(network, Arithmetic(exact), float32=float32, forward=certificate.forward, ball=ball)
        for k in range(0, len(boxes), step):
            which = boxes[k : k + step]
            mine = evidence[slice(*np.searchsorted(of, [which[0], which[-1] + 1]))]
            with np.errstate(all="ignore"):
                Block(bounder, arrays, cases, tree, which, stated).prove(mine)
            if progress is not None:
                progress(min(k + step, len(boxes)), len(boxes))


def _boxes_at_once(network: Network, tree: Tree, *, forward: bool) -> int:
    free = int((tree.low < tree.high).sum(axis=1).max(initial=0)) if forward else 0
    total = sum(node.size for node in network.nodes) * (1 + free)
    return max(1, min(_MOST_BOXES, _BLOCK_ELEMENTS // max(1, total)))


class Block:
    """Some boxes of a certificate, bounded together."""

    def __init__(
        self,
        bounder: Bounder,
        arrays: Mapping[str, Array],
        cases: Sequence[Case],
        tree: Tree,
        which: Array,
        stated: Stated | None = None,
    ) -> None:
        self.bounder, self.arrays, self.cases, self.tree = bounder, arrays, cases, tree
        self.which, self.stated = which, stated
        nodes = arrays["box_node"][which]
        low, high, _ = self._boxes(nodes)
        choice, marks = _box_choices(bounder, arrays, which)
        limits = limits_of(bounder.layout, bounder.arithmetic, tree.splits(nodes))
        self.state: State = bounder.run(low, high, Given(choice, marks, limits, self._sharp()))

    def _boxes(self, nodes: Array) -> tuple[Array, Array, Array]:
        to = self.bounder.arithmetic
        low, high, case = self.tree.boxes(nodes)
        low, high = to.array(low), to.array(high)
        if to.exact:
            low, high = _exact_boxes(low, high, [self.cases[c] for c in case.tolist()])
        return low, high, case

    def _sharp(self) -> Sharp | None:
        """Rows of step 3 with choices of their own."""
        a = self.arrays
        mine = np.flatnonzero(np.isin(a["row_box"], self.which))
        if not mine.size:
            return None
        lines = Choices(a["row_slopes"][mine], a["row_lines"][mine], a["row_mixes"][mine])
        box = np.searchsorted(self.which, a["row_box"][mine])
        return Sharp(box, a["row_operand"][mine].astype(np.int64), a["row_upper"][mine], lines)

    def prove(self, evidence: Array) -> None:
        """Evidence about parts of the block's boxes."""
        for part in self.bounder.chunks(len(evidence)):
            rows, found, empty = self.bounds(evidence[part])
            strict = np.array([row.strict for row in rows], bool)
            proved = np.where(strict, found >= 0, found > 0).astype(bool) | empty  # a NaN is not proved
            if not proved.all():
                first = int(np.flatnonzero(~proved)[0])
                e = int(evidence[part][first])
                what = f"evidence {e} at node {self.arrays['ev_node'][e]}"
                reject("bound", f"{what}: {float(found[first])} is not positive")

    def bounds(self, evidence: Array) -> tuple[list[Row], Array, Array]:
        """The rows of some evidence, their lower bounds, and where the region has no points at all."""
        a, bounder, state = self.arrays, self.bounder, self.state
        node = a["ev_node"][evidence]
        box = np.searchsorted(self.which, a["ev_box"][evidence])
        low, high, case = self._boxes(node)
        splits = self.tree.splits(node, a["box_node"][a["ev_box"][evidence]])
        limits = limits_of(bounder.layout, bounder.arithmetic, splits)
        regions = bounder.regions(state, box, (low, high), limits)
        terms = self._terms(evidence)
        multipliers = regions.multipliers(bounder.arithmetic, bounder.layout, state, terms)
        multiplied = np.isin(np.arange(len(evidence)), terms[0])
        rows = list(self._rows(evidence, case))
        packed = property_rows(bounder, rows, box, state.mag)
        direct = np.where(multiplied, -np.inf, bounder.direct(state, packed, regions))
        lines = Choices(a["ev_slopes"][evidence], a["ev_lines"][evidence], a["ev_mixes"][evidence])
        edges = bounder.edges(state, box, self.stated and among(self.stated, evidence))
        found = bounder.minimum(state, packed, lines, regions, multipliers, edges)
        return rows, np.maximum(found, direct), regions.empty

    def _rows(self, evidence: Array, case: Array) -> Iterator[Row]:
        disjunct, row = (self.arrays[name][evidence].tolist() for name in ("ev_disjunct", "ev_row"))
        for c, d, r in zip(case.tolist(), disjunct, row, strict=True):
            yield self.cases[c].disjuncts[d][r]

    def _terms(self, evidence: Array) -> tuple[Array, Array, Array]:
        """Multipliers of some evidence: its position, the operand's number, the factor; all (G,)."""
        a = self.arrays
        start, stop = (np.searchsorted(a["beta_ev"], evidence, side=side) for side in ("left", "right"))
        count = stop - start
        row = np.repeat(np.arange(len(evidence)), count)
        mine = np.arange(len(row)) + np.repeat(start - (np.cumsum(count) - count), count)
        weight = self.bounder.arithmetic.array(a["beta"][mine])
        return row, a["beta_operand"][mine].astype(np.int64), weight


def _box_choices(bounder: Bounder, arrays: Mapping[str, Array], which: Array) -> tuple[Choices, Marks]:
    """The stored choices for some of the boxes, and what step 3 of the rule bounds there."""
    totals = bounder.layout.total
    neurons, scalars, products = totals[Kind.RELU], totals[Kind.SCALAR], 2 * totals[Kind.PRODUCT]

    def bits(name: str, count: int) -> Array:
        return np.unpackbits(arrays[name][which], axis=1, count=count, bitorder="little")

    slopes = bits("box_slopes", neurons) * np.uint8(SLOPE_UNIT)
    return (
        Choices(slopes, arrays["box_lines"][which], arrays["box_mixes"][which]),
        Marks(
            bits("box_refined", neurons),
            bits("box_refined_scalars", scalars),
            bits("box_refined_products", products),
        ),
    )


def _exact_boxes(low: Array, high: Array, cases: Sequence[Case]) -> tuple[Array, Array]:
    """Boxes cut down to their cases' exact ones; where that leaves nothing, the side stays (still sound)."""
    most = np.maximum(low, np.array([c.lower for c in cases], object).reshape(low.shape))
    least = np.minimum(high, np.array([c.upper for c in cases], object).reshape(high.shape))
    empty = (most > least).astype(bool)
    return np.where(empty, low, most), np.where(empty, high, least)


def property_rows(bounder: Bounder, rows: Sequence[Row], box: Array, mag: Sequence[Array]) -> Rows:
    """Rows of the property in the bounder's arithmetic; what rounding a coefficient changes is charged."""
    to, network = bounder.arithmetic, bounder.network
    ends = (network.output, 0)
    sizes = [network.nodes[i].size for i in ends]
    packed = [np.zeros((len(rows), n), to.dtype) for n in (*sizes, 1)]
    error = np.zeros(len(rows), to.dtype)
    members: dict[int, list[int]] = {}
    for r, row in enumerate(rows):
        members.setdefault(id(row), []).append(r)
    for same in members.values():
        row = rows[same[0]]
        if row.products:
            reject("bound", "a polynomial row reached the linear bounds")
        for k, coefficients in enumerate((row.outputs, row.inputs, {0: row.constant})):
            for i, c in coefficients.items():
                value, off = _rounded(to, c)
                packed[k][same, i] = value
                if off:
                    most = mag[ends[k]][box[same], i] if k < 2 else np.ones(len(same))
                    error[same] += (off * most + to.tiny) * (1 + 2 * to.u)
    parts = {network.output: packed[0], 0: packed[1]}
    if network.output == 0:
        parts = {0: packed[0] + packed[1]}
        error = error + to.gamma(0) * (np.abs(parts[0]) * mag[0][box]).sum(axis=1) + to.tiny
    return Rows(parts, packed[2][:, 0], error, np.asarray(box))


def _rounded(to: Arithmetic, exact: Fraction) -> tuple[Any, Any]:
    """A number of this arithmetic near ``exact``, and a bound on the difference."""
    if to.exact:
        return exact, 0
    try:
        value = float(exact)
    except OverflowError:
        reject("bound", "a coefficient of the property is beyond float64")
    return value, float_above(abs(Fraction(value) - exact))
