"""The REST API over real HTTP, on a real database. The test is the worker: it claims and finishes jobs."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

import httpx
from service_server import DIGEST, MODEL, Running, body, bomb, put, serving, submit
from sqlalchemy import event

from service.schemas import JobView, ModelView
from workers.jobs.model import Answer, Progress


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"max_upload": 200_000, "max_unpacked": 1_000_000, "max_body": 60_000, "max_property": 30_000}
    with serving(tmp_path_factory.mktemp("open"), **limits) as running:
        yield running


@pytest.fixture
def server(open_server: Running) -> Iterator[Running]:
    """The shared server without jobs left open by another test."""
    yield open_server
    while (claim := open_server.store.claim("cleaner", ["short", "long", "gpu"], 30.0)) is not None:
        open_server.finish(claim, Answer.UNKNOWN)


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that wants keys."""
    with serving(tmp_path_factory.mktemp("closed"), require_keys=True) as running:
        yield running


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["type"].rpartition(":")[2] == kind, found
    assert found["status"] == status and found["request_id"] == answer.headers["x-request-id"]
    return found


# models


def test_a_model_is_stored_once_and_comes_back_unchanged(client: httpx.Client) -> None:
    data = b"first model"
    digest = hashlib.sha256(data).hexdigest()
    first = client.put(f"/v1/models/{digest}", content=data, headers={"X-File-Name": "a.onnx"})
    assert first.status_code == 201 and first.headers["location"] == f"/v1/models/{digest}"
    assert ModelView.model_validate(first.json(), strict=True).name == "a.onnx"
    assert client.put(f"/v1/models/{digest}", content=data).status_code == 200
    assert client.get(first.json()["links"]["content"]).content == data
    assert digest in [m["sha256"] for m in client.get("/v1/models").json()["items"]]


def test_another_digest_is_refused_and_leaves_nothing(client: httpx.Client, server: Running) -> None:
    wrong = "0" * 64
    problem(client.put(f"/v1/models/{wrong}", content=b"x"), 422, "digest-mismatch")
    problem(client.get(f"/v1/models/{wrong}"), 404, "unknown-file")
    assert not server.artifacts.has(wrong)
    assert list((server.artifacts.path / "drafts").iterdir()) == []


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "A" * 64, "0" * 63, "%00" * 64, "0" * 64 + "%0a"])
def test_only_digests_name_files(client: httpx.Client, path: str) -> None:
    assert client.put(f"/v1/models/{path}", content=b"x").status_code in (404, 405, 422)
    assert client.get(f"/v1/models/{path}").status_code in (404, 422)


def test_files_are_listed_apart(client: httpx.Client) -> None:
    digest = put(client, b"a data set", "files")
    assert digest not in [m["sha256"] for m in client.get("/v1/models").json()["items"]]
    assert digest in [m["sha256"] for m in client.get("/v1/files").json()["items"]]


def test_models_are_listed_in_pages(client: httpx.Client) -> None:
    wanted = {put(client, f"model {i}".encode()) for i in range(5)}
    put(client, b"between them", "files")
    seen: list[str] = []
    url = "/v1/models?limit=2"
    while url:
        answer = client.get(url)
        seen += [m["sha256"] for m in answer.json()["items"]]
        link = answer.headers.get("link", "")
        assert bool(link) == bool(answer.json()["next_cursor"])
        url = link.partition("<")[2].partition(">")[0]
    assert len(seen) == len(set(seen)) and wanted <= set(seen)


def test_a_model_that_is_deleted_is_gone(client: httpx.Client) -> None:
    digest = put(client, b"to be deleted")
    assert client.delete(f"/v1/models/{digest}").status_code == 204
    problem(client.get(f"/v1/models/{digest}"), 404, "unknown-file")
    problem(client.delete(f"/v1/models/{digest}"), 404, "unknown-file")


# limits


