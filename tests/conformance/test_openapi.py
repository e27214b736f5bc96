"""The OpenAPI document is what is checked in, its examples are valid, and the server keeps to it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("fastapi", reason="pip install 'surebound[service]'")

from pydantic import TypeAdapter
from service_server import Running, put, serving, submit

from service.schemas import JOB_EXAMPLES, NewJobBody
from workers.jobs.model import Answer


def _generator(root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("gen_service", root / "docs" / "gen_service.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_generator_writes(root: Path) -> None:
    for path, text in _generator(root).render().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python docs/gen_service.py"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    return json.loads((root / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))


def test_every_error_is_a_problem_and_nothing_else(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if status[0] in "45":
                    assert list(answer["content"]) == ["application/problem+json"], (path, method, status)
            assert operation["summary"] and operation["description"], (path, method)


def test_examples_are_valid(document: dict[str, Any]) -> None:
    media = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    schemas = document["components"]["schemas"]
    for name, example in media["examples"].items():
        jsonschema.validate(example["value"], {**media["schema"], "components": document["components"]})
        TypeAdapter(NewJobBody).validate_python(example["value"])
        assert name in JOB_EXAMPLES
    shown = [n for n, s in schemas.items() if "example" in s]
    assert {"JobView", "Problem"} <= set(shown)
    for name in shown:
        jsonschema.validate(schemas[name]["example"], {**schemas[name], "components": document["components"]})


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("populated"), max_upload=100_000) as running:
        with running.client() as client:
            for answer in (Answer.VERIFIED, Answer.FALSIFIED, Answer.UNKNOWN, None):
                submit(client, fresh=True)
                files = (running.keep("certificate", b"x"), running.keep("witness.json", b"{}"))
                running.finish(running.claim(), answer, artifacts=files)
            submit(client, fresh=True)
            running.claim()
            submit(client, fresh=True)
            put(client, b"data", "files")
        yield running


@pytest.mark.slow
def test_no_request_breaks_the_server_or_its_promises(populated: Running) -> None:
    """Everything that the document allows, and much that it does not, by schemathesis: no 5xx, no answer that
    the document does not describe. Streams of events are left out: of a running job they do not end."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from schemathesis import checks as all_checks

    schema = schemathesis.openapi.from_url(populated.url + "/v1/openapi.json")
    with populated.client() as client:
        known = {
            "job_id": [j["id"] for j in client.get("/v1/jobs").json()["items"]],
            "sha256": [m["sha256"] for m in client.get("/v1/models").json()["items"]],
        }
    wanted = [
        getattr(all_checks, name)
        for name in (
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_headers_conformance",
            "response_schema_conformance",
        )
    ]
    tried = 0

    def asking(operation: Any) -> Any:
        @given(data=st.data())
        @settings(
            max_examples=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(data: st.DataObject) -> None:
            nonlocal tried
            mode = data.draw(st.sampled_from(list(schemathesis.GenerationMode)))
            case = data.draw(operation.as_strategy(generation_mode=mode))
            for name, values in known.items():
                if case.path_parameters and name in case.path_parameters and data.draw(st.booleans()):
                    case.path_parameters[name] = data.draw(st.sampled_from(values))
            case.call_and_validate(checks=wanted)
            tried += 1

        return ask

    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith("/events"):
            asking(operation)()
    assert tried > 500
