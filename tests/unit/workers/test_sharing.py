"""When a child deals its search out: as it was told to, or when there are workers without work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job_models import box_property, hard

from verifier.search import checkpoint
from verifier.search.shards import open_nodes
from workers.cubes import PER_WORKER, may_share
from workers.jobs.model import Answer, Budget, Job, Kind, Progress, State
from workers.kinds import run_of
from workers.task import Ending, Task

MODEL = hard(8, 60, seed=1)


class Parent:
    """What a worker tells its child: how many workers wait, and whether to stop."""

    def __init__(self, wanted: int = 0, *, stop: bool = False) -> None:
        self._wanted, self._stop, self.most = wanted, stop, 0

    def progress(self, now: Progress) -> None:
        self.most = max(self.most, now.open)

    def cancelled(self) -> bool:
        return self._stop

    def wanted(self) -> int:
        return self._wanted


def searched(
    folder: Path, parent: Parent, bound: float = 1.7, domains: int | None = None, **options: Any
) -> Ending:
    """A search that takes a while and ends in a proof."""
    folder.mkdir(exist_ok=True)
    (folder / "net").write_bytes(MODEL)
    from hashlib import sha256

    request: Mapping[str, Any] = {"property": {"vnnlib": box_property(8, bound)}, "options": options}
    task = Task(
        "j", "verify", dict(request), 300.0, 2048, domains, {"model": sha256(MODEL).hexdigest()},
        {"model": str(folder / "net")}, str(folder),
    )  # fmt: skip
    return run_of(Kind.VERIFY)(task, parent)


def test_idle_workers_get_a_share(tmp_path: Path) -> None:
    parent = Parent(2)
    ending = searched(tmp_path, parent)
    assert ending.answer is None and len(ending.shards) == 2 * PER_WORKER
    whole = checkpoint.load(tmp_path / "checkpoint")
    assert sum(nodes for _, nodes in ending.shards) == open_nodes(whole)
    shards = [checkpoint.load(tmp_path / left.file) for left, _ in ending.shards]
    assert all(s.dealt is not None and s.dealt.of == whole.digest for s in shards)
    assert whole.kept is not None and all(s.kept is not None for s in shards)


@pytest.mark.parametrize(("wanted", "options"), [(0, {}), (1, {}), (2, {"shards": 0}), (2, {"shards": 1})])
def test_others_are_searched_alone(wanted: int, options: Mapping[str, Any], tmp_path: Path) -> None:
    ending = searched(tmp_path, Parent(wanted), split_after_s=0.0, **options)
    assert ending.answer is Answer.VERIFIED and not ending.shards


def test_what_was_asked_for_is_dealt_out_without_anybody_waiting(tmp_path: Path) -> None:
    ending = searched(tmp_path, Parent(0), shards=3, split_after_s=0.0)
    assert len(ending.shards) == 3 * PER_WORKER


def test_too_little_is_not_dealt_out(tmp_path: Path) -> None:
    """With fewer open subproblems than shards some workers would go away empty."""
    parent = Parent(10_000)
    assert searched(tmp_path, parent).answer is Answer.VERIFIED
    assert parent.most < 10_000 * PER_WORKER


def test_what_is_cancelled_is_not_dealt_out(tmp_path: Path) -> None:
    ending = searched(tmp_path, Parent(2, stop=True))
    assert ending.stopped and not ending.shards


def test_without_a_wish_for_a_certificate_no_evidence_is_kept(tmp_path: Path) -> None:
    ending = searched(tmp_path, Parent(2), certificate=False)
    assert ending.shards and checkpoint.load(tmp_path / "checkpoint").kept is None


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (Kind.VERIFY, {}, True),
        (Kind.VERIFY, {"shards": None}, True),
        (Kind.VERIFY, {"shards": 0}, False),
        (Kind.VERIFY, {"shards": 2}, False),
        (Kind.SHARD, {}, False),
        (Kind.SWEEP, {}, False),
    ],
)
def test_what_may_be_dealt_out_unasked(kind: Kind, options: Mapping[str, Any], *, expected: bool) -> None:
    request = {"options": dict(options)}
    job = Job("j", "t", kind, State.RUNNING, request, Budget(1, 64), "short", 0, 1, 3, 1, 0.0)
    assert may_share(job) is expected
    assert not may_share(replace(job, budget=Budget(1, 64, 1000)))  # one that is to be repeatable
