"""The commands with a queue between them: API, a real Redis-compatible server, a Celery worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")
pytest.importorskip("celery", reason="pip install 'surebound[redis]'")

from job_models import FAILS, HOLDS, absolute
from queue_parts import redis

from service.client import Client


@pytest.mark.slow
def test_a_job_goes_through_the_broker_to_a_worker(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(absolute())
    (tmp_path / "holds.vnnlib").write_text(HOLDS)
    (tmp_path / "fails.vnnlib").write_text(FAILS)
    with redis(tmp_path / "redis") as server:
        shared = ["--data", str(tmp_path / "data"), "--broker", server.url]
        program = [sys.executable, "-m", "verifier.cli.main"]
        log = (tmp_path / "log").open("w")
        api = subprocess.Popen(
            [*program, "serve", "--port", "0", "--slots", "0", "--log-level", "warning", *shared],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert api.stdout is not None
        url = api.stdout.readline().split()[-1]
        worker = subprocess.Popen(
            [*program, "worker", *shared],
            stdout=log, stderr=log, start_new_session=True, env=os.environ | {"C_FORCE_ROOT": "1"},
        )  # fmt: skip
        try:
            client = Client(url)
            jobs = [
                client.verify(tmp_path / "m.onnx", tmp_path / f"{name}.vnnlib") for name in ("holds", "fails")
            ]
            ended = [client.wait(job.id, timeout_s=120) for job in jobs]
            assert [(j.state, j.verdict) for j in ended] == [
                ("finished", "verified"),
                ("finished", "falsified"),
            ], (tmp_path / "log").read_text()
        finally:
            for process in (worker, api):
                process.send_signal(signal.SIGTERM)
                process.wait(90)
            log.close()
            api.stdout.close()
    assert api.returncode == 0
