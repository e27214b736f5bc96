"""Whole certificates of version 3: what is refused, what mutations can and cannot do, shared boxes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import checker_nets as nets
import checker_trees as trees
import numpy as np
import pytest
from test_check_regions import ROWS, bounded, made

from bounds.errors import CertificateInvalid, CertificateRejected
from verifier.check.arithmetic import Arithmetic
from verifier.check.bounds import Bounder
from verifier.check.forms import Forms
from verifier.check.importer import combine
from verifier.check.main import check_parsed
from verifier.check.reader import read
from verifier.check.tree import Tree
from verifier.spec.model import Property

Array = np.ndarray
COPIES = 5  # a seed whose tree has some
REFUSED = (CertificateInvalid, CertificateRejected)


def provable(seed: int, style: str = "smooth", *, margin: float = 1e-3) -> Any:
    """A model, a certificate that just proves a property with three disjuncts, and points to judge it by."""
    rng = np.random.default_rng(seed)
    data = trees.tangle(rng, style)
    network, plain, prop, arrays, x = made(seed, style, points=80)
    arrays["ev_disjunct"], arrays["ev_row"] = arrays["ev_row"], arrays["ev_row"] * 0
    arrays = trees.thinned(rng, arrays, len(ROWS))
    case = prop.cases[0]
    separate = [nets.make_property(2, 2, [nets.box_case(case.lower, case.upper, *([row] for row in ROWS))])]
    found, empty = bounded(network, separate[0], arrays)
    disjuncts = []
    for d, row in enumerate(ROWS):
        least = found[(arrays["ev_disjunct"] == d) & ~empty].min(initial=0)
        shift = Fraction(float(margin - least))
        disjuncts.append([nets.row(row.outputs, row.constant + shift, row.inputs)])
    prop = nets.make_property(2, 2, [nets.box_case(case.lower, case.upper, *disjuncts)])
    return data, network, plain, prop, arrays, x


def verdict(path: Path, data: bytes, prop: Property, arrays: Any, **changes: Any) -> str:
    network = combine({"": data}, prop)
    document = nets.document(data, prop, network, **changes)
    certificate = read(nets.write(path / "c", document, arrays))
    return check_parsed(certificate, {"": data}, prop).verdict


@pytest.mark.parametrize("style", ["smooth", "rational", "none"])
def test_certificates_with_everything_in_them_are_accepted(style: str, tmp_path: Path) -> None:
    for seed in range(5):
        data, _, _, prop, arrays, _ = provable(seed, style)
        assert verdict(tmp_path, data, prop, arrays) == "unsat"
        if style == "none" and seed < 2:  # where the exact rule is never the looser one
            arrays["ev_exact"][::3] = 1
            assert verdict(tmp_path, data, prop, arrays) == "unsat"


# ------------------------------------------------------------------ coverage
def test_coverage_by_recursion(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    _, plain, prop, _, x = made(0)
    known = trees.facts(plain, prop, x)
    case = nets.box_case([0, 0], [1, 1], *([row] for row in ROWS))
    outcomes: list[bool] = []
    for k in range(300):
        monkeypatch.setattr("verifier.check.tree._SETTLED", 1 if k % 2 else 1 << 20)
        tree = trees.random_tree(rng, known, np.zeros(2), np.ones(2), int(rng.integers(1, 12)))
        size = len(tree["node_dim"])
        inner = np.flatnonzero(tree["node_left"] != -1)
        tree["node_dim"][inner] = rng.choice([-2, 5, 6], len(inner))
        tree["node_at"][inner] = np.where(tree["node_dim"][inner] == -2, 0, tree["node_at"][inner])
        every = [(n, d) for n in range(size) for d in range(3)]
        claims = sorted(c for c in every if rng.random() < 0.75)
        node, disjunct = (np.array([c[i] for c in claims], np.int32) for i in range(2))
        wanted = all(trees.settled(tree, set(claims), 0, d) for d in range(3))
        outcomes.append(wanted)
        try:
            Tree(tree, [case], 31).check_settled([case], node, disjunct)
            accepted = True
        except CertificateRejected as error:
            assert error.step == "coverage"
            accepted = False
        assert accepted == wanted
    assert 30 < sum(outcomes) < 270


# ------------------------------------------------------------------ what is refused
def changes_of(arrays: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(array, place, value) for single wrong numbers."""
    inner = np.flatnonzero(arrays["node_left"] != -1)
    copied = [int(n) for n in inner if arrays["node_dim"][n] == -2]
    split = [int(n) for n in inner if arrays["node_dim"][n] >= 2]
    last = len(arrays["ev_node"]) - 1
    wrong: list[tuple[str, Any, Any]] = [("node_at", n, v) for n in split for v in (np.nan, np.inf, -np.inf)]
    wrong += [("node_dim", int(n), v) for n in inner for v in (-1, -3, 2 + 31, 10**6)]
    wrong += [("node_at", n, v) for n in copied for v in (1.0, -1e-300, np.nan)]
    wrong += [("node_dim", int(n), -2) for n in np.flatnonzero(arrays["node_left"] == -1)]
    wrong += [("ev_box", 0, v) for v in (-1, len(arrays["box_node"]), 10**6)]
    wrong += [("box_node", k, v) for k in (0, -1) for v in (-1, 10**6)] + [("box_node", 1, 0)]
    wrong += [("beta", 0, v) for v in (np.nan, np.inf, -np.inf)]
    wrong += [("beta_ev", 0, -1), ("beta_ev", -1, last + 1), ("beta_ev", 0, last)]
    wrong += [("beta_operand", 0, v) for v in (-1, 31, 10**6)]
    wrong += [("beta_operand", 1, int(arrays["beta_operand"][0])), ("row_upper", 0, 2)]
    wrong += [("row_box", 0, -1), ("row_box", -1, 10**6), ("row_box", 0, len(arrays["box_node"]) - 1)]
    wrong += [("row_operand", 0, v) for v in (-1, 31)]
    wrong += [("row_lines", (0, 0), v) for v in (np.nan, np.inf)]
    wrong += [("row_slopes", (0, 0), 129), ("row_mixes", (0, 0), 200)]
    return wrong


