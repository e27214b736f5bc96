"""Runs claimed jobs in a child: heartbeats, cancellation, and an end in the store whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bounds.errors import BadInput, LimitExceeded
from workers import cubes
from workers.children import Child, Pool, open_below
from workers.jobs.artifacts import Artifacts
from workers.jobs.database import StoreUnreachable
from workers.jobs.model import (
    Answer,
    Artifact,
    Claim,
    Job,
    Json,
    Kind,
    Outcome,
    Progress,
    Signal,
    State,
)
from workers.jobs.store import JobStore, UnknownJob
from workers.task import CHECKPOINT, NO_ROOM, Ending, Left, Task

INPUTS = ("model", "data", "certificate", CHECKPOINT)
# progress is written often at first, then seldom: (seconds of the attempt, seconds between two)
PACE = ((5.0, 0.25), (60.0, 1.0), (float("inf"), 5.0))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Times in seconds.

    Attributes:
        lease_s: until a worker that says nothing counts as lost.
        beat_s: between two heartbeats; a cancellation is heard at the next.
        stop_s: that a child gets to stop by itself before it is ended.
        grace_s: that a job may take beyond its time limit.
        store_s: for which the end of a job is kept for a store that does not answer.
        alone_s: for which a job is searched before it is dealt out to workers without work.
        offer_s: between two looks at these.
    """

    lease_s: float = 30.0
    beat_s: float = 0.5
    stop_s: float = 5.0
    grace_s: float = 30.0
    store_s: float = 600.0
    alone_s: float = cubes.SPLIT_AFTER_S
    offer_s: float = 1.0


@dataclass(slots=True)
class _Running:
    """A claim on its way: its folder, when it began, what is to become of it, when to look for help."""

    claim: Claim
    folder: Path
    begun: float
    told: float
    news: Progress | None = None
    offer: float = 0.0
    cancel: bool = False
    lost: bool = False


@dataclass(slots=True)
class _Batch:
    """Claims that one child works on, in order."""

    running: dict[str, _Running]
    deadline: float
    beat: float
    stopping: float | None = None
    draining: bool = False
    suspect: bool = False
    dealt: list[Claim] = field(default_factory=list[Claim])


