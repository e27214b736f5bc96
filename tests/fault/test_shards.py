"""One job on several workers: parts add up, the others stop at a counterexample, lost ones are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from job_models import box_property, finished, hard, request, store_at, upload, wait_for
from queue_parts import SUPERVISOR, WORKER, kill_group, redis, running

from bounds.errors import BadInput
from bounds.io.onnx import load_bytes
from verifier.api import verify
from verifier.check.main import check
from verifier.query import Options
from verifier.search import checkpoint
from verifier.search.shards import deal, open_nodes
from verifier.spec.load import loads
from verifier.verdict import Status, UnknownReason
from workers import cubes
from workers.jobs.artifacts import Artifacts
from workers.jobs.model import (
    Answer,
    Artifact,
    Budget,
    Claim,
    Job,
    Kind,
    NewJob,
    Outcome,
    Progress,
    Signal,
    State,
)
from workers.kinds import run_of
from workers.local import Habits, Supervisor
from workers.runner import Runner, RunnerLimits
from workers.task import Task

MODEL = hard(8, 60, seed=1)
HOLDS = box_property(8, 1.4)
OPTIONS = {"shards": 2, "split_after_s": 0.3}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Any, Artifacts]]:
    store, artifacts = store_at(tmp_path)
    yield store, artifacts
    store.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.State:
    path = tmp_path_factory.mktemp("state") / "checkpoint"
    report = verify(load_bytes(MODEL, "m"), loads(HOLDS), options=Options(max_domains=2000), checkpoint=path)
    assert report.status is Status.UNKNOWN
    return checkpoint.load(path)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_what_is_dealt_out_is_what_was_open(state: checkpoint.State, tmp_path: Path, count: int) -> None:
    shards = deal(state, count)
    assert len(shards) == count and sum(s.nodes for s in shards) == open_nodes(state)
    ids = np.concatenate([s.state.nodes() for s in shards])
    assert sorted(ids.tolist()) == sorted(state.nodes().tolist())
    for i, shard in enumerate(shards):
        checkpoint.save(tmp_path / f"{i}", shard.state)
        assert open_nodes(checkpoint.load(tmp_path / f"{i}")) == shard.nodes  # it does not contradict itself


def test_each_shard_closes_its_own_part(state: checkpoint.State, tmp_path: Path) -> None:
    for i, shard in enumerate(deal(state, 3)):
        path = tmp_path / f"{i}"
        checkpoint.save(path, shard.state)
        report = verify(load_bytes(MODEL, "m"), loads(HOLDS), resume=path, checkpoint=path)
        assert (report.status, report.reason) == (Status.UNKNOWN, UnknownReason.PART)
        assert report.stats.domains > shard.nodes
        assert open_nodes(checkpoint.load(path)) == 0


def test_nothing_is_dealt_where_something_was_given_up(state: checkpoint.State) -> None:
    assert deal(replace(state, abandoned=1), 2) == [] and deal(state, 1) == []


def shards_of(store: Any, answers: list[Answer | None]) -> list[Job]:
    """Shards of a parent, ended as told."""
    parent, _ = store.submit(NewJob("local", Kind.VERIFY, {"model": "m", "property": {}}, Budget(9, 9)))
    claim = store.claim_job(parent.id, "lead", 30)
    files = [(Artifact(f"{i}", "ab" * 32, 1, ""), 1) for i in range(len(answers))]
    cubes.submit(store, claim, Artifact("whole", "cd" * 32, 1, ""), files, 9.0, lambda *_: None)
    for shard, answer in zip(store.shards(parent.id), answers, strict=True):
        if answer is not None:
            store.finish(store.claim_job(shard.id, "w", 30), Outcome(State.FINISHED, answer, "timeout"))
    return store.shards(parent.id)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Answer.VERIFIED, None], None),
        ([Answer.VERIFIED, Answer.VERIFIED], None),  # a child says that, not a count
        ([Answer.UNKNOWN, None], Answer.UNKNOWN),
        ([Answer.UNKNOWN, Answer.FALSIFIED], Answer.FALSIFIED),
        ([None, Answer.FALSIFIED], Answer.FALSIFIED),
    ],
)
def test_what_shards_decide(place: Any, answers: list[Answer | None], expected: Answer | None) -> None:
    shards = shards_of(place[0], answers)
    outcome = cubes.decided(shards)
    assert (None if outcome is None else outcome.answer) is expected
    assert cubes.closed(shards) is (answers == [Answer.VERIFIED] * 2)


def test_a_shard_that_left_nothing_fails_the_job(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    shards = shards_of(store, [Answer.VERIFIED] * 2)
    with pytest.raises(BadInput, match="left no proof"):
        cubes.parts(shards)
    parent = store.get(shards[0].parent, None)
    claim = Claim(parent, parent.worker, parent.attempt)
    Runner(store, artifacts, tmp_path / "work")._join(claim, shards)
    end = store.get(parent.id, None)
    assert (end.state, end.answer, end.reason) == (State.FAILED, None, "missing-file")


def test_a_counterexample_ends_the_siblings(place: Any) -> None:
    store = place[0]
    shards = shards_of(store, [None, None, None])
    running_one: Claim = store.claim_job(shards[1].id, "w", 30)
    cubes.end_siblings(store, shards[0])
    assert store.heartbeat(running_one, None, 30) is Signal.CANCEL
    assert store.get(shards[2].id, None).state is State.CANCELLED
    assert store.get(shards[0].id, None).state is State.QUEUED


def check_proof(job: Job, artifacts: Artifacts, folder: Path) -> None:
    """The certificate that a job left is a proof of what was asked."""
    made = job.artifact("certificate")
    assert made is not None, job.result
    (folder / "net.onnx").write_bytes(MODEL)
    (folder / "p.vnnlib").write_text(HOLDS)
    found = check(artifacts.file(made.sha256), {"": folder / "net.onnx"}, folder / "p.vnnlib")
    assert found.verdict == "unsat"


def test_on_two_slots(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    model = upload(store, artifacts, MODEL)
    supervisor = Supervisor(
        store, artifacts, slots=2, habits=Habits(sweep_s=0.5), limits=RunnerLimits(lease_s=3.0)
    )
    job = store.submit(request(model, HOLDS, timeout_s=200, options=OPTIONS))[0].id
    supervisor.start()
    try:
        end = finished(store, [job], 200)[0]
    finally:
        supervisor.stop()
    assert (end.state, end.answer, end.error) == (State.FINISHED, Answer.VERIFIED, ""), end
    shards = store.shards(job)
    # how many subproblems there are to deal out depends on the machine
    assert len(shards) == end.result["shards"] >= 2
    assert all(s.answer is Answer.VERIFIED for s in shards)
    assert len(shards) < 4 or len({s.worker for s in shards}) == 2  # both slots took part
    assert not any(artifacts.has(s.request[name]) for s in shards for name in ("checkpoint", "whole"))
    check_proof(end, artifacts, tmp_path)


@pytest.mark.parametrize("asked", [None, 0])
def test_idle_workers_share_a_long_search_unless_it_is_to_be_alone(
    asked: int | None, place: Any, tmp_path: Path
) -> None:
    store, artifacts = place
    model = upload(store, artifacts, MODEL)
    limits = RunnerLimits(beat_s=0.05, alone_s=0.0, offer_s=0.05)
    supervisor = Supervisor(store, artifacts, slots=2, habits=Habits(poll_s=0.05), limits=limits)
    supervisor.start()
    try:
        # whoever finds them idle must have heard of them
        wait_for(lambda: store.idle("short") == 2)
        asked_for = box_property(8, 1.0) if asked is None else HOLDS
        job = store.submit(request(model, asked_for, timeout_s=300, options={"shards": asked}))[0].id
        end = finished(store, [job], 200)[0]
    finally:
        supervisor.stop()
    assert (end.state, end.answer) == (State.FINISHED, Answer.VERIFIED), end
    assert len(store.shards(job)) == (0 if asked == 0 else 2 * cubes.PER_WORKER)
    assert end.artifact("certificate") is not None
    assert end.result.get("shards", 0) == len(store.shards(job))


@pytest.mark.slow
def test_a_lost_worker_is_replaced(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    model = upload(store, artifacts, MODEL)
    job = store.submit(request(model, HOLDS, timeout_s=300, options=OPTIONS))[0].id
    where = tmp_path / "jobs.db", tmp_path / "files", 1
    with running(SUPERVISOR, *where) as first, running(SUPERVISOR, *where):
        wait_for(lambda: any(s.answer is Answer.VERIFIED for s in store.shards(job)), 120)
        kill_group(first)  # it may lead, or hold a shard
        end = finished(store, [job], 200)[0]
    assert (end.state, end.answer) == (State.FINISHED, Answer.VERIFIED), end
    assert [e.name for e in store.events(job, 0, 1000)].count("done") == 1
    check_proof(end, artifacts, tmp_path)


@pytest.mark.slow
def test_a_lost_celery_worker_is_replaced(place: Any, tmp_path: Path) -> None:
    pytest.importorskip("celery", reason="pip install 'surebound[redis]'")
    from workers.celery_app import dispatcher

    store, artifacts = place
    model = upload(store, artifacts, MODEL)
    with redis(tmp_path / "redis") as broker:
        dispatch = dispatcher(broker.url)
        where = tmp_path / "jobs.db", tmp_path / "files", broker.url
        with running(WORKER, *where) as first, running(WORKER, *where):
            job = store.submit(request(model, HOLDS, timeout_s=300, options=OPTIONS))[0].id
            dispatch.notify(job, "short")
            wait_for(lambda: any(s.answer is Answer.VERIFIED for s in store.shards(job)), 120)
            kill_group(first)  # it may lead, or hold a shard
            end = finished(store, [job], 200)[0]
        dispatch.close()
    assert (end.state, end.answer) == (State.FINISHED, Answer.VERIFIED), end
    assert [e.name for e in store.events(job, 0, 1000)].count("done") == 1
    assert all(s.attempt <= s.max_attempts for s in store.shards(job))
    check_proof(end, artifacts, tmp_path)


def dealt_out(store: Any, artifacts: Artifacts, folder: Path, lease_s: float) -> str:
    """A job that a worker has claimed and dealt out, and of which nobody has heard since."""
    model = upload(store, artifacts, MODEL)
    job = store.submit(request(model, HOLDS, timeout_s=300, options=OPTIONS | {"split_after_s": 0.0}))[0]
    claim = store.claim_job(job.id, "lost", lease_s)
    folder.mkdir()
    files = {"model": str(artifacts.file(model))}
    ending = run_of(Kind.VERIFY)(Task.of(job, {"model": model}, files, folder, facts=False), Alone())
    kept = [
        (artifacts.put_file(folder / left.file, left.name, left.media_type), nodes)
        for left, nodes in ending.shards
    ]
    whole = artifacts.put_file(folder / "checkpoint", "checkpoint", "application/zip")
    cubes.submit(store, claim, whole, kept, 300.0, cubes.nobody)
    return job.id


class Alone:
    """A parent that says nothing."""

    def progress(self, now: Progress) -> None: ...

    def cancelled(self) -> bool:
        return False

    def wanted(self) -> int:
        return 0


def test_another_worker_joins_what_a_lost_one_dealt_out(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    job = dealt_out(store, artifacts, tmp_path / "lost", 2.0)
    limits = RunnerLimits(lease_s=3.0)
    supervisor = Supervisor(store, artifacts, slots=1, habits=Habits(sweep_s=0.2), limits=limits)
    supervisor.start()
    try:
        end = finished(store, [job], 200)[0]
    finally:
        supervisor.stop()
    assert (end.state, end.answer, end.attempt) == (State.FINISHED, Answer.VERIFIED, 2), end
    assert end.result["shards"] == len(store.shards(job)) == 8
    check_proof(end, artifacts, tmp_path)


def test_a_counterexample_in_one_shard_ends_those_at_work(place: Any, tmp_path: Path) -> None:
    """Nothing is waited for but the events: another worker's counterexample, and the end of the job."""
    store, artifacts = place
    job = dealt_out(store, artifacts, tmp_path / "lost", 60.0)
    supervisor = Supervisor(store, artifacts, slots=1)
    found = store.claim_job(store.shards(job)[-1].id, "third", 60.0)
    supervisor.start()
    try:
        wait_for(lambda: any(s.state is State.RUNNING and s.worker != "third" for s in store.shards(job)))
        store.finish(found, Outcome(State.FINISHED, Answer.FALSIFIED))
        cubes.end_siblings(store, found.job)
        wait_for(lambda: all(s.state.final for s in store.shards(job)))
    finally:
        supervisor.stop()
    states = [s.state for s in store.shards(job)]
    assert states.count(State.CANCELLED) >= 1 and State.FAILED not in states
    outcome = cubes.decided(cubes.group(store, store.get(job, None)))
    assert outcome is not None and outcome.answer is Answer.FALSIFIED


