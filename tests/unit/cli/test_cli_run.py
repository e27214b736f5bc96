"""``verify run``: what goes where, with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_stand_in import SAT, TIMED_OUT, Engine
from click.testing import Result

from bounds.errors import ModelUnsupported
from verifier.verdict import Semantics

Invoke = Callable[..., Result]
HERE = Path(__file__).parent


def test_first_line_is_the_verdict_and_the_rest_is_on_stderr(
    invoke: Invoke, engine: Engine, files: tuple[str, str]
) -> None:
    result = invoke(*files)
    assert result.stdout == "unsat\n"
    assert "proved at level real" in result.stderr
    assert result.return_value == 0


def test_a_counterexample_follows_sat(invoke: Invoke, engine: Engine, files: tuple[str, str]) -> None:
    engine.answer = SAT
    result = invoke(*files)
    assert result.stdout == "sat\n((X_0 0.5)\n (X_1 0.1)\n (Y_0 0.75))\n"


def test_timed_out_says_how_far_it_came(invoke: Invoke, engine: Engine, files: tuple[str, str]) -> None:
    engine.answer = TIMED_OUT
    result = invoke(*files)
    assert result.stdout == "timed-out\n"
    assert "50.00%" in result.stderr
    assert "--timeout" in result.stderr
    assert result.return_value == 0


def test_options_reach_the_engine(
    invoke: Invoke, engine: Engine, files: tuple[str, str], tmp_path: Path
) -> None:
    proof = tmp_path / "c.sbcert"
    invoke(
        *("run", *files, "--timeout", "9", "--semantics", "float32", "--seed", "3", "--max-domains", "10"),
        *("--memory", "2G", "--no-attack", "--certificate", str(proof)),
    )
    (call,) = engine.calls
    options = call["options"]
    assert 8 < options.timeout <= 9  # reading the property counts
    assert (options.semantics, options.seed, options.max_domains) == (Semantics.FLOAT32, 3, 10)
    assert (options.memory, options.attack) == (2 * 2**30, False)
    assert call["certificate"] == proof
    assert call["property"].input_size == 2


def test_options_may_come_first(invoke: Invoke, engine: Engine, files: tuple[str, str]) -> None:
    assert invoke("--seed", "5", *files).stdout == "unsat\n"
    assert engine.calls[0]["options"].seed == 5


def test_json_report_is_written(
    invoke: Invoke, engine: Engine, files: tuple[str, str], tmp_path: Path
) -> None:
    invoke(*files, "--json", str(tmp_path / "r.json"))
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert document["verdict"] == "unsat"
    assert [p.name for p in tmp_path.glob(".*")] == []  # no draft left


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--timeout", "-1", "above 0"),
        ("--timeout", "nan", "give a number"),
        ("--timeout", "soon", "number of seconds"),
        ("--memory", "2X", "size such as 2G"),
        ("--memory", "10", "smallest value"),
        ("--memory", "0", "smallest value"),
        ("--memory", "-1G", "size such as 2G"),
        ("--seed", "-1", "smallest value"),
        ("--max-domains", "0", "smallest value"),
        ("--max-domains", "1.5", "whole number"),
        ("--semantics", "complex", "real"),
    ],
)
def test_options_out_of_range(
    failing: Callable[..., str], engine: Engine, files: tuple[str, str], flag: str, value: str, says: str
) -> None:
    message = failing(*files, flag, value)
    assert flag in message
    assert says in message
    assert engine.calls == []


@pytest.mark.parametrize("flag", ["--json", "--certificate"])
def test_unwritable_outputs_are_refused_before_work(
    failing: Callable[..., str], engine: Engine, files: tuple[str, str], tmp_path: Path, flag: str
) -> None:
    assert "does not exist" in failing(*files, flag, str(tmp_path / "no" / "x"))
    assert "is a directory" in failing(*files, flag, str(tmp_path))
    assert "overwrite an input" in failing(*files, flag, files[0])
    assert engine.calls == []


def test_missing_files_and_arguments(failing: Callable[..., str], files: tuple[str, str]) -> None:
    assert "does not exist" in failing("nowhere.onnx", files[1])
    assert "Missing argument 'PROPERTY'" in failing(files[0])
    assert "--frobnicate" in failing(*files, "--frobnicate")


def test_errors_are_one_line(failing: Callable[..., str], engine: Engine, files: tuple[str, str]) -> None:
    engine.answer = ModelUnsupported("Gelu", "node 3", "not\nyet")
    assert "unsupported operator Gelu at node 'node 3': not yet" in failing(*files)
    engine.answer = MemoryError()
    assert "out of memory" in failing(*files)
    engine.answer = ZeroDivisionError("division by zero")
    assert "internal error: ZeroDivisionError: division by zero; please report it" in failing(*files)
    engine.answer = PermissionError(13, "Permission denied", "/x/y")
    assert "/x/y: Permission denied" in failing(*files)


def test_a_bad_property_names_its_line(
    failing: Callable[..., str], engine: Engine, files: tuple[str, str]
) -> None:
    Path(files[1]).write_text("(declare-const X_0 Real)\n(assert (>= X_0 zero))\n", encoding="utf-8")
    assert "p.vnnlib:2:" in failing(*files)


def test_debug_shows_the_traceback(
    engine: Engine, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from verifier.cli.main import main

    engine.answer = ZeroDivisionError("division by zero")
    with pytest.raises(SystemExit):
        main([*files, "--debug"])
    assert "Traceback" in capsys.readouterr().err


DRIVER = """
import sys, types, time, dataclasses
from cli_stand_in import TIMED_OUT, UNSAT
from verifier.verdict import Status, UnknownReason

def verify(model, property, *, cancel, **rest):
    print("started", file=sys.stderr, flush=True)
    for _ in range(2000):
        if cancel():
            return dataclasses.replace(TIMED_OUT, status=Status.UNKNOWN, reason=UnknownReason.CANCELLED)
        time.sleep(0.01)
    return UNSAT

module = types.ModuleType("verifier.api")
module.verify = verify
sys.modules["verifier.api"] = module
from verifier.cli.main import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_prints_and_saves_what_is_known(
    files: tuple[str, str], tmp_path: Path, root: Path, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), *files, "--json", str(tmp_path / "r.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, HERE)))},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("unknown\n", code)
    assert "cancelled" in err
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["reason"]["code"] == "cancelled"


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m verifier.cli.main supports --help | true; echo ${{PIPESTATUS[0]}}",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_help_imports_nothing_it_does_not_need(root: Path) -> None:
    code = (
        "import sys; from verifier.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert loaded.isdisjoint(
        {"numpy", "onnx", "onnxruntime", "torch", "rich", "fractions", "verifier.cli.run"}
    )


def test_a_model_may_be_given_without_its_gz(invoke: Invoke, engine: Engine, files: tuple[str, str]) -> None:
    packed = Path(files[0]).rename(files[0] + ".gz")
    assert invoke(*files).stdout == "unsat\n"
    assert engine.calls[0]["model"] == packed
