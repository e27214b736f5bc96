"""Checkpoints: what a run leaves can be gone on with; what is damaged or foreign is an error."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_many_cases import network as many_network
from test_many_cases import prop as many_prop
from test_operand_search import hard

from bounds.errors import BadInput
from verifier import Options, Report, verify
from verifier.cli.main import cli
from verifier.conclude import Ledger
from verifier.search import checkpoint, keeper
from verifier.search.loop import Search
from verifier.verdict import Semantics, Status, UnknownReason

Query = tuple[Path, Path]


@pytest.fixture
def pendulum(examples: Path) -> Query:
    """Two inputs are split 43 times until all is proved."""
    return examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_unsat.vnnlib"


@pytest.fixture(params=["inputs", "operands", "many"])
def query(request: pytest.FixtureRequest, pendulum: Query, tmp_path: Path) -> Query:
    """A query that is proved, by each kind of search."""
    if request.param == "operands":
        return hard(tmp_path, "product", 0.3)
    if request.param == "many":
        model = many_network(tmp_path / "m.onnx", 2.0)
        return model, many_prop(tmp_path, model, 0.06, radius=0.2)
    return pendulum


def begun(query: Query, path: Path, domains: int = 9, **more: Any) -> Report:
    report = verify(*query, options=Options(max_domains=domains), checkpoint=path, **more)
    assert (report.status, report.reason, report.checkpoint) == (
        Status.UNKNOWN,
        UnknownReason.DOMAINS,
        str(path),
    )
    return report


def test_a_run_goes_on_to_the_proof(query: Query, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    whole = verify(*query)
    assert whole.status is Status.UNSAT
    report = begun(query, path)
    closed, steps = [report.closed_fraction], 0
    while report.status is Status.UNKNOWN:
        report = verify(*query, options=Options(max_domains=15), resume=path, checkpoint=path)
        closed.append(report.closed_fraction)
        steps += 1
        assert steps < 500
    assert report.status is Status.UNSAT
    assert steps > 1
    assert closed == sorted(closed)
    assert report.resumed == str(path)
    assert any("were not proved again" in note for note in report.notes)


def test_what_is_open_is_what_the_ledger_lacks(query: Query, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    report = begun(query, path, 20)
    state = checkpoint.load(path)
    assert state.bounded == report.stats.domains == 20
    assert state.created - state.splits - state.settled == len(state.nodes())


def test_a_checkpoint_finds_a_violation_later(examples: Path, tmp_path: Path) -> None:
    query = examples / "models/pendulum.onnx", examples / "properties/pendulum_limit_sat.vnnlib"
    path = tmp_path / "run.ckpt"
    first = verify(*query, options=Options(max_domains=3, attack=False), checkpoint=path)
    assert first.status is Status.UNKNOWN
    assert verify(*query, resume=path).status is Status.SAT


def test_checkpoints_are_written_while_the_search_goes_on(
    query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is complete: from the last one before the end, the rest is proved."""
    monkeypatch.setattr(keeper, "EVERY", 0.0)
    monkeypatch.setattr(keeper, "SHARE", 0.0)
    path, kept = tmp_path / "run.ckpt", list[checkpoint.State]()
    save = checkpoint.save

    def note(to: str | Path, state: checkpoint.State) -> None:
        save(to, state)
        kept.append(checkpoint.load(to))

    monkeypatch.setattr(keeper, "save", note)
    assert verify(*query, checkpoint=path).status is Status.UNSAT
    assert len(kept) > 2
    closed = [s.closed + sum(p.closed for p in s.parts) / s.cases for s in kept]
    assert closed == pytest.approx(sorted(closed))
    save(path, kept[len(kept) // 2])
    assert verify(*query, resume=path).status is Status.UNSAT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_report_and_a_checkpoint(
    number: signal.Signals, pendulum: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, split = list[int](), Search._split

    def interrupted(self: Search, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return split(self, *rest)

    monkeypatch.setattr(Search, "_split", interrupted)
    path, told = tmp_path / "run.ckpt", tmp_path / "r.json"
    args = [*map(str, pendulum), "--checkpoint", str(path), "--json", str(told)]
    result = CliRunner().invoke(cli, args, standalone_mode=False)
    assert result.return_value == 128 + number
    assert result.stdout.startswith("unknown\n")
    report = json.loads(told.read_text())
    assert (report["reason"]["code"], report["checkpoint"]) == ("cancelled", str(path))
    assert report["lower_bound"] < 0
    assert 0 < report["hardest_region"]["share"] <= 1
    monkeypatch.undo()
    assert verify(*pendulum, resume=path).status is Status.UNSAT


def test_no_certificate_after_a_checkpoint(pendulum: Query, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    begun(pendulum, path)
    with pytest.raises(BadInput, match="holds no evidence"):
        verify(*pendulum, resume=path, certificate=tmp_path / "c.cert")
    assert not (tmp_path / "c.cert").exists()


def test_another_query_is_refused(pendulum: Query, examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    begun(pendulum, path)
    model, spec = pendulum
    with pytest.raises(BadInput, match="another semantics"):
        verify(model, spec, options=Options(semantics=Semantics.FLOAT32), resume=path)
    other = examples / "properties/pendulum_pushback_unsat.vnnlib"
    with pytest.raises(BadInput, match="another property"):
        verify(model, other, resume=path)
    changed = tmp_path / "other.onnx"
    changed.write_bytes(model.read_bytes() + b"\x9a\x06\x00")  # an unknown field: another file all the same
    with pytest.raises(BadInput, match="another model"):
        verify(changed, spec, resume=path)


def same(a: checkpoint.State, b: checkpoint.State, folder: Path) -> bool:
    """Whether two states are equal in all they hold."""
    files = folder / "a", folder / "b"
    for state, file in zip((a, b), files, strict=True):
        checkpoint.save(file, state)
    return files[0].read_bytes() == files[1].read_bytes()


def test_damage_is_an_error_and_never_a_verdict(query: Query, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    begun(query, path, 20)
    good, data, refused = checkpoint.load(path), path.read_bytes(), 0
    damaged = [data[: len(data) * i // 7] for i in range(7)]
    places = np.random.default_rng(1).integers(0, len(data), 60).tolist()
    damaged += [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in places]
    for bad in damaged:
        path.write_bytes(bad)
        try:
            found = checkpoint.load(path)
        except BadInput as error:
            refused += 1
            assert str(path) in str(error)
        else:  # a byte that says nothing, such as a member's date
            assert same(good, found, tmp_path)
    assert refused > len(damaged) // 2


def repacked(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Changes a checkpoint and signs it again, as whoever forges one would."""
    with zipfile.ZipFile(path) as z:
        members = {name: z.read(name) for name in z.namelist() if name != "digest"}
    change(members)
    with zipfile.ZipFile(path, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
        z.writestr("digest", checkpoint._digest(members))


def test_pickled_arrays_are_refused(pendulum: Query, tmp_path: Path) -> None:
    path, buffer = tmp_path / "run.ckpt", io.BytesIO()
    begun(pendulum, path)
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    repacked(path, lambda members: members.update({"p0_lb.npy": buffer.getvalue()}))
    with pytest.raises(BadInput, match="no checkpoint of this version"):
        checkpoint.load(path)


def header(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        told = json.loads(members["checkpoint.json"])
        members["checkpoint.json"] = json.dumps({**told, **changes}).encode()

    return change


def shorter(members: dict[str, bytes]) -> None:
    """One open subproblem less."""
    for name in [n for n in members if n.startswith("p0_")]:
        buffer = io.BytesIO()
        np.save(buffer, np.load(io.BytesIO(members[name]))[1:])
        members[name] = buffer.getvalue()
    told = json.loads(members["checkpoint.json"])
    told["parts"][0]["levels"][0] -= 1
    members["checkpoint.json"] = json.dumps(told).encode()


def moved(members: dict[str, bytes]) -> None:
    """A subproblem outside the property's box."""
    buffer = io.BytesIO()
    np.save(buffer, np.load(io.BytesIO(members["p0_hi.npy"])) + 1e6)
    members["p0_hi.npy"] = buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        header(settled=10**6),
        header(splits=0),
        header(parts=[]),
        header(version=3),
        header(cases=7),
        shorter,
        moved,
    ],
)
def test_contradictions_are_an_error(
    change: Callable[[dict[str, bytes]], None], pendulum: Query, tmp_path: Path
) -> None:
    path = tmp_path / "run.ckpt"
    begun(pendulum, path)
    repacked(path, change)
    with pytest.raises(BadInput):
        verify(*pendulum, resume=path)


def test_every_rule_about_states_can_fail(pendulum: Query, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    begun(pendulum, path, 40)
    state = checkpoint.load(path)
    assert checkpoint.contradiction(state) == ""
    part = state.parts[0]
    bad = [
        replace(state, created=state.created + 2),
        replace(state, settled=state.settled + 1),
        replace(state, abandoned=1),
        replace(state, todo=[0]),
        replace(state, parts=[part, part], settled=state.settled - part.nodes),
        replace(state, parts=[replace(part, case=5)]),
        replace(state, parts=[replace(part, closed=part.closed / 2)]),
        replace(state, closed=1.5),
    ]
    assert all(checkpoint.contradiction(s) for s in bad)


def test_a_ledger_is_restored_once_and_whole() -> None:
    ledger = Ledger(1)
    ledger.restore(2, 1, 0)
    assert (ledger.created, ledger.open) == (5, 2)
    with pytest.raises(AssertionError):
        ledger.restore(2, 1, 0)
    with pytest.raises(AssertionError):
        Ledger(1).restore(1, 3, 0)
