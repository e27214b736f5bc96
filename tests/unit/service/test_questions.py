"""From bodies to jobs: how many workers a search may be dealt out to."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from pydantic import ValidationError

from service.questions import new_job
from service.schemas import SweepJob, VerifyJob
from service.settings import Settings

BODY: dict[str, Any] = {"kind": "verify", "model": "ab" * 32, "property": {"vnnlib": "(assert true)"}}


def shards(most: int, **options: Any) -> Any:
    body = VerifyJob(**BODY, options=options)
    return new_job(body, Settings(max_shards=most), "local", None).request["options"]["shards"]


@pytest.mark.parametrize(
    ("most", "asked", "expected"), [(16, 4, 4), (16, 100, 16), (16, 0, 0), (1, 4, 1), (0, 4, 0)]
)
def test_shards_are_cut_to_the_limit(most: int, asked: int, expected: int) -> None:
    assert shards(most, shards=asked) == expected


@pytest.mark.parametrize(("most", "expected"), [(16, None), (2, None), (1, 0), (0, 0)])
def test_what_nobody_asked_for_is_left_to_workers_unless_it_is_forbidden(
    most: int, expected: int | None
) -> None:
    assert shards(most) == expected


def test_shards_do_not_change_the_question() -> None:
    one, two = (
        new_job(VerifyJob(**BODY, options={"shards": n}), Settings(), "local", None) for n in (None, 4)
    )
    assert (one.question, one.family) == (two.question, two.family)


def test_only_searches_are_dealt_out() -> None:
    with pytest.raises(ValidationError):
        VerifyJob(**BODY, options={"shards": -1})
    sweep = {"kind": "sweep", "model": "ab" * 32, "data": "cd" * 32, "radii": [0.1]}
    with pytest.raises(ValidationError):
        SweepJob(**sweep, options={"shards": 2})
    job = new_job(SweepJob(**sweep), Settings(), "local", None)
    assert "shards" not in job.request["options"]