def test_an_upload_over_the_limit_is_refused_by_its_announced_length(client: httpx.Client) -> None:
    problem(client.put(f"/v1/models/{DIGEST}", content=bytes(200_001)), 413, "too-large")


def test_an_upload_over_the_limit_is_refused_while_streaming(client: httpx.Client, server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield bytes(1000)

    problem(client.put(f"/v1/models/{DIGEST}", content=chunks()), 413, "too-large")
    assert list((server.artifacts.path / "drafts").iterdir()) == []


@pytest.mark.parametrize("members", [1, 3])
def test_a_gzip_bomb_is_refused(client: httpx.Client, members: int) -> None:
    data = bomb(2_000_000 // members) * members
    assert len(data) < 10_000
    answer = client.put(f"/v1/models/{hashlib.sha256(data).hexdigest()}", content=data)
    assert "unpacks to more" in problem(answer, 413, "too-large")["detail"]


def test_an_honest_gzip_file_is_stored_as_it_is(client: httpx.Client) -> None:
    data = gzip.compress(b"small")
    assert client.get(f"/v1/models/{put(client, data)}/content").content == data


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"kind": "verify", "x": "'
        for _ in range(100):
            yield b"a" * 1000

    headers = {"content-type": "application/json"}
    problem(client.post("/v1/jobs", content=chunks(), headers=headers), 413, "too-large")
    problem(client.post("/v1/jobs", content=b"a" * 60_001, headers=headers), 413, "too-large")


def test_a_property_over_the_limit_is_refused(client: httpx.Client) -> None:
    put(client)
    long = body(property={"vnnlib": "; " + "a" * 30_000})
    problem(client.post("/v1/jobs", json=long), 413, "too-large")


def test_a_content_length_that_lies_gets_no_answer_of_success(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(
            f"PUT /v1/models/{DIGEST} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50\r\n\r\nshort".encode()
        )
        raw.shutdown(socket.SHUT_WR)
        assert b" 20" not in raw.recv(1000)[:20]
    assert list((server.artifacts.path / "drafts").iterdir()) == []


def test_bytes_have_a_quota(tmp_path: Path) -> None:
    with serving(tmp_path, quota_bytes=100) as running, running.client() as client:
        put(client, b"a" * 90)
        digest = hashlib.sha256(b"b" * 20).hexdigest()
        answer = client.put(f"/v1/models/{digest}", content=b"b" * 20)
        problem(answer, 429, "quota-exceeded")
        assert answer.headers["retry-after"]
        unannounced = client.put(f"/v1/models/{digest}", content=iter([b"b" * 20]))
        problem(unannounced, 429, "quota-exceeded")
        problem(client.get(f"/v1/models/{digest}"), 404, "unknown-file")
        put(client, b"a" * 90)  # what is there already takes no more room


def test_queued_jobs_have_a_quota(tmp_path: Path) -> None:
    with serving(tmp_path, quota_queued=2) as running, running.client() as client:
        submit(client)
        submit(client)
        problem(client.post("/v1/jobs", json=body()), 429, "quota-exceeded")


# jobs


def test_a_job_from_its_submission_to_its_certificate(client: httpx.Client, server: Running) -> None:
    put(client)
    answer = client.post("/v1/jobs", json=body(fresh=True))
    job = answer.json()
    where = f"/v1/jobs/{job['id']}"
    assert (
        answer.status_code == 202
        and answer.headers["location"] == where
        and answer.headers["retry-after"] == "1"
    )
    assert (job["state"], job["verdict"]) == ("queued", None)
    problem(client.get(where + "/result"), 409, "job-not-finished")
    problem(client.get(where + "/report.json"), 409, "job-not-finished")

    claim = server.claim()
    assert claim.job.request["property"]["vnnlib"] == body()["property"]["vnnlib"]
    assert "timeout_s" not in claim.job.request and claim.job.budget.timeout_s == 5
    assert client.get(where).json()["state"] == "running"
    proof = server.keep("certificate", b"the proof", "application/zip")
    server.finish(claim, result={"domains": 7, "bound": None}, artifacts=(proof,), cpu_seconds=0.5)

    done = client.get(where)
    assert "retry-after" not in done.headers
    view = JobView.model_validate(done.json(), strict=True)
    assert (view.state, view.verdict, view.attempt) == ("finished", "verified", 1)
    assert view.result == {"domains": 7, "bound": None}
    assert view.started is not None and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", view.started)
    got = client.get(view.links["certificate"])
    assert got.content == b"the proof" and got.headers["etag"] == f'"sha256:{proof.sha256}"'
    assert "immutable" in got.headers["cache-control"] and "attachment" in got.headers["content-disposition"]
    unchanged = client.get(view.links["certificate"], headers={"If-None-Match": got.headers["etag"]})
    assert unchanged.status_code == 304
    problem(client.get(where + "/witness"), 404, "no-such-artifact")
    assert client.get(where + "/result").json() == done.json()


def test_a_failed_job_has_no_verdict_and_is_still_there(client: httpx.Client, server: Running) -> None:
    where = submit(client, fresh=True)["links"]["self"]
    server.finish(server.claim(), None, reason="bad-input", error="not ONNX")
    job = client.get(where).json()
    assert (job["state"], job["verdict"], job["reason"], job["error"]) == (
        "failed",
        None,
        "bad-input",
        "not ONNX",
    )


def test_polling_with_an_etag_costs_nothing_until_something_changes(
    client: httpx.Client, server: Running
) -> None:
    where = submit(client, fresh=True)["links"]["self"]
    tag = client.get(where).headers["etag"]
    same = client.get(where, headers={"If-None-Match": tag})
    assert same.status_code == 304 and same.content == b"" and same.headers["etag"] == tag
    server.claim()
    changed = client.get(where, headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag


def test_a_repeated_idempotency_key_is_the_same_job(client: httpx.Client) -> None:
    put(client)
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/jobs", json=body(fresh=True), headers=headers)
    again = client.post("/v1/jobs", json=body(fresh=True), headers=headers)
    assert again.status_code == 202 and again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    problem(client.post("/v1/jobs", json=body(timeout_s=6), headers=headers), 422, "idempotency-key-reused")


def test_jobs_are_listed_newest_first_in_pages_and_by_state(client: httpx.Client, server: Running) -> None:
    made = [submit(client, fresh=True)["id"] for _ in range(5)]
    url, seen = "/v1/jobs?limit=2&state=queued&state=running", []
    while url:
        answer = client.get(url)
        seen += [j["id"] for j in answer.json()["items"]]
        url = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
    assert [j for j in seen if j in made] == made[::-1] and len(seen) == len(set(seen))
    assert client.get("/v1/jobs?state=cancelled&limit=1").status_code == 200
    assert client.get("/v1/jobs?cursor=AAAA").status_code == 422


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_when_its_worker_stops(
    client: httpx.Client, server: Running
) -> None:
    queued = submit(client, fresh=True)["id"]
    answer = client.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    running = submit(client, fresh=True)["id"]
    claim = server.claim()
    asked = client.post(f"/v1/jobs/{running}/cancel")
    assert (asked.status_code, asked.json()["state"], asked.json()["cancel_requested"]) == (
        202,
        "running",
        True,
    )
    problem(client.delete(f"/v1/jobs/{running}"), 409, "job-not-finished")
    server.finish(claim, Answer.UNKNOWN)
    assert client.post(f"/v1/jobs/{running}/cancel").status_code == 200
    assert client.delete(f"/v1/jobs/{running}").status_code == 204
    problem(client.get(f"/v1/jobs/{running}"), 404, "unknown-job")


def test_limits_are_cut_to_the_policy_and_told(client: httpx.Client) -> None:
    job = submit(client, timeout_s=1e9, memory_mb=1 << 30, max_domains=5, fresh=True)
    assert job["budget"] == {"timeout_s": 14400.0, "memory_mb": 16384, "max_domains": 5}
    assert job["queue"] == "long"


# what is refused, and how


def test_a_mistake_in_a_property_is_told_with_its_place(client: httpx.Client) -> None:
    put(client)
    wrong = body(property={"vnnlib": "(declare-const X_0 Real)\n(assert (<= X_0 zero))\n"})
    found = problem(client.post("/v1/jobs", json=wrong), 422, "property-invalid")
    assert found["errors"][0] | {"detail": ""} == {
        "pointer": "/property/vnnlib", "line": 2, "column": 17, "detail": "",
    }  # fmt: skip


def test_a_mistake_in_vnnlib_2_is_told_with_its_place(client: httpx.Client) -> None:
    pytest.importorskip("vnnlib", reason="pip install 'surebound[vnnlib2]'")
    put(client)
    declared = "(vnnlib-version <2.0>)\n(declare-network n (declare-input X float32 [1])\n"
    text = declared + " (declare-output Y float32 [1]))\n(assert (>= Z[0] 3.0))\n"
    found = problem(client.post("/v1/jobs", json=body(property={"vnnlib": text})), 422, "property-invalid")
    assert found["errors"][0] | {"detail": ""} == {
        "pointer": "/property/vnnlib", "line": 4, "column": 13, "detail": "",
    }  # fmt: skip
    good = body(property={"vnnlib": text.replace("Z[0]", "Y[0]")}, fresh=True)
    assert client.post("/v1/jobs", json=good).status_code == 202


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "dance"},
        {"timeout_s": float("nan")},
        {"timeout_s": -1},
        {"timeout_s": ""},
        {"model": "../../etc/passwd"},
        {"property": {}},
        {"property": {"vnnlib": "x", "robustness": {"input": [0], "label": 0, "radius": 1}}},
        {"property": {"robustness": {"input": [float("inf")], "label": 0, "radius": 1}}},
        {"property": {"robustness": {"input": [0], "label": 0, "radius": "1/0"}}},
        {"property": {"robustness": {"input": [0], "label": 0, "radius": 1, "clip": [1, 0]}}},
        {"property": {"vnnlib": "\ud800"}},
        {"property": {"vnnlib": "a\0b"}},
        {"options": {"semantics": "nominal"}},
        {"unknown": 1},
        {"\ud800": 1},
        {"priority": 10**400},
    ],
)
def test_malformed_bodies_are_told_where(client: httpx.Client, wrong: dict[str, Any]) -> None:
    put(client)
    sent = json.dumps(
        body(**wrong)
    ).encode()  # Python's JSON writes NaN and lone surrogates, as an attacker may
    answer = client.post("/v1/jobs", content=sent, headers={"content-type": "application/json"})
    assert problem(answer, 422, "invalid-request")["errors"][0]["pointer"].startswith("/")


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"kind":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_json_is_refused(client: httpx.Client, sent: bytes) -> None:
    answer = client.post("/v1/jobs", content=sent[:50_000], headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_headers_of_errors_are_kept(client: httpx.Client) -> None:
    answer = client.patch("/v1/jobs")
    assert answer.status_code == 405 and answer.headers["allow"]
    assert client.get("/nowhere").headers["content-type"] == "application/problem+json"


def test_every_answer_carries_the_policy_of_content_and_an_id(client: httpx.Client) -> None:
    for path in ("/livez", "/v1/jobs", "/nowhere", "/v1/openapi.json"):
        headers = client.get(path, headers={"X-Request-ID": "mine-1"}).headers
        assert (
            "script-src 'self'" in headers["content-security-policy"] and headers["x-request-id"] == "mine-1"
        )
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/livez", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_a_foreign_page_cannot_use_a_server_without_keys(client: httpx.Client) -> None:
    problem(client.get("/v1/jobs", headers={"Host": "evil.example"}), 421, "wrong-host")
    problem(client.get("/v1/jobs", headers={"Host": "127.0.0.1.evil.example"}), 421, "wrong-host")
    crossed = client.post("/v1/jobs", json=body(), headers={"Origin": "https://evil.example"})
    problem(crossed, 403, "foreign-origin")


# keys and tenants


def test_without_a_key_nothing_is_told(closed: Running) -> None:
    with closed.client() as client:
        for path in ("/v1/jobs", "/v1/models", "/v1/capabilities", "/metrics"):
            answer = client.get(path)
            problem(answer, 401, "key-needed")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        problem(client.put(f"/v1/models/{DIGEST}", content=MODEL), 401, "key-needed")
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize("key", ["sb_0123456789ab_" + "a" * 43, "sb_x", "nonsense", "sb_../_" + "a" * 43])
def test_a_wrong_key_is_refused(closed: Running, key: str) -> None:
    with closed.client(key) as client:
        problem(client.get("/v1/jobs"), 401, "key-unknown")
    with closed.client() as client:
        problem(client.get("/v1/jobs", headers={"Authorization": "Basic YTpi"}), 401, "key-unknown")


def test_a_wrong_secret_and_a_revoked_key_are_refused(closed: Running) -> None:
    key = closed.key("a")
    head, _, _ = key.rpartition("_")
    identity = key.split("_")[1]
    with closed.client(f"sb_{identity}_" + "A" * 43) as client:
        problem(client.get("/v1/jobs"), 401, "key-unknown")
    with closed.client(key) as client:
        assert client.get("/v1/jobs").status_code == 200
        closed.store.revoke_key(identity)
        problem(client.get("/v1/jobs"), 401, "key-unknown")
    assert head and key.split("_", 2)[2] not in str(closed.store.keys())


def test_scopes_are_enforced(closed: Running) -> None:
    with closed.client(closed.key("a", "jobs:read")) as client:
        assert client.get("/v1/jobs").status_code == 200
        for answer in (
            client.put(f"/v1/models/{DIGEST}", content=MODEL),
            client.post("/v1/jobs", json=body()),
            client.post("/v1/jobs/j1/cancel"),
            client.delete("/v1/jobs/j1"),
            client.get("/metrics"),
        ):
            problem(answer, 403, "scope-missing")
    with closed.client(closed.key("a", "metrics:read")) as client:
        assert client.get("/metrics").status_code == 200
        problem(client.get("/v1/jobs"), 403, "scope-missing")


def test_another_tenants_things_do_not_exist(closed: Running) -> None:
    with closed.client(closed.key("alice")) as alice, closed.client(closed.key("bob")) as bob:
        job = submit(alice, fresh=True)["id"]
        proof = closed.keep("certificate", b"alice's proof")
        closed.finish(closed.claim(), artifacts=(proof,))
        paths = ["", "/result", "/events", "/certificate", "/witness", "/report.json", "/report.html",
                 "/artifacts/certificate"]  # fmt: skip
        missing = bob.get("/v1/jobs/j000000000000000000000000")
        for path in paths:
            assert alice.get(f"/v1/jobs/{job}{path}").status_code in (200, 404)
            answer = bob.get(f"/v1/jobs/{job}{path}")
            found = problem(answer, 404, "unknown-job")
            same = missing.json()["detail"].replace("j000000000000000000000000", job)
            assert found["detail"] == same and set(answer.headers) == set(missing.headers)
        problem(bob.post(f"/v1/jobs/{job}/cancel"), 404, "unknown-job")
        problem(bob.delete(f"/v1/jobs/{job}"), 404, "unknown-job")
        assert bob.get("/v1/jobs").json()["items"] == []
        assert bob.get("/v1/models").json()["items"] == []
        problem(bob.get(f"/v1/models/{DIGEST}/content"), 404, "unknown-file")
        # neither the model nor the answer of another tenant may be used, nor may it show that it is known
        problem(bob.post("/v1/jobs", json=body()), 404, "unknown-file")
        check = {"kind": "check", "model": DIGEST, "certificate": proof.sha256}
        assert bob.put(f"/v1/models/{DIGEST}", content=MODEL).status_code == 201
        problem(bob.post("/v1/jobs", json=check), 404, "unknown-file")
        problem(
            bob.post("/v1/jobs", json={**check, "certificate_of": job} | {"certificate": None}),
            404,
            "unknown-job",
        )
        assert bob.post("/v1/jobs", json=body()).json()["cached_from"] is None
        bob.delete(f"/v1/models/{DIGEST}")
        assert alice.get(f"/v1/models/{DIGEST}/content").content == MODEL


def test_a_missing_thing_and_anothers_cost_the_same_work(closed: Running) -> None:
    """Nothing to be timed: the same statements are asked of the database, and no file is looked at."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, text: str, *_: object) -> None:
        asked.append(text)

    alice, bob = closed.client(closed.key("alice")), closed.client(closed.key("bob"))
    with alice, bob:
        job = submit(alice, fresh=True)["id"]
        proof = closed.keep("certificate", b"proof to be timed")
        closed.finish(closed.claim(), artifacts=(proof,))
        put(alice, b"alice's network")
        bob.get("/v1/jobs")  # the use of the key is noted
        event.listen(closed.store._db.engine, "before_cursor_execute", note)
        try:
            calls = [
                ("GET", "jobs", rest) for rest in ("", "/result", "/events", "/certificate", "/report.json")
            ]
            calls += [("POST", "jobs", "/cancel"), ("DELETE", "jobs", "")]
            calls += [("GET", "models", ""), ("GET", "models", "/content"), ("DELETE", "models", "")]
            for method, kind, rest in calls:
                theirs = job if kind == "jobs" else hashlib.sha256(b"alice's network").hexdigest()
                nobodys = "j" + "0" * 24 if kind == "jobs" else "0" * 64
                work: list[list[str]] = []
                for name in (theirs, nobodys):
                    asked.clear()
                    answer = bob.request(method, f"/v1/{kind}/{name}{rest}", headers={"If-None-Match": '"x"'})
                    assert answer.status_code == 404
                    work.append(list(asked))
                assert work[0] == work[1] and work[0], (method, kind, rest)
        finally:
            event.remove(closed.store._db.engine, "before_cursor_execute", note)


def test_a_key_that_calls_too_often_is_told_to_wait(tmp_path: Path) -> None:
    with (
        serving(tmp_path, require_keys=True, rate_per_s=0.01, rate_burst=3) as running,
        running.client(running.key("a")) as hasty,
        running.client(running.key("a")) as other,
    ):
        assert [hasty.get("/v1/jobs").status_code for _ in range(3)] == [200] * 3
        answer = hasty.get("/v1/jobs")
        problem(answer, 429, "too-many-requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 100
        assert other.get("/v1/jobs").status_code == 200
        assert hasty.get("/livez").status_code == 200


# answers that are there already


def test_the_same_question_is_answered_at_once(client: httpx.Client, server: Running) -> None:
    limits = {"memory_mb": 701}  # a family of its own among this server's jobs
    first = submit(client, **boxed(-9.0, 9.0), **limits)
    proof = server.keep("certificate", b"cached proof")
    server.finish(server.claim(), artifacts=(proof,))
    # neither limits nor seeds make a decided answer wrong
    again = submit(client, **boxed(-9.0, 9.0), timeout_s=77, options={"seed": 9})
    assert (again["state"], again["verdict"], again["cached_from"]) == ("finished", "verified", first["id"])
    assert client.get(again["links"]["certificate"]).content == b"cached proof"
    for different in ({"options": {"semantics": "float32"}}, {"fresh": True}, boxed(-9.0, 9.5)):
        assert submit(client, **{**boxed(-9.0, 9.0), **limits, **different})["state"] == "queued"


def test_an_answer_without_the_wanted_evidence_is_not_reused(client: httpx.Client, server: Running) -> None:
    asked = {**boxed(-8.0, 10.0), "memory_mb": 702}
    submit(client, **asked, options={"certificate": False})
    server.finish(server.claim())
    assert submit(client, **asked)["state"] == "queued"
    assert submit(client, **asked, options={"certificate": False})["state"] == "finished"


def test_undecided_answers_are_not_reused(client: httpx.Client, server: Running) -> None:
    asked = {**boxed(-7.0, 11.0), "memory_mb": 703}
    submit(client, **asked)
    server.finish(server.claim(), Answer.UNKNOWN)
    assert submit(client, **asked)["state"] == "queued"


def boxed(low: float, high: float) -> dict[str, Any]:
    text = body()["property"]["vnnlib"].replace("<= X_0 1.0", f"<= X_0 {high}").replace("-1.0", str(low))
    return {"property": {"vnnlib": text}}


def test_a_proof_of_more_answers_at_once(client: httpx.Client, server: Running) -> None:
    limits = {"memory_mb": 777}  # a family of its own among this server's jobs
    first = submit(client, **boxed(-2.0, 2.0), **limits)
    proof = server.keep("certificate", b"proof of more")
    server.finish(server.claim(), artifacts=(proof,))
    less = submit(client, **boxed(-1.0, 0.5), **limits)
    assert (less["verdict"], less["cached_from"]) == ("verified", first["id"])
    assert submit(client, **boxed(-1.0, 2.5), **limits)["state"] == "queued"
    float32 = {"options": {"semantics": "float32"}}
    assert submit(client, **boxed(-1.0, 0.25), **limits, **float32)["state"] == "queued"


def test_a_stored_counterexample_answers_where_it_counts(client: httpx.Client, server: Running) -> None:
    limits = {"memory_mb": 778}
    first = submit(client, **boxed(-4.0, 4.0), **limits)
    found = {"kind": "replayed", "values": {"input": [1.5], "output": [6.0]}}
    witness = server.keep("witness.json", json.dumps(found).encode())
    server.finish(server.claim(), Answer.FALSIFIED, artifacts=(witness,))
    inside = submit(client, **boxed(1.0, 3.0), **limits)
    assert (inside["verdict"], inside["cached_from"]) == ("falsified", first["id"])
    assert client.get(inside["links"]["witness"]).json() == found
    assert submit(client, **boxed(-2.0, 1.0), **limits)["state"] == "queued"


# events


def events(answer: httpx.Response, most: int = 1000) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, name, data) of a stream, up to so many."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
            fields = {}
            if len(found) == most:
                break
    return found


def test_events_begin_with_the_job_and_resume_after_the_last_one_seen(
    client: httpx.Client, server: Running
) -> None:
    where = submit(client, fresh=True)["links"]["events"]
    claim = server.claim()
    for i in range(3):
        server.store.heartbeat(claim, Progress(float(i), domains=i), 30.0)
    with client.stream("GET", where) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = events(answer, 4)
    assert seen[0][:2] == ("", "job") and seen[0][2]["state"] == "running"
    last = seen[-1][0]
    server.finish(claim)
    with client.stream("GET", where, headers={"Last-Event-ID": last}) as answer:
        rest = events(answer)
    assert rest[-1][1] == "done" and rest[-1][2]["verdict"] == "verified"
    numbers = [int(n) for n, _, _ in [*seen[1:], *rest[1:]]]
    assert numbers == list(range(1, len(numbers) + 1))
    ended = client.get(where, headers={"Last-Event-ID": str(numbers[-1])})
    assert ended.status_code == 204 and ended.content == b""


def test_events_resume_on_another_server(tmp_path: Path) -> None:
    with serving(tmp_path) as running, running.client() as client:
        where = submit(client)["links"]["events"]
        claim = running.claim()
        with client.stream("GET", where) as answer:
            seen = events(answer, 3)
    with serving(tmp_path) as running, running.client() as client:
        running.store.heartbeat(claim, Progress(1.0), 30.0)
        running.finish(claim)
        with client.stream("GET", where, headers={"Last-Event-ID": seen[-1][0]}) as answer:
            rest = events(answer)
    assert [n for n, _, _ in rest[1:]] == ["3", "4"] and rest[-1][1] == "done"


def test_a_stopping_server_ends_its_streams(tmp_path: Path) -> None:
    with serving(tmp_path) as running, running.client() as client:
        where = submit(client)["links"]["events"]
        with client.stream("GET", where) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 2000"
            # as _Server.handle_exit does
            running.server.config.app.state.context.stopping.set()  # type: ignore[union-attr]
            assert "event: done" not in list(lines)


# operations


def test_metrics_are_computed_from_the_store(client: httpx.Client, server: Running) -> None:
    submit(client, fresh=True)
    before = client.get("/metrics").text
    assert 'surebound_queue_depth{queue="short"} 1.0' in before
    server.finish(server.claim(), cpu_seconds=2.0)
    text = client.get("/metrics").text
    assert (
        'surebound_jobs{state="finished",verdict="verified"}' in text and "surebound_queue_depth{" not in text
    )
    assert 'route="/v1/jobs/{job_id}"' in client.get("/metrics").text or 'route="/v1/jobs"' in text
    assert DIGEST not in text


def test_readiness_fails_without_the_store(tmp_path: Path) -> None:
    with serving(tmp_path) as running, running.client() as client:
        assert client.get("/readyz").json()["store"] == "ok"
        running.store.close()
        for file in tmp_path.glob("surebound.db*"):
            file.unlink()
        answer = client.get("/readyz")
        found = problem(answer, 503, "not-ready")
        assert str(tmp_path) not in found["detail"] and client.get("/livez").status_code == 200


def test_capabilities_tell_operators_and_limits(client: httpx.Client) -> None:
    found = client.get("/v1/capabilities").json()
    assert {"Conv", "Gemm", "Relu"} <= set(found["operators"]) and "sigmoid" in found["functions"]
    assert found["limits"]["max_upload_bytes"] == 200_000


@pytest.mark.parametrize("form", ["json", "sarif", "xml", "html"])
def test_reports(client: httpx.Client, server: Running, form: str) -> None:
    job = submit(client, fresh=True)
    server.finish(server.claim(), None, reason="crash", error="<script>\x00alert(1)</script> ]]>")
    answer = client.get(f"/v1/jobs/{job['id']}/report.{form}")
    assert answer.status_code == 200 and "<script>" not in (answer.text if form in ("xml", "html") else "")
    if form == "json":
        assert answer.json()["state"] == "failed"
    elif form == "sarif":
        assert answer.json()["runs"][0]["results"][0]["ruleId"] == "SB003"
    else:
        from xml.etree import ElementTree

        text = answer.text.replace("<!doctype html>", "").replace('<meta charset="utf-8">', "")
        ElementTree.fromstring(text.replace("<th scope=row>", "<th>"))  # noqa: S314 - our own text
    tag = answer.headers["etag"]
    assert (
        client.get(f"/v1/jobs/{job['id']}/report.{form}", headers={"If-None-Match": tag}).status_code == 304
    )
    assert client.get(f"/v1/jobs/{job['id']}/report.exe").status_code == 422


def test_what_is_done_is_in_the_audit_log(client: httpx.Client, server: Running) -> None:
    job = submit(client, fresh=True)["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    done = [(action, detail.get("job")) for _, _, action, detail in server.store.audited("local", 20)]
    assert {("jobs.submit", job), ("jobs.cancel", job), ("jobs.delete", job)} <= set(done)