def test_wrong_numbers_are_refused(tmp_path: Path) -> None:
    data, network, _, prop, arrays, _ = provable(COPIES)
    assert [network.elements(kind) for kind in nets.KINDS.values()] == [13, 10, 4]  # 31 operands
    first = arrays["beta_ev"][:2]
    assert first[0] == first[1] and np.any(arrays["node_dim"] == -2)
    arrays["beta"][:] += 0.5  # no zeros
    loose = nets.make_property(
        2, 2, [nets.box_case(prop.cases[0].lower, prop.cases[0].upper, *([nets.row({0: 1}, 10**6)],) * 3)]
    )
    assert verdict(tmp_path, data, loose, arrays) == "unsat"  # so whatever is refused is refused for its form
    for name, place, value in changes_of(arrays):
        altered = {k: v.copy() for k, v in arrays.items()}
        altered[name][place] = value
        with pytest.raises(REFUSED):
            verdict(tmp_path, data, loose, altered)
            pytest.fail(f"{name}[{place}] = {value} was accepted")


def test_references_between_arrays_are_checked(tmp_path: Path) -> None:
    data, _, _, prop, arrays, _ = provable(COPIES)
    case = prop.cases[0]
    loose = nets.make_property(
        2, 2, [nets.box_case(case.lower, case.upper, *([nets.row({0: 1}, 10**6)],) * 3)]
    )
    wrong: list[dict[str, Any]] = []
    for name in arrays:  # wrong lengths
        wrong += [{**arrays, name: v} for v in (arrays[name][:-1], np.concatenate([arrays[name][:1]] * 2))]
    wrong += [{k: v for k, v in arrays.items() if k != name} for name in arrays]
    wrong += [{**arrays, "more": np.zeros(1)}]
    for dtype in (np.float32, np.int64, ">f8"):
        wrong.append({**arrays, "beta": arrays["beta"].astype(dtype)})
    # evidence that uses the box of another branch, of a child, or of nothing
    box = arrays["box_node"][arrays["ev_box"]]
    for e in range(0, len(box), 3):
        path = trees.way(arrays, int(arrays["ev_node"][e]))
        for b, node in enumerate(arrays["box_node"].tolist()):
            if node not in path:
                foreign = arrays["ev_box"].copy()
                foreign[e] = b
                wrong.append({**arrays, "ev_box": foreign})
    # a box that nothing uses
    unused = {k: np.concatenate([v, v[-1:]]) for k, v in arrays.items() if k.startswith("box_")}
    unused["box_node"][-1] += 1
    wrong.append({**arrays, **unused})
    # a row of step 3 about an operand that is not marked
    wrong.append({**arrays, **{k: v * 0 for k, v in arrays.items() if k.startswith("box_refined")}})
    # the same bound twice
    twice = {k: np.concatenate([v[:1], v]) for k, v in arrays.items() if k.startswith("row_")}
    wrong.append({**arrays, **twice})
    for k, altered in enumerate(wrong):
        with pytest.raises(REFUSED):
            verdict(tmp_path, data, loose, altered)
            pytest.fail(f"change {k} was accepted")


