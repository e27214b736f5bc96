"""Jobs from submission to their files: real store, real children, real verdicts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")

from job_models import (
    FAILS,
    HOLDS,
    absolute,
    box_property,
    finished,
    hard,
    request,
    store_at,
    upload,
    wait_for,
)

from verifier.check.main import check
from workers.jobs.artifacts import Artifacts
from workers.jobs.model import Answer, Budget, Job, Kind, NewJob, State
from workers.jobs.store import JobStore
from workers.local import Supervisor

Place = tuple[JobStore, Artifacts]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A store with a supervisor at work."""
    store, artifacts = store_at(tmp_path_factory.mktemp("jobs"))
    supervisor = Supervisor(store, artifacts, slots=1)
    supervisor.start()
    yield store, artifacts
    supervisor.stop()
    store.close()


@pytest.fixture(scope="module")
def model(place: Place) -> str:
    return upload(*place, absolute())


def ask(place: Place, new: NewJob) -> Job:
    return finished(place[0], [place[0].submit(new)[0].id])[0]


def of_kind(kind: Kind, **asked: Any) -> NewJob:
    return NewJob("local", kind, asked, Budget(60.0, 2048))


def saved(place: Place, job: Job, name: str) -> Path:
    found = job.artifact(name)
    assert found is not None, job
    return place[1].file(found.sha256)


def test_a_proof_and_its_certificate(place: Place, model: str, tmp_path: Path) -> None:
    job = ask(place, request(model, HOLDS))
    assert (job.state, job.answer, job.error) == (State.FINISHED, Answer.VERIFIED, "")
    (tmp_path / "p.vnnlib").write_text(HOLDS)
    net = place[1].file(model)
    result = check(saved(place, job, "certificate"), {"": net}, tmp_path / "p.vnnlib")
    assert result.verdict == "unsat"
    assert json.loads(saved(place, job, "report.json").read_text())["verdict"] == "unsat"
    assert job.artifact("checkpoint") is None and job.cpu_seconds > 0
    again = of_kind(Kind.CHECK, model=model, certificate_of=job.id, property={"vnnlib": HOLDS})
    checked = ask(place, again)
    assert (checked.error, checked.answer, checked.result.get("claim")) == ("", Answer.VERIFIED, "unsat")
    wrong = ask(place, replace(again, request=again.request | {"property": {"vnnlib": FAILS}}))
    assert (wrong.answer, wrong.reason) == (Answer.UNKNOWN, "certificate-rejected")


def test_a_counterexample_with_values_and_shapes(place: Place, model: str) -> None:
    job = ask(place, request(model, FAILS))
    assert job.answer is Answer.FALSIFIED
    told = json.loads(saved(place, job, "witness.json").read_text())
    x = np.array(told["values"]["input"])
    assert np.abs(x).max() <= 1 and np.abs(x).sum() >= 1.5
    with np.load(saved(place, job, "witness.npz"), allow_pickle=False) as arrays:
        assert arrays["input"].shape == (1, 2) == tuple(told["shapes"]["input"])
        assert arrays["output"].shape == (1, 2)


@pytest.mark.parametrize(("radius", "answer"), [("1/4", Answer.VERIFIED), (0.75, Answer.FALSIFIED)])
@pytest.mark.parametrize("norm", ["inf", "2"])
def test_robustness_of_a_point(place: Place, model: str, radius: Any, answer: Answer, norm: str) -> None:
    # at (-0.5, 0) y0 - y1 = |x0| + |x1| - x0 = 1; they meet where x0 >= 0 and x1 = 0
    asked = {"input": [-0.5, 0.0], "label": 0, "radius": radius, "norm": norm, "clip": [-1, 1]}
    new = of_kind(Kind.VERIFY, model=model, property={"robustness": asked}, options={})
    assert ask(place, new).answer is answer


def test_what_the_network_is_made_of_is_read_off(place: Place, model: str) -> None:
    ask(place, request(model, HOLDS))
    found = place[0].get_model(model, "local")
    assert found is not None and found.facts["neurons"] == 4
    assert [o["name"] for o in found.facts["operators"]] == ["Gemm", "Relu"]
    assert len(found.facts["graph"]) > 3


def test_a_sweep(place: Place, model: str, tmp_path: Path) -> None:
    x = np.array([[-0.5, 0.0], [-0.75, 0.5], [0.5, 0.5]], dtype=np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.array([0, 0, 1]))
    data, _ = place[1].put_bytes((tmp_path / "d.npz").read_bytes())
    job = ask(place, of_kind(Kind.SWEEP, model=model, data=data, radii=["0.1", 0.6], norm="inf"))
    assert job.answer is Answer.FALSIFIED and job.result["clean"] == pytest.approx(2 / 3)
    assert [row["certified_count"] for row in job.result["radii"]] == [2, 1]
    rows = json.loads(saved(place, job, "report.json").read_text())["results"]
    assert [r["radii"] for r in rows] == [["certified", "broken"], ["certified", "certified"], ["broken"] * 2]