def test_a_damaged_part_fails_the_job(place: Any, tmp_path: Path) -> None:
    store, artifacts = place
    job = dealt_out(store, artifacts, tmp_path / "lost", 60.0)
    shards, files = store.shards(job), {"model": str(artifacts.file(store.get(job, None).request["model"]))}
    for i, shard in enumerate(shards):
        folder = tmp_path / f"s{i}"
        folder.mkdir()
        mine = files | {"checkpoint": str(artifacts.file(shard.request["checkpoint"]))}
        digests = {name: shard.request[name] for name in ("model", "checkpoint")}
        ending = run_of(Kind.SHARD)(Task.of(shard, digests, mine, folder, facts=False), Alone())
        assert ending.answer is Answer.VERIFIED
        (left,) = ending.files
        files[f"end-{i}"] = str(folder / left.file)
    files["whole"] = str(artifacts.file(shards[0].request["whole"]))
    parent = store.get(job, None)
    digests = {"model": parent.request["model"]}

    def joined(given: dict[str, str], name: str) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        return run_of(Kind.VERIFY)(Task.of(parent, digests, given, folder, facts=False), Alone())

    good = joined(files, "good")
    assert good.answer is Answer.VERIFIED and good.result["shards"] == 8
    assert "certificate" in [left.name for left in good.files]
    with pytest.raises(BadInput, match="in no shard"):
        joined({n: f for n, f in files.items() if n != "end-3"}, "missing")
    with pytest.raises((BadInput, AssertionError)):
        joined(files | {"end-3": files["end-4"]}, "doubled")
    broken = tmp_path / "torn"
    broken.write_bytes(Path(files["end-3"]).read_bytes()[:-100])
    with pytest.raises(BadInput, match="cannot be read"):
        joined(files | {"end-3": str(broken)}, "broken")


def test_a_checkpoint_of_another_question_is_refused(state: checkpoint.State, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "0", deal(state, 2)[0].state)
    with pytest.raises(BadInput):
        verify(load_bytes(MODEL, "m"), loads(box_property(8, 1.5)), resume=tmp_path / "0")