def test_older_versions(tmp_path: Path) -> None:
    """Version 2 is read as what it says; a file of one version with the arrays of another is not."""
    data = nets.dense(np.random.default_rng(1), (2, 4, 3, 2))
    prop = nets.refutable(data, 2, np.random.default_rng(2))
    newer = nets.Prover(data, prop).prove()
    assert newer is not None
    fresh = {"ev_box", *(name for name in newer if name.startswith(("row_", "beta")))}
    older = {name: v for name, v in newer.items() if name not in fresh}
    for version, ours in ((2, older), (3, newer)):
        assert verdict(tmp_path, data, prop, ours, version=version) == "unsat"
        for other in {1, 2, 3, 4, 5} - {version}:
            with pytest.raises(CertificateInvalid):
                verdict(tmp_path, data, prop, ours, version=other)
    rng, outcomes = np.random.default_rng(0), set[bool]()
    for _ in range(60):
        slopes = mutated({"s": newer["ev_slopes"]}, rng)["s"]
        results: list[bool] = []
        for version, ours in ((2, older), (3, newer)):
            try:
                verdict(tmp_path, data, prop, {**ours, "ev_slopes": slopes}, version=version)
                results.append(True)
            except REFUSED:
                results.append(False)
        assert results[0] == results[1]
        outcomes.add(results[0])
    assert outcomes == {True, False}