class Runner:
    """Runs jobs to their end; one call of :meth:`run` at a time and thread.

    Args:
        store, artifacts: where jobs and files are.
        work: a folder for children's files; emptied as jobs end.
        pool: children; its own if None.
        announce: tells other workers of new shards.
    """

    def __init__(
        self,
        store: JobStore,
        artifacts: Artifacts,
        work: Path,
        *,
        pool: Pool | None = None,
        limits: RunnerLimits | None = None,
        announce: cubes.Announce = cubes.nobody,
    ) -> None:
        self.store, self.artifacts, self.work = store, artifacts, work
        self.limits = limits or RunnerLimits()
        work.mkdir(parents=True, exist_ok=True)
        self.pool = Pool(work) if pool is None else pool  # an empty one has length 0
        self.drain = threading.Event()
        self._announce = announce

    def run(self, claims: Sequence[Claim]) -> None:
        """Runs claims of one network together; each is final or queued again when this returns."""
        if len(claims) == 1 and claims[0].attempt > 1 and cubes.group(self.store, claims[0].job):
            self._lead(claims[0])  # another attempt had dealt it out
            return
        for claim in self._run(claims, {}):
            self._lead(claim)

    def _run(self, claims: Sequence[Claim], more: Mapping[str, str]) -> list[Claim]:
        """As :meth:`run`, with ``more`` files (names, digests); the jobs that were dealt out."""
        now = time.monotonic()
        batch = _Batch({}, now + self.limits.grace_s, now + self.limits.beat_s)
        tasks: list[Task] = []
        child = self._child(claims)
        if child is None:
            return []
        try:
            for claim in claims:
                folder = self._folder(claim, child)
                if folder is None:
                    continue
                batch.running[claim.job.id] = _Running(claim, folder, now, now)
                task = self._prepare(batch, claim, folder, child, more)
                if task is not None:
                    tasks.append(task)
                    batch.deadline += claim.job.budget.timeout_s
            if batch.running:
                self._attend(batch, child, tasks)
        finally:
            self._let_go(batch, child)
            for claim in claims:
                self._remove(batch, claim.job.id)
        return batch.dealt

    def _child(self, claims: Sequence[Claim]) -> Child | None:
        """A child for these claims; None where there is no room for its folder: the jobs wait for some."""
        try:
            job = claims[0].job
            return self.pool.take(job.tenant, str(job.request.get("model", "")))
        except OSError:
            for claim in claims:
                self._wait_for_room(claim)
            self.drain.wait(1.0)
            return None

    def _wait_for_room(self, claim: Claim) -> None:
        self._persist(lambda: self.store.give_back(claim, None, counts=False))

    def _folder(self, claim: Claim, child: Child) -> Path | None:
        """A folder for a claim's files; None where there is no room: the job waits for some."""
        try:
            return Path(tempfile.mkdtemp(prefix="job-", dir=child.home.out))
        except OSError:
            self._wait_for_room(claim)
            self.drain.wait(1.0)
            return None

    def _prepare(
        self, batch: _Batch, claim: Claim, folder: Path, child: Child, more: Mapping[str, str]
    ) -> Task | None:
        """The task of a claim; None if it ended here, for want of a file."""
        job = claim.job
        try:
            digests = self._digests(claim) | dict(more)
            paths = {name: self.artifacts.file(digest) for name, digest in digests.items()}
            files = {name: str(child.home.lend(path)) for name, path in paths.items()}
        except (OSError, StoreUnreachable):  # no room, or an object store is away
            self._remove(batch, job.id)
            self._wait_for_room(claim)
            self.drain.wait(1.0)
            return None
        except BadInput as error:
            outcome = Outcome(State.FAILED, reason="missing-file", error=str(error))
            self._finish(batch, claim, outcome)
            return None
        model = self.store.get_model(digests.get("model", ""), job.tenant)
        return Task.of(job, digests, files, folder, facts=model is not None and not model.facts)

    def _digests(self, claim: Claim) -> dict[str, str]:
        job = claim.job
        found = {n: str(job.request[n]) for n in INPUTS if job.request.get(n)}
        other = job.request.get("certificate_of")
        if other is not None and "certificate" not in found:
            try:
                made = self.store.get(str(other), job.tenant).artifact("certificate")
            except UnknownJob as error:
                raise BadInput(str(error)) from None
            if made is None:
                raise BadInput(f"job {other} left no certificate; ask for one with options.certificate")
            found["certificate"] = made.sha256
        kept = job.artifact(CHECKPOINT)
        if kept is not None and self.artifacts.has(kept.sha256):
            found[CHECKPOINT] = kept.sha256
        return found

    def _attend(self, batch: _Batch, child: Child, tasks: list[Task]) -> None:
        """Listens to a child until every job has ended, or it has."""
        child.give(tasks)
        while batch.running:
            message = child.next(min(self.limits.beat_s, max(batch.beat - time.monotonic(), 0.0)))
            if message is None:
                self._mourn(batch, child)
                return
            if "progress" in message:
                self._hear(batch, message)
            elif "ending" in message:
                self._end(batch, message["job"], message["ending"])
            if time.monotonic() >= batch.beat:
                self._beat(batch, child)
            if self._overdue(batch, child):
                return
        self._await_idle(batch, child)

    def _await_idle(self, batch: _Batch, child: Child) -> None:
        """The last word of a child that has answered everything; without it, it is not used again."""
        end = time.monotonic() + self.limits.stop_s
        while time.monotonic() < end:
            message = child.next(0.1)
            if message is None:
                break
            if "idle" in message:
                child.resident = int(message["idle"]["resident"])
                return
        batch.suspect = True

    def _hear(self, batch: _Batch, message: Json) -> None:
        running = batch.running.get(message["job"])
        if running is None:
            return
        running.news = Progress(**message["progress"])
        seconds = time.monotonic() - running.begun
        pause = next(pause for until, pause in PACE if seconds < until)
        if time.monotonic() - running.told >= pause:
            running.told = time.monotonic()
            self._signal(running, running.news)

    def _offer(self, batch: _Batch, child: Child, running: _Running) -> None:
        """Tells the child of a long search of workers without work: it may deal its search out."""
        job, now = running.claim.job, time.monotonic()
        if len(batch.running) > 1 or not cubes.may_share(job) or now < running.offer:
            return
        running.offer = now + self.limits.offer_s
        if now - running.begun < self.limits.alone_s:
            return
        with contextlib.suppress(StoreUnreachable):  # then it goes on alone
            idle = self.store.idle(job.queue)
            child.deal(min(idle + 1, cubes.MOST_WORKERS) if idle else 0)

    def _beat(self, batch: _Batch, child: Child) -> None:
        """A heartbeat for every job that the child has; none is waited for when the store is away."""
        batch.beat = time.monotonic() + self.limits.beat_s
        for running in batch.running.values():
            self._offer(batch, child, running)
        for running in batch.running.values():
            self._signal(running, None)

    def _signal(self, running: _Running, news: Progress | None) -> None:
        try:
            signal = self.store.heartbeat(running.claim, news, self.limits.lease_s)
        except StoreUnreachable:
            return  # the lease may end; then another attempt is begun and ours is refused
        running.cancel = running.cancel or signal is Signal.CANCEL
        running.lost = running.lost or signal is Signal.LOST

    def _overdue(self, batch: _Batch, child: Child) -> bool:
        """Asks the child to stop where it should, and ends it where it does not; whether it is ended."""
        now = time.monotonic()
        if batch.stopping is None:
            stop = any(r.cancel or r.lost for r in batch.running.values())
            batch.draining = self.drain.is_set()
            if not (stop or batch.draining or now > batch.deadline):
                return False
            batch.stopping = now
            child.cancel()
        if now - batch.stopping < self.limits.stop_s:
            return False
        child.terminate()
        # what it said in its last moments still counts
        while (message := child.next(0.1)) is not None:
            if "ending" in message:
                self._end(batch, message["job"], message["ending"])
        for running in list(batch.running.values()):
            self._stopped(batch, running, Ending(stopped=True))
        return True

    def _end(self, batch: _Batch, job: str, told: Json) -> None:
        running = batch.running.get(job)
        if running is None:
            return
        try:
            ending = Ending.from_json(told)
        except (KeyError, TypeError, ValueError) as error:
            batch.suspect = True
            words = f"its child answered in a form that is unknown ({error})"
            ending = Ending(reason="internal-error", error=words)
        batch.suspect = batch.suspect or ending.suspect
        if ending.returned:
            self._give_back(batch, running, counts=False)
            if ending.reason == NO_ROOM:
                self.drain.wait(1.0)
            return
        if ending.stopped:
            self._stopped(batch, running, ending)
            return
        self._keep_facts(running.claim, ending.facts)
        if ending.shards:
            self._deal(batch, running, ending)
            return
        self._finish(batch, running.claim, self._outcome(running, ending))

    def _deal(self, batch: _Batch, running: _Running, ending: Ending) -> None:
        """The job's search goes on as shards; those who cannot be stored leave it undecided."""
        claim = running.claim
        seconds = claim.job.budget.timeout_s - (time.monotonic() - running.begun)
        try:
            whole = self._kept(running.folder, Left(CHECKPOINT, CHECKPOINT, "application/zip"))
            files = [(self._kept(running.folder, left), nodes) for left, nodes in ending.shards]
            cubes.submit(self.store, claim, whole, files, seconds, self._announce)
        except (BadInput, LimitExceeded, StoreUnreachable, OSError) as error:
            words = f"its search could not be dealt out: {error}"
            self._finish(batch, claim, Outcome(State.FINISHED, Answer.UNKNOWN, "timeout", error=words))
            return
        batch.dealt.append(claim)
        self._remove(batch, claim.job.id)

    def _lead(self, claim: Claim) -> None:
        """Works on the shards of a job, until they decide it; its lease is kept meanwhile."""
        leader = cubes.Leader(self.store, claim, self.limits.beat_s, self.limits.lease_s)
        try:
            while True:
                shards = self._persist(lambda: cubes.group(self.store, claim.job)) or []
                outcome = cubes.decided(shards)
                if leader.signal is Signal.LOST:
                    return
                if leader.signal is Signal.CANCEL and all(s.state.final for s in shards):
                    outcome = outcome or Outcome(State.CANCELLED, reason="cancelled")
                if outcome is not None:
                    if self._persist(partial(self.store.finish, claim, outcome)):
                        cubes.drop_files(self.artifacts, shards)
                    return
                if cubes.closed(shards):
                    self._join(claim, shards)
                    return
                if self.drain.is_set():
                    self._persist(lambda: self.store.give_back(claim, None, counts=False))
                    return
                mine = self._next_shard(claim, shards)
                if mine is None:
                    leader.wait(self.limits.beat_s / 2)
                else:
                    self.run([mine])
        finally:
            leader.close()

    def _join(self, claim: Claim, shards: Sequence[Job]) -> None:
        """The verdict and the certificate of a job, by a child, from what its shards left."""
        try:
            more = cubes.parts(shards)
        except BadInput as error:
            outcome = Outcome(State.FAILED, reason="missing-file", error=str(error))
            self._persist(lambda: self.store.finish(claim, outcome))
            return
        self._run([claim], more)
        now = self._persist(lambda: self.store.get(claim.job.id, None))
        if now is not None and now.state.final:
            cubes.drop_files(self.artifacts, shards)

    def _next_shard(self, claim: Claim, shards: Sequence[Job]) -> Claim | None:
        for shard in shards:
            if shard.state is State.QUEUED:
                taken = self.store.claim_job(shard.id, claim.worker, self.limits.lease_s)
                if taken is not None:
                    return taken
        return None

    def _stopped(self, batch: _Batch, running: _Running, ending: Ending) -> None:
        """A job that did not get to its end: cancelled, out of time, or to be gone on with by another."""
        claim = running.claim
        if running.lost:
            self._remove(batch, claim.job.id)
        elif running.cancel:
            outcome = Outcome(State.CANCELLED, reason="cancelled", cpu_seconds=ending.cpu_seconds)
            self._finish(batch, claim, outcome)
        elif batch.draining or time.monotonic() <= batch.deadline:
            # drained, or another job of the batch was cancelled: none of its doing
            self._give_back(batch, running, counts=False)
        else:
            words = "it did not stop at its time limit and was ended"
            outcome = Outcome(State.FINISHED, Answer.UNKNOWN, "timeout", error=words)
            self._finish(batch, claim, outcome)

    def _mourn(self, batch: _Batch, child: Child) -> None:
        """The child has died: the job that it was working on counts an attempt, those behind it do not."""
        batch.suspect = True
        words = child.obituary()
        first = True
        for running in list(batch.running.values()):
            claim, culprit, first = running.claim, first, False
            if running.lost:
                self._remove(batch, claim.job.id)
            elif culprit and "SIGXCPU" in words:
                outcome = Outcome(
                    State.FINISHED, Answer.UNKNOWN, "timeout", error="its processor time is used up"
                )
                self._finish(batch, claim, outcome)
            elif culprit and not running.cancel and claim.attempt >= claim.job.max_attempts:
                text = f"its process ended unexpectedly in each of {claim.attempt} attempts ({words})"
                self._finish(batch, claim, Outcome(State.FAILED, reason="crashed", error=text))
            else:
                self._give_back(batch, running, counts=culprit)

    def _outcome(self, running: _Running, ending: Ending) -> Outcome:
        """What the store gets to know; files that cannot be kept do not change the verdict."""
        artifacts: list[Artifact] = []
        error = ending.error
        for left in ending.files:
            if left.name == CHECKPOINT and ending.answer is not Answer.UNKNOWN:
                continue
            try:
                artifacts.append(self._kept(running.folder, left))
            except (BadInput, LimitExceeded, StoreUnreachable, OSError) as problem:
                error = f"{error}; " * bool(error) + f"file '{left.name}' could not be kept: {problem}"
        if ending.answer is None:
            state = State.FAILED
        else:
            state = State.FINISHED
        return Outcome(
            state, ending.answer, ending.reason, ending.result, error, tuple(artifacts), ending.cpu_seconds
        )

    def _kept(self, folder: Path, left: Left) -> Artifact:
        """A child's file as an artefact. It is not trusted: links and ways out of its folder are refused."""
        # a report can be asked for again; evidence cannot
        sync = left.name not in ("report.json", "picture.svg")
        with open_below(folder, left.file) as file:
            return self.artifacts.put_file(file, left.name, left.media_type, sync=sync)

    def _keep_facts(self, claim: Claim, facts: Json | None) -> None:
        if not facts or claim.job.kind is Kind.SHARD:
            return
        digest = str(claim.job.request.get("model", ""))
        with contextlib.suppress(StoreUnreachable):  # they come with the next job
            self.store.set_facts(digest, facts, claim.job.tenant)

    def _give_back(self, batch: _Batch, running: _Running, *, counts: bool) -> None:
        checkpoint: Artifact | None = None
        if (running.folder / CHECKPOINT).is_file():
            left = Left(CHECKPOINT, CHECKPOINT, "application/zip")
            with contextlib.suppress(BadInput, LimitExceeded, StoreUnreachable):  # then it begins anew
                checkpoint = self._kept(running.folder, left)
        claim = running.claim
        self._persist(lambda: self.store.give_back(claim, checkpoint, counts=counts))
        self._remove(batch, claim.job.id)

    def _finish(self, batch: _Batch, claim: Claim, outcome: Outcome) -> None:
        done = self._persist(lambda: self.store.finish(claim, outcome))
        if done and claim.job.kind is Kind.SHARD and outcome.answer is Answer.FALSIFIED:
            self._persist(lambda: cubes.end_siblings(self.store, claim.job))
        self._remove(batch, claim.job.id)

    def _persist(self, call: Callable[[], T]) -> T | None:
        """Tells the store the end of a job, however long it is away; after that others take the job over."""
        end = time.monotonic() + self.limits.store_s
        while True:
            try:
                return call()
            except StoreUnreachable:
                if time.monotonic() >= end:
                    return None
            time.sleep(0.5)

    def _remove(self, batch: _Batch, job: str) -> None:
        running = batch.running.pop(job, None)
        if running is not None:
            shutil.rmtree(running.folder, ignore_errors=True)

    def _let_go(self, batch: _Batch, child: Child) -> None:
        if batch.suspect or batch.running or batch.stopping is not None:
            child.kill()
        else:
            child.home.take_back()
            self.pool.put(child)