def test_a_lipschitz_constant(place: Place, model: str, tmp_path: Path) -> None:
    job = ask(place, of_kind(Kind.LIPSCHITZ, model=model, norm="2"))
    assert job.answer is Answer.VERIFIED
    # the gradient's rows are (+-1, +-1) and (1, 0): the largest norm is that of ((1, 1), (1, 0))
    assert 1.618 <= job.result["upper"] <= 1.8 * 1.618
    again = of_kind(Kind.CHECK, model=model, certificate_of=job.id)
    checked = ask(place, again)
    assert (checked.error, checked.result.get("claim")) == ("", "lipschitz")


@pytest.mark.torch
def test_training(place: Place) -> None:
    pytest.importorskip("torch", reason="pip install 'surebound[train]'")
    pytest.importorskip("sklearn", reason="pip install 'surebound[train]'")
    text = (
        "[data]\nsource = 'digits'\nflat = true\ntrain_limit = 64\ntest_limit = 16\n"
        "[model]\nhidden = [8]\n[train]\nepochs = 1\nbatch = 32\n[evaluate]\nattack_steps = 0\n"
    )
    job = ask(place, replace(of_kind(Kind.TRAIN, config=text), budget=Budget(120.0, 8192)))
    assert (job.answer, job.error) == (Answer.VERIFIED, "") and job.result["lipschitz"] == 1.0
    assert job.artifact("model.onnx") is not None


BAD = {
    "property-invalid": lambda m: request(m, "(assert"),
    "property-mismatch": lambda m: request(m, box_property(5, 1.0)),
    "missing-file": lambda _: request("ab" * 32, HOLDS),
    "bad-input": lambda m: of_kind(
        Kind.VERIFY, model=m, property={"robustness": {"input": [0.0], "label": 0, "radius": 1}}
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_requests_fail_with_a_reason(place: Place, model: str, reason: str) -> None:
    job = ask(place, BAD[reason](model))
    assert (job.state, job.answer, job.reason, job.attempt) == (State.FAILED, None, reason, 1)
    assert len(job.error) > 10


def test_what_is_no_model_fails_and_others_go_on(place: Place, model: str) -> None:
    broken = upload(*place, b"this is no ONNX file")
    job = ask(place, request(broken, HOLDS))
    assert (job.state, job.reason) == (State.FAILED, "model-invalid")
    assert ask(place, request(model, HOLDS)).answer is Answer.VERIFIED


def test_a_damaged_model_is_not_verified(place: Place) -> None:
    model = upload(*place, hard(2, 4, seed=9))
    place[1].file(model).write_bytes(absolute())
    job = ask(place, request(model, HOLDS))
    assert (job.state, job.reason) == (State.FAILED, "bad-input") and "damaged" in job.error


def test_a_time_limit_leaves_a_checkpoint(place: Place) -> None:
    model = upload(*place, hard())
    job = ask(place, request(model, box_property(8, 1.0), timeout_s=2.0))
    if job.answer is Answer.UNKNOWN:
        assert job.reason == "timeout" and job.artifact("checkpoint") is not None
        assert 0 <= job.result["closed_fraction"] < 1
    assert job.progress is not None and job.progress.domains > 0


def test_cancelling_a_running_job(place: Place) -> None:
    model = upload(*place, hard(12, 60, seed=1))
    job = place[0].submit(request(model, box_property(12, 3.0), timeout_s=300))[0].id
    wait_for(lambda: place[0].get(job, None).progress is not None)
    place[0].cancel(job, "local")
    assert finished(place[0], [job], 20)[0].state is State.CANCELLED


def test_memory_is_limited(place: Place) -> None:
    model = upload(*place, hard(12, 900, seed=2))
    new = request(model, box_property(12, 3.0), timeout_s=60)
    job = ask(place, replace(new, budget=Budget(60.0, 8)))
    assert (job.state, job.reason) == (State.FAILED, "out-of-memory"), job
    assert "memory_mb" in job.error


def test_the_child_knows_no_secrets(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from workers.children import Child

    monkeypatch.setenv("SUREBOUND_SECRET", "hidden")
    child = Child(tmp_path)
    try:
        message = child.next(60)
        assert message is not None and "files" in message["ready"]["given_up"]
        seen = Path(f"/proc/{child.pid}/environ")
        if seen.exists():
            assert b"hidden" not in seen.read_bytes()
        assert os.getsid(child.pid) == child.pid
    finally:
        child.kill()