# ------------------------------------------------------------------ mutations
def mutated(arrays: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One random change of one number, or of one bit."""
    altered = {k: v.copy() for k, v in arrays.items()}
    filled = [name for name in arrays if arrays[name].size]
    name = filled[int(rng.integers(len(filled)))]
    flat = altered[name].reshape(-1)
    k = int(rng.integers(flat.size))
    if rng.random() < 0.2:  # any bit: infinities, NaN, huge numbers
        flat.view(np.uint8)[int(rng.integers(flat.nbytes))] ^= np.uint8(1 << int(rng.integers(8)))
    elif flat.dtype.kind == "f":
        flat[k] += float(rng.standard_normal()) * 10.0 ** float(rng.integers(-8, 3))
    elif flat.dtype == np.uint8:
        flat[k] = rng.integers(0, 256)
    else:
        flat[k] += int(rng.integers(-3, 4))
    return altered


@pytest.mark.parametrize("style", ["smooth", "rational"])
def test_mutations_are_rejected_or_still_proofs(style: str, tmp_path: Path) -> None:
    rng, accepted, refused = np.random.default_rng(5), 0, 0
    for seed in range(6):
        data, _, plain, prop, arrays, x = provable(seed, style)
        known = trees.facts(plain, prop, x)
        trees.still_proves(arrays, prop, known, 1e-9)
        for _ in range(40):
            altered = mutated(mutated(arrays, rng), rng)
            try:
                verdict(tmp_path, data, prop, altered, forward=False)
            except REFUSED:
                refused += 1
                continue
            accepted += 1
            trees.still_proves(altered, prop, known, 1e-9)
    assert accepted > 20 and refused > 60


def test_false_properties_are_never_proved(tmp_path: Path) -> None:
    """Evidence everywhere, for a property that a known point violates, however it is altered."""
    rng = np.random.default_rng(6)
    for seed in range(6):
        data, _, plain, prop, arrays, x = provable(seed)
        known, case = trees.facts(plain, prop, x), prop.cases[0]
        rows = [disjunct[0] for disjunct in case.disjuncts]
        least = [Fraction(float(known.rows[:, d].min())) + Fraction(1, 10**6) for d in range(len(rows))]
        false = [[nets.row(r.outputs, r.constant - v, r.inputs)] for r, v in zip(rows, least, strict=True)]
        wrong = nets.make_property(2, 2, [nets.box_case(case.lower, case.upper, *false)])
        for k in range(12):
            with pytest.raises(REFUSED):
                verdict(tmp_path, data, wrong, mutated(arrays, rng) if k else arrays)


# ------------------------------------------------------------------ multipliers without an end
@pytest.mark.parametrize("exact", [False, True])
def test_a_multiplier_of_what_has_no_end_proves_nothing(exact: bool, tmp_path: Path) -> None:
    """``exp`` overflows float64: the rectifier's operand has no upper end, and at first a lower one."""
    nodes = [trees.N("Exp", ["x"], ["e"]), trees.N("Reshape", ["e", "s"], ["f"])]
    nodes.append(trees.N("Relu", ["f"], ["y"]))
    data = nets.model(nodes, {"s": np.int64([1])}, [1, 1])
    prop = nets.make_property(1, 1, [nets.box_case([0], [800], [nets.row({0: 1}, 10**6)])])
    network = combine({"": data}, prop)
    tree = {"node_dim": np.int32([-1]), "node_at": np.zeros(1), "node_left": np.int32([-1])}
    arrays = trees.random_claims(np.random.default_rng(0), network, tree, 1)
    arrays |= nets.upgraded(arrays)
    arrays["ev_exact"][:] = exact
    arrays["ev_slopes"][:] = arrays["ev_lines"][:] = 0
    assert verdict(tmp_path, data, prop, arrays) == "unsat"
    arrays["beta_ev"], arrays["beta_operand"] = np.zeros(1, np.int32), np.zeros(1, np.int32)
    for beta in (-1.0, -1e-300, -1e300):
        arrays["beta"] = np.array([beta])
        with pytest.raises(CertificateRejected, match="bound"):
            verdict(tmp_path, data, prop, arrays)
    arrays["beta"] = np.zeros(1)  # nothing is subtracted
    assert verdict(tmp_path, data, prop, arrays) == "unsat"


# ------------------------------------------------------------------ work that is shared, or not done
def test_a_box_is_bounded_once_for_all_its_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _, _, prop, arrays, _ = provable(2)
    runs: list[int] = []
    honest = Bounder.run

    def run(self: Bounder, low: Array, *rest: Any) -> Any:
        runs.append(len(low))
        return honest(self, low, *rest)

    monkeypatch.setattr(Bounder, "run", run)
    monkeypatch.setattr("verifier.check.evidence._MOST_BOXES", 4)
    assert verdict(tmp_path, data, prop, arrays) == "unsat"
    assert sum(runs) == len(arrays["box_node"]) < len(arrays["ev_node"])
    assert max(runs) == 4


class _Full(Forms):
    """Forms with a column for every input, fixed or not."""

    def __init__(self, to: Arithmetic, low: Array, high: Array) -> None:
        super().__init__(to, low, high)
        self.free, self.inputs = np.arange(low.shape[1]), low * 0
        self.low, self.high, self.widest = low, high, np.maximum(-low, high)


@np.errstate(all="ignore")
def columns(data: bytes, low: Sequence[Any], high: Sequence[Any], *, exact: bool) -> Any:
    """State of one box."""
    network = combine({"": data}, nets.make_property(len(low), 2, []))
    to = Arithmetic(exact)
    bounder = Bounder(network, to, float32=False, forward=True)
    ends = (to.array(np.array([side], np.float64)) for side in (low, high))
    return bounder.run(*ends)


@pytest.mark.parametrize("name", ["conv", "maxpool", "curved", "cubic"])
@pytest.mark.parametrize("fixed", ["some", "all", "none"])
def test_forms_have_columns_only_for_inputs_that_vary(
    name: str, fixed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, size = nets.EVERY[name]
    rng = np.random.default_rng(4)
    data = make(rng)
    low = nets.dyadic(rng, size)
    vary = {"some": np.arange(size) % 3 == 1, "all": np.zeros(size, bool), "none": np.ones(size, bool)}[fixed]
    high = low + vary * (np.abs(nets.dyadic(rng, size)) + 0.5)
    found = {exact: columns(data, low, high, exact=exact) for exact in (False, True)}
    monkeypatch.setattr("verifier.check.bounds.Forms", _Full)
    for exact, state in found.items():
        full = columns(data, low, high, exact=exact)
        assert [f.rows.shape[1] for f in state.forms] == [int(vary.sum())] * len(full.forms)
        for ours, theirs in ((state.low, full.low), (state.high, full.high)):
            for a, b in zip(ours, theirs, strict=True):
                if exact:
                    assert np.array_equal(a, b)
                else:
                    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
