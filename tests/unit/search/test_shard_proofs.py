"""A search in shards: its parts make one proof that the checker accepts, and no other set of parts does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from test_many_cases import network as many_network
from test_many_cases import prop as many_prop
from test_operand_search import hard

from bounds.errors import BadInput, CertificateRejected
from bounds.methods.bounder import BoundResult
from verifier import Options, verify
from verifier.certificate import write_unsat
from verifier.check.main import check
from verifier.conclude import Ledger, unsat
from verifier.join import join
from verifier.problem import load_models, make_problem
from verifier.proof_part import contradiction, joined
from verifier.search import checkpoint
from verifier.search.resume import Warm
from verifier.search.shards import Shard, book, deal
from verifier.spec.load import load
from verifier.spec.model import Property
from verifier.verdict import Semantics, Status, UnknownReason

KINDS = ["inputs", "operands", "many"]


class Parts(NamedTuple):
    """A query that is proved in shards: what was dealt out, and what the shards left."""

    model: Path
    property: Property
    property_path: Path
    whole: Path
    ends: list[Path]


def query(kind: str, examples: Path, folder: Path) -> tuple[Path, Path]:
    """A query that is proved, by each kind of search."""
    if kind == "operands":
        return hard(folder, "product", 0.3)
    if kind == "many":
        model = many_network(folder / "m.onnx", 2.0)
        return model, many_prop(folder, model, 0.06, radius=0.2)
    return examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"


def close(parts: Parts, shard: Shard, path: Path, domains: int | None = None) -> Path:
    """Searches a shard to its end (with a pause after ``domains``), and returns what it left."""
    checkpoint.save(path, shard.state)
    while True:
        report = verify(
            parts.model, parts.property, options=Options(max_domains=domains), resume=path, checkpoint=path
        )
        assert report.status is Status.UNKNOWN and report.certificate == ""
        if report.reason is UnknownReason.PART:
            return path
        assert report.reason is UnknownReason.DOMAINS


def proved(kind: str, examples: Path, folder: Path, *, count: int = 3, certificate: bool = True) -> Parts:
    """The query of a kind, begun, dealt out, and closed in parts; the first shard with pauses."""
    model, path = query(kind, examples, folder)
    parts = Parts(model, load(path), path, folder / "whole", [])
    proof = folder / "none.sbcert" if certificate else None
    options = Options(max_domains=20 if kind == "inputs" else 9)
    report = verify(model, parts.property, options=options, checkpoint=parts.whole, certificate=proof)
    assert report.reason is UnknownReason.DOMAINS
    for i, shard in enumerate(deal(checkpoint.load(parts.whole), count)):
        parts.ends.append(close(parts, shard, folder / f"end-{i}", 7 if i == 0 else None))
    assert len(parts.ends) >= 2
    return parts


@pytest.fixture(scope="module", params=KINDS)
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    examples = Path(__file__).resolve().parents[3] / "examples"
    return proved(request.param, examples, tmp_path_factory.mktemp(request.param))


def test_the_parts_make_one_certificate(parts: Parts, tmp_path: Path) -> None:
    proof = tmp_path / "p.sbcert"
    report = join(parts.model, parts.property, parts.whole, parts.ends, certificate=proof)
    assert (report.status, report.certificate) == (Status.UNSAT, str(proof))
    found = check(proof, {"": parts.model}, parts.property_path)
    ends = [checkpoint.load(end) for end in parts.ends]
    begun = checkpoint.load(parts.whole).created
    assert found.verdict == "unsat" and found.nodes == begun + sum(e.created - begun for e in ends)
    assert report.stats.domains == checkpoint.load(parts.whole).bounded + sum(e.bounded for e in ends)


def test_the_order_of_the_parts_does_not_matter(parts: Parts, tmp_path: Path) -> None:
    proof = tmp_path / "p.sbcert"
    join(parts.model, parts.property, parts.whole, parts.ends[::-1], certificate=proof)
    assert check(proof, {"": parts.model}, parts.property_path).verdict == "unsat"


def forged(parts: Parts, ends: Sequence[Path], proof: Path) -> Path:
    """A certificate of whatever parts, past all that :func:`join` looks at."""
    whole, found = checkpoint.load(parts.whole), [checkpoint.load(end) for end in ends]
    assert whole.kept is not None
    held = [(e.kept, e.created) for e in found if e.kept is not None]
    tracer = joined(whole.kept, whole.created, held)
    assert tracer is not None
    problem = make_problem(parts.property, load_models(parts.model, parts.property), Semantics.REAL)
    forward = whole.kept.forward
    write_unsat(
        proof, problem, Semantics.REAL, tracer, forward=forward, version="0", whole=whole.kept.whole()
    )
    return proof


def test_a_missing_part_is_refused(parts: Parts, tmp_path: Path) -> None:
    for i in range(len(parts.ends)):
        some = [*parts.ends[:i], *parts.ends[i + 1 :]]
        with pytest.raises(BadInput, match="in no shard"):
            join(parts.model, parts.property, parts.whole, some)
        proof = forged(parts, some, tmp_path / f"{i}.sbcert")
        with pytest.raises(CertificateRejected, match="not refuted everywhere"):
            check(proof, {"": parts.model}, parts.property_path)


def test_a_doubled_part_is_refused(parts: Parts, tmp_path: Path) -> None:
    twice = [*parts.ends, parts.ends[0]]
    # the counts alone would refuse it: more is settled than was open
    with pytest.raises((BadInput, AssertionError)):
        join(parts.model, parts.property, parts.whole, twice)
    with pytest.raises((BadInput, AssertionError)):
        join(parts.model, parts.property, parts.whole, [*parts.ends[1:], parts.ends[1]])
    end = checkpoint.load(parts.ends[0])
    if end.created == checkpoint.load(parts.whole).created:
        return  # nothing was split: its evidence is in the certificate twice, which harms nobody
    proof = forged(parts, twice, tmp_path / "p.sbcert")
    with pytest.raises(CertificateRejected, match="parent"):
        check(proof, {"": parts.model}, parts.property_path)


def test_swapped_parts_are_refused(parts: Parts, tmp_path: Path) -> None:
    """One shard's nodes with another one's evidence."""
    whole = checkpoint.load(parts.whole)
    one, two = (checkpoint.load(end) for end in parts.ends[:2])
    assert one.kept is not None and two.kept is not None and whole.kept is not None
    if one.created != two.created:  # else the two are alike, and evidence is found wherever it is
        for name, a, b in (("one", one, two), ("two", two, one)):
            swapped = replace(a, kept=b.kept, created=b.created, splits=b.splits)
            with pytest.raises(BadInput):  # the counts contradict each other
                checkpoint.save(tmp_path / name, swapped)
                join(parts.model, parts.property, parts.whole, [tmp_path / name, *parts.ends[1:]])
    # evidence of the other's nodes under names that fit
    arrays = dict(one.kept.arrays)
    mine = np.isin(arrays["ev_node"], one.dealt.nodes if one.dealt else ())
    if not mine.any() and not np.isin(arrays["split_node"], one.dealt.nodes if one.dealt else ()).any():
        pytest.fail("the shard has nothing of its own")
    moved = dict(zip(one.dealt.nodes, two.dealt.nodes, strict=False)) if one.dealt and two.dealt else {}
    for name in ("split_node", "ev_node", "box_node"):
        arrays[name] = np.array([moved.get(n, n) for n in arrays[name].tolist()], arrays[name].dtype)
    checkpoint.save(tmp_path / "moved", replace(one, kept=replace(one.kept, arrays=arrays)))
    proof = forged(parts, [tmp_path / "moved", *parts.ends[1:]], tmp_path / "p.sbcert")
    with pytest.raises(CertificateRejected):
        check(proof, {"": parts.model}, parts.property_path)


def test_shards_of_one_checkpoint_share_what_is_warm(parts: Parts, tmp_path: Path) -> None:
    """The bounds of a root are made once for all of them, and what comes of them is the same."""
    warm, ends, roots = Warm(), list[Path](), list[dict[int, BoundResult]]()
    for i, shard in enumerate(deal(checkpoint.load(parts.whole), len(parts.ends))):
        path = tmp_path / f"{i}"
        checkpoint.save(path, shard.state)
        report = verify(parts.model, parts.property, resume=path, checkpoint=path, warm=warm)
        assert report.reason is UnknownReason.PART
        ends.append(path)
        roots.append(dict(warm.roots))
        alone, shared = checkpoint.load(parts.ends[i]), checkpoint.load(path)
        assert shared.created == alone.created or i == 0  # the first of the others was searched with pauses
    operands = any(p.operands for p in checkpoint.load(parts.whole).parts)
    assert all((0 in r) is operands for r in roots)
    assert not operands or all(r[0] is roots[0][0] for r in roots)
    proof = tmp_path / "p.sbcert"
    join(parts.model, parts.property, parts.whole, ends, certificate=proof)
    assert check(proof, {"": parts.model}, parts.property_path).verdict == "unsat"


def test_a_shard_concludes_nothing(parts: Parts, tmp_path: Path) -> None:
    shard = deal(checkpoint.load(parts.whole), 2)[0]
    checkpoint.save(tmp_path / "s", shard.state)
    report = verify(parts.model, parts.property, resume=tmp_path / "s", certificate=tmp_path / "c")
    assert (report.status, report.reason) == (Status.UNKNOWN, UnknownReason.PART)
    assert not (tmp_path / "c").exists()
    assert deal(checkpoint.load(parts.ends[0]), 2) == []


def test_a_shard_proves_a_violation_by_itself(examples: Path, tmp_path: Path) -> None:
    model, spec = examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_sat.vnnlib"
    whole, proof, found = tmp_path / "whole", tmp_path / "p.sbcert", list[Status]()
    begun = verify(
        model, spec, options=Options(max_domains=9, attack=False), checkpoint=whole, certificate=proof
    )
    assert begun.status is Status.UNKNOWN
    for i, shard in enumerate(deal(checkpoint.load(whole), 2)):
        checkpoint.save(tmp_path / f"{i}", shard.state)
        report = verify(model, spec, resume=tmp_path / f"{i}", certificate=proof)
        found.append(report.status)
    assert Status.SAT in found
    assert check(proof, {"": model}, spec).verdict == "sat"


def test_only_shards_of_this_dealing_are_joined(parts: Parts, tmp_path: Path) -> None:
    again = tmp_path / "again"
    state = checkpoint.load(parts.whole)
    checkpoint.save(again, replace(state, seconds=state.seconds + 1))
    with pytest.raises(BadInput, match="is no shard of"):
        join(parts.model, parts.property, again, parts.ends)
    with pytest.raises(BadInput, match="is no shard of"):
        join(parts.model, parts.property, parts.whole, [*parts.ends[1:], parts.whole])


def test_a_shard_that_is_not_done_proves_nothing(parts: Parts, tmp_path: Path) -> None:
    shard = deal(checkpoint.load(parts.whole), len(parts.ends))[0]
    checkpoint.save(tmp_path / "open", shard.state)
    with pytest.raises(AssertionError, match="unsat refused"):
        join(parts.model, parts.property, parts.whole, [tmp_path / "open", *parts.ends[1:]])


def test_without_evidence_there_is_a_verdict_but_no_certificate(examples: Path, tmp_path: Path) -> None:
    parts = proved("inputs", examples, tmp_path, certificate=False)
    proof = tmp_path / "p.sbcert"
    report = join(parts.model, parts.property, parts.whole, parts.ends, certificate=proof)
    assert report.status is Status.UNSAT and not proof.exists()
    assert any("no certificate" in note for note in report.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_writes_a_certificate(kind: str, examples: Path, tmp_path: Path) -> None:
    model, spec = query(kind, examples, tmp_path)
    path, proof, steps = tmp_path / "run", tmp_path / "p.sbcert", 0
    report = verify(model, spec, options=Options(max_domains=9), checkpoint=path, certificate=proof)
    while report.status is Status.UNKNOWN:
        assert not proof.exists()
        report = verify(
            model, spec, options=Options(max_domains=15), resume=path, checkpoint=path, certificate=proof
        )
        steps += 1
    assert steps > 1 and report.status is Status.UNSAT
    assert check(proof, {"": model}, spec).verdict == "unsat"


def test_evidence_that_differs_of_one_box_makes_no_certificate(parts: Parts) -> None:
    """As of machines that round differently: of several boxes of one node a file can hold one."""
    whole, ends = checkpoint.load(parts.whole), [checkpoint.load(end) for end in parts.ends]
    assert whole.kept is not None
    held = [(e.kept, e.created) for e in ends if e.kept is not None]
    part, end = held[0]
    arrays = dict(part.arrays)
    inherited = np.unique(arrays["ev_box"][arrays["box_node"][arrays["ev_box"]] < arrays["ev_node"]])
    if not len(inherited):
        return  # every box is of one node only
    refined = arrays["box_refined"].copy()
    refined[inherited] ^= 1
    other = replace(part, arrays=arrays | {"box_refined": refined})
    assert joined(whole.kept, whole.created, [(other, end), *held[1:]]) is None


def test_damaged_evidence_is_an_error(parts: Parts) -> None:
    state = checkpoint.load(parts.whole)
    assert state.kept is not None and contradiction(state.kept, state.created) == ""
    arrays = state.kept.arrays
    bad = [
        {"ev_node": arrays["ev_node"] + state.created},
        {"ev_box": arrays["ev_box"] - 1000},
        {"ev_row": arrays["ev_row"][1:]},
        {"ev_slopes": arrays["ev_slopes"].astype(np.int64)},
        {"edge_size": arrays["edge_size"] - 1},
        {"edge_slopes": np.append(arrays["edge_slopes"], np.uint8(0))},
        {"split_left": arrays["split_left"] + state.created},
    ]
    for change in bad:
        if all(np.array_equal(arrays[name], value) for name, value in change.items()):
            continue  # there is nothing of the kind in it
        assert contradiction(replace(state.kept, arrays={**arrays, **change}), state.created), change
    assert contradiction(replace(state.kept, first=state.created + 1), state.created)
    assert contradiction(replace(state.kept, arrays={}), state.created)


def test_booking_needs_every_node_once(parts: Parts) -> None:
    whole, ends = checkpoint.load(parts.whole), [checkpoint.load(end) for end in parts.ends]

    def ledger() -> Ledger:
        return Ledger(max(len(parts.property.cases), 1), parts.property.cases)

    good = ledger()
    book(good, whole, ends)
    assert unsat(good) is Status.UNSAT
    dealt = ends[0].dealt
    assert dealt is not None
    changed = [
        replace(ends[0], dealt=replace(dealt, nodes=dealt.nodes[1:])),
        replace(ends[0], dealt=replace(dealt, of="0" * 64)),
        replace(ends[0], dealt=replace(dealt, settled=dealt.settled - 1)),
        replace(ends[0], query={**ends[0].query, "model": "other"}),
    ]
    for bad in changed:
        with pytest.raises(BadInput):
            book(ledger(), whole, [bad, *ends[1:]])
    late = ledger()
    book(late, whole, [replace(ends[0], abandoned=1), *ends[1:]])
    with pytest.raises(AssertionError):
        unsat(late)
