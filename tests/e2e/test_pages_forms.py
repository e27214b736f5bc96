"""The pages as a program sees them: forms, mistakes, who may see what. No browser is needed."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")
pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")
pytest.importorskip("python_multipart", reason="pip install 'surebound[service]'")
pytest.importorskip("PIL", reason="pip install 'surebound[service]'")

import httpx
from fastapi.routing import APIRoute
from PIL import Image
from service_server import DIGEST, MODEL, VNNLIB, Running, put, serving, submit

from service.pages.session import KEY_COOKIE
from workers.jobs.model import Answer

Fields = dict[str, Any]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("open"), max_property=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("keyed"), require_keys=True) as running:
        yield running


def own(running: Running) -> dict[str, str]:
    """What a browser says about a form of the page itself."""
    return {"Origin": running.url}


def send(running: Running, fields: Fields, **files: tuple[str, bytes]) -> httpx.Response:
    # a browser sends the form as multipart, with nameless files where none was chosen
    parts = {name: (value[0], value[1]) for name, value in files.items()} or {"model_file": ("", b"")}
    with running.client() as client:
        return client.post("/jobs", data=fields, files=parts, headers=own(running))


def asked(running: Running, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 303, wrong(answer)
    with running.client() as client:
        return running.store.get(answer.headers["location"].rpartition("/")[2], "local").request | {
            "seen": client.get(answer.headers["location"]).text
        }


def wrong(answer: httpx.Response) -> str:
    """The mistakes of a page."""
    return " | ".join(re.findall(r'class="wrong"[^>]*>([^<]*)<', answer.text))


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_network_and_a_property_become_a_job(here: Running) -> None:
    files = {"model_file": ("net.onnx", MODEL), "vnnlib_file": ("p.vnnlib", VNNLIB.encode())}
    answer = send(here, {"kind": "vnnlib", "timeout": "7"}, **files)
    request = asked(here, answer)
    assert request["model"] == DIGEST and request["property"] == {"vnnlib": VNNLIB, "robustness": None}
    assert "net.onnx" in request["seen"] and "Waiting" in request["seen"]
    model = here.store.get_model(DIGEST, "local")
    assert model is not None and model.name == "net.onnx"


def test_line_ends_of_browsers_do_not_change_the_question(here: Running) -> None:
    fields = {"kind": "vnnlib", "model": DIGEST, "vnnlib": VNNLIB.replace("\n", "\r\n")}
    with here.client() as client:
        put(client)
    assert asked(here, send(here, fields))["property"]["vnnlib"] == VNNLIB


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(np.array([[0, 51], [102, 255]], dtype=np.uint8))),
        ("a.npy", npy(np.asfortranarray(np.array([[0.0, 51.0], [102.0, 255.0]])))),
        ("a.csv", b"0, 51\n102; 255\n"),
        ("a.txt", b"[0 51] [102 255]"),
        ("w.json", b'{"values": {"input": [0, 51, 102, 255]}}'),
    ],
)
def test_a_point_from_a_file(here: Running, name: str, data: bytes) -> None:
    fields = {
        "kind": "robustness", "label": "1", "radius": "2/255", "norm": "2", "divide": "255",
        "clip_low": "0", "clip_high": "1",
    }  # fmt: skip
    request = asked(here, send(here, fields, model_file=("net.onnx", MODEL), point_file=(name, data)))
    ball = request["property"]["robustness"]
    assert ball["input"] == [0.0, 51 / 255, 102 / 255, 1.0]
    assert (ball["label"], ball["radius"], ball["norm"], ball["clip"]) == (1, "2/255", "2", [0.0, 1.0])


def png(mode: str, side: int, kind: str = "PNG") -> bytes:
    """A picture whose pixels rise by one value."""
    image, file = Image.new(mode, (side, side)), io.BytesIO()
    if side < 100:
        for i in range(side * side):
            image.putpixel((i % side, i // side), (i, 100 + i, 200 + i, 9)[: len(mode)] if mode != "L" else i)
    image.save(file, kind)
    return file.getvalue()


def test_a_point_from_a_picture(here: Running) -> None:
    fields = {"kind": "robustness", "label": "1", "radius": "2/255"}
    for divide, by in (("1", 255.0), ("2", 2.0)):
        picture = ("x.png", png("L", 2))
        answer = send(here, fields | {"divide": divide}, model_file=("net.onnx", MODEL), point_file=picture)
        assert asked(here, answer)["property"]["robustness"]["input"] == [v / by for v in range(4)]
    answer = send(here, fields, model_file=("net.onnx", MODEL), point_file=("x.png", png("RGB", 2)))
    flat = asked(here, answer)["property"]["robustness"]["input"]
    assert flat == [v / 255 for v in (0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203)]
    answer = send(here, fields, model_file=("net.onnx", MODEL), point_file=("x.jpg", png("L", 8, "JPEG")))
    assert len(asked(here, answer)["property"]["robustness"]["input"]) == 64


def header(rest: str) -> bytes:
    text = "{'descr': " + rest + "}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("fields", "files", "says"),
    [
        ({}, {}, "choose a network"),
        ({"model": "0" * 64}, {}, "no longer there"),
        ({"kind": "nonsense"}, {}, "choose what to ask"),
        ({"kind": "vnnlib"}, {}, "give a property"),
        ({"kind": "vnnlib", "vnnlib": "(assert"}, {}, "property:1:"),
        ({"kind": "vnnlib", "vnnlib": VNNLIB, "timeout": "soon"}, {}, "give a number, not “soon”"),
        ({"kind": "vnnlib", "vnnlib": VNNLIB, "timeout": "-1"}, {}, "greater than 0"),
        ({"kind": "vnnlib"}, {"vnnlib_file": ("p", b";" * 200_000)}, "limit"),
        ({"kind": "robustness", "point": "1 2", "label": "0"}, {}, "give a radius"),
        ({"kind": "robustness", "point": "1 x", "label": "0", "radius": "1"}, {}, "“x” (number 2)"),
        ({"kind": "robustness", "point": "1 nan", "label": "0", "radius": "1"}, {}, "finite"),
        ({"kind": "robustness", "point": "1", "label": "1.5", "radius": "1"}, {}, "a whole number"),
        ({"kind": "robustness", "point": "1", "label": "0", "radius": "x"}, {}, "match"),
        ({"kind": "robustness", "point": "1", "label": "0", "radius": "1", "divide": "0"}, {},
         "other than 0"),
        ({"kind": "robustness", "point": "1", "label": "0", "radius": "1", "clip_low": "2", "clip_high": "1"},
         {}, "clip is empty"),
        ({"kind": "robustness", "label": "0", "radius": "1"}, {"point_file": ("i.png", b"\x89PNG\xff\xfe")},
         "neither a PNG"),
        ({"kind": "robustness", "label": "0", "radius": "1"}, {"point_file": ("i.png", png("L", 4)[:50])},
         "no readable picture"),
        ({"kind": "robustness", "label": "0", "radius": "1"}, {"point_file": ("i.png", png("RGBA", 4))},
         "without transparency"),
        ({"kind": "robustness", "label": "0", "radius": "1"}, {"point_file": ("i.png", png("1", 2000))},
         "scale it to"),
        ({"kind": "robustness", "label": "0", "radius": "1"},
         {"point_file": ("o.npy", npy(np.array([None])))}, "plain numbers"),
        ({"kind": "robustness", "label": "0", "radius": "1"},
         {"point_file": ("huge.npy", header("'<f8', 'fortran_order': False, 'shape': (99999999999,)"))},
         "plain numbers"),
        ({"kind": "robustness", "label": "0", "radius": "1"}, {"point_file": ("d.json", b'{"a":' * 99_999)},
         "no counterexample"),
        ({"kind": "sweep", "radii": "0.1"}, {}, "choose samples"),
        ({"kind": "sweep"}, {"data_file": ("d.npz", b"PK")}, "give radii"),
    ],
)  # fmt: skip
def test_mistakes_are_said_and_nothing_is_lost(
    here: Running, fields: Fields, files: dict[str, tuple[str, bytes]], says: str
) -> None:
    before = here.store.page("local").items
    sent = files if not fields or "model" in fields else {"model_file": ("net.onnx", MODEL), **files}
    answer = send(here, {"kind": "vnnlib", **fields}, **sent)
    assert answer.status_code == 422 and says in wrong(answer)
    assert here.store.page("local").items == before
    if "model_file" in sent and fields.get("kind") != "nonsense":
        # the network need not be sent again
        assert f'<option value="{DIGEST}" selected>' in answer.text


def test_the_same_form_twice_is_one_job(here: Running) -> None:
    fields = {"kind": "vnnlib", "vnnlib": VNNLIB + "; twice\n", "once": "a"}
    places = [send(here, fields, model_file=("n", MODEL)).headers["location"] for _ in range(2)]
    assert places[0] == places[1]
    other = send(here, fields | {"vnnlib": VNNLIB + "; changed\n"}, model_file=("n", MODEL))
    assert other.headers["location"] != places[0]


def test_limits_of_uploads_hold_for_forms_too(tmp_path: Path) -> None:
    with serving(tmp_path, max_upload=100_000) as running:
        answer = send(running, {"kind": "lipschitz"}, model_file=("big.onnx", bytes(200_000)))
        assert answer.status_code == 413
        assert running.store.page("local").items == ()


FOREIGN = ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"})
FORMS = (
    "/jobs",
    "/jobs/x/cancel",
    "/jobs/x/delete",
    f"/models/{DIGEST}/delete",
    "/keys",
    "/keys/use",
    "/theme",
)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", FORMS)
def test_forms_of_other_sites_are_refused(keyed: Running, headers: dict[str, str], path: str) -> None:
    with keyed.client() as client:
        client.cookies.set(KEY_COOKIE, keyed.key("t", "admin"))
        answer = client.post(path, data={"kind": "lipschitz"}, headers=headers)
    assert answer.status_code == 403 and "sent from elsewhere" in answer.text


def test_every_form_route_checks_where_it_came_from(here: Running) -> None:
    """A new route cannot forget it: all POSTs outside /v1 carry the dependency."""
    from service.pages import account, ask, jobs, models
    from service.pages.session import own_form

    every = [r for part in (account, ask, jobs, models) for r in part.router.routes]
    routes = [r for r in every if isinstance(r, APIRoute) and "POST" in r.methods]
    assert len(routes) > 7
    for route in routes:
        assert own_form in [d.dependency for d in route.dependencies], route.path


def test_without_a_key_there_is_nothing_to_see(keyed: Running) -> None:
    with keyed.client(keyed.key("a")) as client:
        job = submit(client)["id"]
    with keyed.client() as client:
        for path in (
            "/",
            "/jobs",
            "/models",
            "/compare",
            f"/jobs/{job}",
            f"/models/{DIGEST}",
            f"/jobs/{job}/events",
        ):
            answer = client.get(path)
            assert answer.status_code == 303 and answer.headers["location"].startswith("/keys?next="), path
        assert client.get("/help").status_code == 200
        client.cookies.set(KEY_COOKIE, "sb_aaaaaaaaaaaa_" + "b" * 43)
        assert "why=refused" in client.get("/jobs").headers["location"]


def test_another_tenants_things_are_not_there(keyed: Running) -> None:
    with keyed.client(keyed.key("a")) as client:
        job = submit(client)["id"]
    with keyed.client() as client:
        client.cookies.set(KEY_COOKIE, keyed.key("b"))
        assert job not in client.get("/jobs").text
        parts = [f"/jobs/{job}{part}" for part in ("", "/events", "/files/certificate", "/report.json")]
        for path in (*parts, f"/models/{DIGEST}", f"/?from={job}", f"/compare?a={DIGEST}&b={DIGEST}"):
            assert client.get(path).status_code == 404, path
        for path in (
            f"/jobs/{job}/cancel",
            f"/jobs/{job}/delete",
            f"/jobs/{job}/check",
            f"/models/{DIGEST}/delete",
        ):
            assert client.post(path, headers=own(keyed)).status_code == 404, path


def test_signing_in_and_out(keyed: Running) -> None:
    with keyed.client() as client:
        refused = client.post("/keys/use", data={"key": "sb_nothing"}, headers=own(keyed))
        assert refused.status_code == 401 and "unknown or revoked" in refused.text
        for next, goes in (("/jobs", "/jobs"), ("//evil.example", "/"), ("/\\evil", "/"), ("https://e", "/")):
            answer = client.post("/keys/use", data={"key": keyed.key("a"), "next": next}, headers=own(keyed))
            assert (answer.status_code, answer.headers["location"]) == (303, goes)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/jobs").status_code == 200
        client.post("/keys/leave", headers=own(keyed))
        assert client.get("/jobs").status_code == 303


def test_a_reader_may_look_only(keyed: Running) -> None:
    with keyed.client() as client:
        client.cookies.set(KEY_COOKIE, keyed.key("a", "jobs:read"))
        assert client.get("/jobs").status_code == 200
        answer = client.post("/jobs", data={"kind": "lipschitz"}, headers=own(keyed))
        assert answer.status_code == 403 and "jobs:write" in answer.text


def test_administrators_make_and_revoke_keys_of_their_own(keyed: Running) -> None:
    other = keyed.key("b").split("_")[1]
    with keyed.client() as client:
        client.cookies.set(KEY_COOKIE, keyed.key("a", "admin"))
        page = client.post("/keys", data={"scope": ["jobs:read"], "note": "<b>x</b>"}, headers=own(keyed))
        made = re.search(r"sb_[a-z0-9]+_[A-Za-z0-9_-]+", page.text)
        assert made is not None and "&lt;b&gt;x" in page.text and f"sb_{other}" not in page.text
        assert made[0] not in client.get("/keys").text  # shown once
        assert client.post(f"/keys/{other}/revoke", headers=own(keyed)).status_code == 404
        identity = made[0].split("_")[1]
        assert client.post(f"/keys/{identity}/revoke", headers=own(keyed)).status_code == 303
        assert keyed.store.key(identity) is None
        assert client.post("/keys", data={}, headers=own(keyed)).status_code == 422
    with keyed.client() as client:
        client.cookies.set(KEY_COOKIE, keyed.key("a"))
        assert "Make a key" not in client.get("/keys").text
        assert client.post("/keys", data={"scope": ["admin"]}, headers=own(keyed)).status_code == 403


def test_whatever_is_sent_is_shown_as_text(here: Running) -> None:
    evil = '"><script>alert(1)</script>'
    text = f"; {evil}\n{VNNLIB}"
    answer = send(here, {"kind": "vnnlib", "vnnlib": text}, model_file=(f"{evil}.onnx", MODEL + b"!"))
    job = answer.headers["location"].rpartition("/")[2]
    claim = here.store.claim_job(job, "test", 60.0)
    assert claim is not None
    told = {
        "values": {"input": [1.0], "output": [2.0]},
        "shapes": {"input": ["<script>"]},
        "assignment": evil,
    }
    witness = here.keep("witness.json", json.dumps(told).encode())
    here.finish(
        claim, Answer.FALSIFIED, reason=evil, error=evil, artifacts=(witness,),
        result={"advice": [evil], "notes": [evil], "phases": {evil: 1.0}, "strategy": evil},
    )  # fmt: skip
    node = {"id": evil, "op": evil, "shape": [evil], "inputs": [evil]}
    port, operator = {"name": evil, "shape": evil}, {"name": evil, "count": 1}
    facts = {"operators": [operator], "inputs": [port], "problem": evil, "graph": [node]}
    model = here.store.get(job, "local").request["model"]
    here.store.set_facts(model, facts)
    with here.client() as client:
        places = [f"/jobs/{job}", f"/models/{model}", f"/compare?a={model}&b={model}", f"/?from={job}"]
        odd = [f"/jobs?cursor={evil}", f"/jobs/{evil}", f"/keys?next={evil}"]
        for path in ("/", "/jobs", "/models", *places, *odd):
            page = client.get(path)
            assert page.status_code < 500
            if page.headers["content-type"].startswith("application/problem+json"):
                continue  # no browser takes it for a page
            assert "<script>alert" not in page.text, path
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert not re.search(r"\son\w+=|\sstyle=|<script>", page.text), path


def test_odd_facts_and_results_do_not_break_a_page(here: Running) -> None:
    odd: list[Any] = [None, [], {}, "x", 1, [None], [{"name": None}], {"a": None}, [[]]]
    with here.client() as client:
        for i, value in enumerate(odd):
            job = submit(client, fresh=True)["id"]
            claim = here.store.claim_job(job, "test", 60.0)
            assert claim is not None
            names = (
                "phases",
                "radii",
                "advice",
                "notes",
                "explanation",
                "upper",
                "lower_bound",
                "closed_fraction",
                "clean",
            )
            witness = here.keep("witness.json", json.dumps(value).encode())
            here.finish(claim, list(Answer)[i % 3], result=dict.fromkeys(names, value), artifacts=(witness,))
            keys = (
                "operators",
                "functions",
                "inputs",
                "outputs",
                "graph",
                "parameters",
                "problem",
                "neurons",
            )
            here.store.set_facts(DIGEST, dict.fromkeys(keys, value))
            for path in (
                f"/jobs/{job}",
                f"/models/{DIGEST}",
                "/models",
                "/jobs",
                f"/compare?a={DIGEST}&b={DIGEST}",
            ):
                answer = client.get(path)
                assert answer.status_code == 200, (path, value, answer.text[:500])
        here.store.set_facts(DIGEST, {})


def test_errors_are_pages_in_words(here: Running) -> None:
    with here.client() as client:
        for path, status in (
            ("/jobs/nothing", 404),
            ("/models/" + "0" * 64, 404),
            ("/jobs?cursor=zz", 422),
            ("/jobs?state=odd", 422),
        ):
            answer = client.get(path)
            assert answer.status_code == status and answer.headers["content-type"].startswith("text/html")
            assert "<h1>" in answer.text and "New question" in answer.text


def test_the_theme_is_kept_without_scripts(here: Running) -> None:
    with here.client() as client:
        answer = client.post("/theme", data={"theme": "dark", "back": "/jobs"}, headers=own(here))
        assert answer.headers["location"] == "/jobs"
        assert 'data-theme="dark"' in client.get("/jobs").text
        client.post("/theme", data={"theme": '"><script>', "back": "/"}, headers=own(here))
        assert "data-theme=" not in client.get("/jobs").text


def test_own_script_is_small(root: Path) -> None:
    assert len((root / "service/static/app.js").read_text().splitlines()) <= 200
