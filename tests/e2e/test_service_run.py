"""``verify serve`` as a process, from outside: real networks, real children, real verdicts, and kills."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

import httpx
from job_models import FAILS, HOLDS, absolute, box_property, hard
from service_server import wait_until

from service.client import Client
from verifier.check.main import check


class Served:
    """A server process on a folder; it can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        words = ["serve", "--port", str(self.port), "--data", self.folder.name, "--log-level", "warning"]
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "verifier.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            cwd=self.folder.parent,  # a relative folder of data, as by default
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("surebound listens on "), (self.folder / "log").read_text()
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def stop(self, sign: int) -> int:
        assert self.process is not None
        self.process.send_signal(sign)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("served"))
    one.start()
    yield one
    assert one.stop(signal.SIGTERM) == 0
    assert "defect" not in (one.folder / "log").read_text()


@pytest.fixture
def client(served: Served) -> Client:
    return Client(served.url)


def put(client: Client, data: bytes, folder: str = "models") -> str:
    digest = hashlib.sha256(data).hexdigest()
    answer = httpx.put(f"{client.server}/v1/{folder}/{digest}", content=data, trust_env=False)
    assert answer.status_code in (200, 201), answer.text
    return digest


def ask(client: Client, **body: Any) -> dict[str, Any]:
    """A job at its end."""
    job = client.submit({"timeout_s": 60, **body})
    return dict(client.wait(job.id, timeout_s=120).document)


def test_a_proof_that_the_checker_accepts(client: Client, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(absolute())
    (tmp_path / "p.vnnlib").write_text(HOLDS)
    job = client.wait(client.verify(tmp_path / "m.onnx", tmp_path / "p.vnnlib").id)
    assert (job.state, job.verdict) == ("finished", "verified")
    proof = client.fetch(job.id, "certificate", tmp_path / "c.sbcert")
    assert check(proof, {"": tmp_path / "m.onnx"}, tmp_path / "p.vnnlib").verdict == "unsat"
    # asked again, the proof is there at once
    again = client.verify(tmp_path / "m.onnx", tmp_path / "p.vnnlib")
    assert (again.state, again.document["cached_from"]) == ("finished", job.id)
    facts = httpx.get(f"{client.server}/v1/models", trust_env=False).json()["items"][0]["facts"]
    assert facts["supported"] is True


def test_a_counterexample(client: Client) -> None:
    job = ask(client, kind="verify", model=put(client, absolute()), property={"vnnlib": FAILS})
    assert (job["state"], job["verdict"]) == ("finished", "falsified")
    found = httpx.get(client.server + job["links"]["witness"], trust_env=False).json()
    x0, x1 = found["values"]["input"]
    assert abs(x0) <= 1 and abs(x1) <= 1 and abs(x0) + abs(x1) >= 1.5
    sarif = httpx.get(client.server + job["links"]["report.sarif"], trust_env=False).json()
    assert sarif["runs"][0]["results"][0]["ruleId"] == "SB001"


def test_robustness_of_a_decision(client: Client) -> None:
    model = put(client, absolute())  # y0 = |x0| + |x1| against y1 = x0

    def around(radius: str) -> dict[str, Any]:
        return {"robustness": {"input": [0.5, 0.5], "label": 0, "radius": radius, "norm": "inf"}}

    assert ask(client, kind="verify", model=model, property=around("1/4"))["verdict"] == "verified"
    assert ask(client, kind="verify", model=model, property=around("1"))["verdict"] == "falsified"


def test_the_other_kinds(client: Client) -> None:
    model = put(client, absolute())
    proved = ask(client, kind="verify", model=model, property={"vnnlib": HOLDS})
    checked = ask(client, kind="check", model=model, property={"vnnlib": HOLDS}, certificate_of=proved["id"])
    assert (checked["state"], checked["verdict"]) == ("finished", "verified"), checked
    bound = ask(client, kind="lipschitz", model=model, norm="2")
    assert bound["verdict"] == "verified", bound
    data = io.BytesIO()
    np.savez(data, x=np.float32([[0.5, 0.5], [0.5, 0.0]]), y=np.int64([0, 0]))
    swept = ask(client, kind="sweep", model=model, data=put(client, data.getvalue(), "files"), radii=["1/4"])
    assert swept["state"] == "finished" and swept["verdict"] in ("verified", "falsified", "unknown"), swept


def test_a_file_that_is_no_network_fails_its_job_only(client: Client) -> None:
    job = ask(client, kind="verify", model=put(client, b"no network"), property={"vnnlib": HOLDS})
    assert (job["state"], job["verdict"], job["reason"]) == ("failed", None, "model-invalid")
    assert "ONNX" in job["error"] or "onnx" in job["error"]
    assert ask(client, kind="verify", model=put(client, absolute()), property={"vnnlib": HOLDS}, fresh=True)[
        "verdict"
    ]


def test_a_running_job_is_cancelled(client: Client) -> None:
    body = {
        "kind": "verify",
        "model": put(client, hard()),
        "property": {"vnnlib": box_property(8, 1.0)},
        "timeout_s": 300,
    }
    job = client.submit(body).id
    wait_until(lambda: client.status(job).document["progress"] is not None)
    client.cancel(job)
    assert client.wait(job, timeout_s=60).state == "cancelled"


# after SIGKILL the lease has to run out first
@pytest.mark.parametrize("sign", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_server_that_dies_in_the_middle_loses_nothing(tmp_path: Path, sign: int) -> None:
    """The client follows one job through the death of the server and its return."""
    one = Served(tmp_path)
    one.start()
    client = Client(one.url, patience_s=120)
    model = put(client, hard())
    body = {"kind": "verify", "model": model, "property": {"vnnlib": box_property(8, 1.0)}, "timeout_s": 8,
            "options": {"certificate": False}}  # fmt: skip
    job = client.submit(body, idempotency_key="one").id
    wait_until(lambda: client.status(job).document["progress"] is not None)
    ended: list[Any] = []
    names: list[str] = []
    waiting = threading.Thread(
        target=lambda: ended.append(client.wait(job, on_event=lambda n, _: names.append(n)))
    )
    waiting.start()
    code = one.stop(sign)
    assert code == (0 if sign == signal.SIGTERM else -signal.SIGKILL)
    one.start()
    try:
        assert client.submit(body, idempotency_key="one").id == job
        waiting.join(180)
        assert not waiting.is_alive()
        assert ended[0].state == "finished", ended[0].document
        assert names.count("done") == 1
        assert ended[0].document["attempt"] == 2
    finally:
        assert one.stop(signal.SIGTERM) == 0
        assert list((tmp_path / "artifacts" / "drafts").iterdir()) == []
