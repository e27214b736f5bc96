"""The gate from outside: the miniature repository's story, and what CI systems run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "ci_gate"
BIN = Path(sys.executable).parent
CLEAN = {"PATH": f"{BIN}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def call(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = CLEAN | {"HOME": str(folder.parent)} | environment
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def gate(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Runs the gate; its exit code and its report."""
    done = call("verify", "gate", "--format", "json", *words, folder=folder)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def sources(report: dict[str, Any]) -> list[str]:
    return [q["source"] for r in report["requirements"] for q in r["questions"]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example as a repository of its own, outside of this one."""
    folder = tmp_path / "repository"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".surebound"))
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(
        folder,
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "commit",
        "--quiet",
        "-m",
        "A network and its promises",
    )
    return folder


def git(folder: Path, *words: str) -> str:
    done = call("git", *words, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def careless(folder: Path) -> None:
    """What a careless branch does to the network."""
    done = call(sys.executable, "train.py", "--careless", "models/shapes.onnx", folder=folder)
    assert done.returncode == 0, done.stderr


def test_the_story(repository: Path) -> None:
    code, first = gate(repository)
    assert (code, first["outcome"]) == (0, "holds")
    assert set(sources(first)) <= {"proved", "clean"}
    assert git(repository, "status", "--porcelain") == ""  # the cache is ignored

    code, second = gate(repository)
    assert (code, second["cache"]["reused"]) == (0, len(sources(second)))
    assert [r["measured"] for r in second["requirements"]] == [r["measured"] for r in first["requirements"]]

    careless(repository)
    code, broken = gate(repository, "--format", "sarif", "--output", "report.sarif")
    assert (code, broken["outcome"]) == (1, "violated")
    results = json.loads((repository / "report.sarif").read_text())["runs"][0]["results"]
    robust = next(r for r in results if r["properties"]["requirement"] == "robust")
    assert robust["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "surebound.toml"
    line = robust["locations"][0]["physicalLocation"]["region"]["startLine"]
    text = (repository / "surebound.toml").read_text().splitlines()
    assert text[line - 1] == "[[requirement]]" and text[line] == 'id = "robust"'
    assert len(robust["properties"]["counterexample"]["inputs"]) == 64
    # accuracy alone would have let it pass
    clean = [
        r["curve"][0]["lower"] for report in (first, broken) for r in report["requirements"] if r["curve"]
    ]
    assert clean[1] >= clean[0] - 0.05

    git(repository, "checkout", "--quiet", "models/shapes.onnx")
    code, again = gate(repository)
    assert (code, set(sources(again))) == (0, {"cache"})


def test_inconclusive_under_a_tiny_budget(repository: Path) -> None:
    words = ("--max-domains", "1", "--no-cache")
    code, report = gate(repository, *words)
    assert (code, report["outcome"]) == (3, "inconclusive")
    assert gate(repository, *words, "--unknown", "warn")[0] == 0
    assert report["requirements"][0]["questions"] == strip(gate(repository, *words)[1], report)


def strip(report: dict[str, Any], like: dict[str, Any]) -> Any:
    """A deterministic budget repeats exactly, but for the time it takes."""
    questions = report["requirements"][0]["questions"]
    return [
        q | {"seconds": p["seconds"]}
        for q, p in zip(questions, like["requirements"][0]["questions"], strict=True)
    ]


def test_a_tampered_certificate_is_caught(repository: Path) -> None:
    gate(repository)
    certificates = sorted((repository / ".surebound/cache/proofs").glob("*/*.sbcert"))
    for path in certificates[:3]:
        path.write_bytes(path.read_bytes()[:-40])
    certificates[3].write_bytes(certificates[4].read_bytes())  # a valid one, of another question
    code, report = gate(repository, "--format", "text", "--output", "report.txt")
    assert (code, report["cache"]["rejected"]) == (0, 4)
    told = (repository / "report.txt").read_text()
    assert told.count("does not prove what it is kept for") == 4
    assert gate(repository)[1]["cache"]["rejected"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config", "no.toml"), "no.toml"),
        (("--format", "yaml"), "yaml"),
        (("--output", "x.txt"), "--output x.txt: names no format; write --format F --output x.txt"),
        (("--format", "json", "--format", "text"), "both go to standard output"),
        (("--format", "json", "--format", "json"), "--format json is given twice"),
        (("--format", "json", "--output", "no/x.json"), "the directory 'no' does not exist"),
        (("--format", "json", "--output", "surebound.toml"), "would overwrite an input"),
        (("--only", "robus"), "there is no such requirement; known are robust, gain, dark-is-calm"),
        (("--format",), "requires an argument"),
    ],
)
def test_wrong_words_are_told_in_a_line(repository: Path, words: tuple[str, ...], message: str) -> None:
    done = call("verify", "gate", *words, folder=repository)
    assert done.returncode == 2 and not done.stdout
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_mistake_in_the_file_names_its_line(repository: Path) -> None:
    file = repository / "surebound.toml"
    file.write_text(file.read_text().replace("radius =", "radus ="))
    done = call("verify", "gate", folder=repository)
    assert done.returncode == 2
    assert re.match(
        r"error: surebound\.toml:\d+:1: unknown key 'radus' in .*; did you mean 'radius'\?", done.stderr
    )


# ---------------------------------------------------------------------------- GitHub


def action() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def filled(text: str, values: Mapping[str, str]) -> str:
    """An expression of the action, with its values."""
    return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda m: values[m[1]], text)


class Runner:
    """Runs the action's own steps the way GitHub's runner does; actions of others are left out."""

    def __init__(self, folder: Path, temporary: Path, **inputs: str) -> None:
        self.folder, self.temporary = folder, temporary
        given = {name: str(one.get("default", "")) for name, one in action()["inputs"].items()}
        given |= {"surebound": "installed"} | {
            name.replace("_", "-"): value for name, value in inputs.items()
        }
        self.values = {f"inputs.{name}": value for name, value in given.items()}
        self.values["github.action_path"] = str(ROOT)
        self.codes: list[int] = []
        self.log = ""

    def run(self) -> dict[str, str]:
        """All steps; the outputs of the action."""
        output, summary = self.temporary / "output", self.temporary / "summary"
        output.touch()
        summary.touch()
        script = self.temporary / "step.sh"
        for step in action()["runs"]["steps"]:
            if "run" not in step:
                continue
            script.write_text(step["run"])
            environment = {name: filled(str(v), self.values) for name, v in step.get("env", {}).items()}
            done = call(
                "bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script), folder=self.folder,
                RUNNER_TEMP=str(self.temporary), GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary),
                **environment,
            )  # fmt: skip
            self.codes.append(done.returncode)
            self.log += done.stdout + done.stderr
        return dict(line.split("=", 1) for line in output.read_text().splitlines())


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    (tmp_path / "runner").mkdir()
    return tmp_path / "runner"


def test_the_action_passes(repository: Path, temporary: Path) -> None:
    runner = Runner(repository, temporary)
    outputs = runner.run()
    assert runner.codes == [0, 0], runner.log
    assert (outputs["verdict"], outputs["exit-code"], outputs["violated"]) == ("holds", "0", "0")
    made = {p.name for p in Path(outputs["report"]).iterdir()}
    assert {"report.json", "report.sarif", "junit.xml", "report.md", "report.html", "report.txt"} <= made
    assert "surebound gate: holds" in (temporary / "summary").read_text()


def test_the_action_fails_and_still_leaves_its_reports(repository: Path, temporary: Path) -> None:
    careless(repository)
    runner = Runner(repository, temporary, config="surebound.toml", timeout="300")
    outputs = runner.run()
    assert runner.codes == [0, 1]
    assert outputs["verdict"] == "violated" and "::error file=surebound.toml,line=" in runner.log
    assert json.loads(Path(outputs["sarif"]).read_text())["runs"][0]["results"]


def test_the_action_with_a_budget_and_a_policy(repository: Path, temporary: Path) -> None:
    runner = Runner(repository, temporary, max_domains="1", unknown="warn")
    outputs = runner.run()
    assert runner.codes == [0, 0] and outputs["verdict"] == "inconclusive"
    assert "::warning file=surebound.toml" in runner.log


def test_the_action_tells_a_mistake_in_the_file(repository: Path, temporary: Path) -> None:
    (repository / "surebound.toml").write_text("version = 1\nmodles = 100%\n")
    runner = Runner(repository, temporary)
    outputs = runner.run()
    assert runner.codes == [0, 2] and outputs["verdict"] == "error" and "sarif" not in outputs
    assert re.search(r"^::error title=surebound::error: surebound\.toml:2:", runner.log, re.MULTILINE)


def test_inputs_are_data_not_script(repository: Path, temporary: Path) -> None:
    mean = '"; touch hacked; echo "$(touch hacked)`touch hacked`'
    runner = Runner(repository, temporary, config=mean, unknown=mean)
    runner.run()
    assert runner.codes[1] == 2 and not (repository / "hacked").exists()


def test_every_foreign_action_is_pinned_and_no_script_holds_an_expression() -> None:
    steps = action()["runs"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(
        step["shell"] == "bash" and "set -euo pipefail" in step["run"] for step in steps if "run" in step
    )
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in used)
    late = [
        s
        for s in steps
        if "upload" in s.get("uses", "") or s.get("uses", "").startswith("actions/cache/save")
    ]
    assert len(late) == 3 and all("always()" in step["if"] for step in late)


def actionlint(folder: Path, workflow: str) -> subprocess.CompletedProcess[str]:
    """Checks a workflow in a repository that holds this action at its root."""
    if shutil.which("actionlint", path=str(BIN)) is None:
        pytest.skip("actionlint is not installed: pip install --group gate")
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/gate.yml").write_text(workflow)
    shutil.copy(ROOT / "action.yml", folder)
    git(folder, "init", "--quiet")
    return call("actionlint", "-no-color", folder=folder)


LOCAL = (EXAMPLE / ".github/workflows/gate.yml").read_text().replace(f"surebound/surebound@{'0' * 40}", "./")


def test_the_example_workflow_is_clean(tmp_path: Path) -> None:
    assert "uses: ./\n" in LOCAL
    done = actionlint(tmp_path, LOCAL)
    assert done.returncode == 0, done.stdout


def test_actionlint_reads_the_action(tmp_path: Path) -> None:
    """Or a clean workflow would say nothing about it."""
    done = actionlint(tmp_path, LOCAL.replace("config: surebound.toml", "confg: surebound.toml"))
    assert done.returncode == 1 and "confg" in done.stdout and "max-domains" in done.stdout


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-actions", "action.yml"),
        ("vendor.github-workflows", "examples/ci_gate/.github/workflows/gate.yml"),
        ("vendor.gitlab-ci", "deploy/gitlab/surebound-gate.yml"),
    ],
)
def test_valid_by_the_vendors_schemas(schema: str, file: str) -> None:
    if shutil.which("check-jsonschema", path=str(BIN)) is None:
        pytest.skip("check-jsonschema is not installed: pip install --group gate")
    done = call("check-jsonschema", "--builtin-schema", schema, file, folder=ROOT)
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------------------- GitLab, pre-commit, pages


def test_the_gitlab_job_runs(repository: Path) -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/gitlab/surebound-gate.yml").read_text()).values()
    for line in job["script"]:
        variables = {k: str(v) for k, v in job["variables"].items()}
        done = call("bash", "-e", "-c", line, folder=repository, **variables)
        assert done.returncode == 0, done.stderr
    paths = [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
    assert all((repository / path).exists() for path in paths)
    assert json.loads((repository / "surebound-codequality.json").read_text()) == []


def hooks() -> list[dict[str, Any]]:
    return yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def test_the_hooks_run(repository: Path) -> None:
    config, whole = hooks()
    done = call(*config["entry"].split(), folder=repository)
    assert (done.returncode, done.stdout) == (0, "surebound.toml: 3 requirements, well-formed\n")
    assert call(*whole["entry"].split(), folder=repository).returncode == 0
    files = git(repository, "ls-files").splitlines()
    assert [f for f in files if re.search(config["files"], f)] == ["surebound.toml"]
    assert [f for f in files if re.search(whole["files"], f)] == ["models/shapes.onnx", "surebound.toml"]
    assert not any(hook["pass_filenames"] for hook in hooks())


def test_the_hooks_are_a_valid_manifest() -> None:
    if shutil.which("pre-commit", path=str(BIN)) is None:
        pytest.skip("pre-commit is not installed: pip install --group gate")
    done = call(
        "pre-commit", "validate-manifest", ".pre-commit-hooks.yaml", folder=ROOT, HOME=os.environ["HOME"]
    )
    assert done.returncode == 0, done.stdout


def test_toml_on_the_page_is_valid() -> None:
    schema = json.loads((ROOT / "verifier/gate/schema.json").read_text())
    page = (ROOT / "docs/howto/gate.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(b) for b in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert len(blocks) == 2
    jsonschema.validate(blocks[0], schema)
    jsonschema.validate(blocks[0] | blocks[1], schema)


def test_the_example_is_what_its_script_makes(tmp_path: Path) -> None:
    """Weights may differ in their last digits between machines; what is required of them must not."""
    shutil.copytree(
        EXAMPLE, tmp_path / "made", ignore=shutil.ignore_patterns(".surebound", "*.onnx", "*.npz")
    )
    done = call(sys.executable, "train.py", folder=tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert gate(tmp_path / "made", "--no-cache")[0] == 0
