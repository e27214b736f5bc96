"""The command on the examples: one query, a certificate, a batch, a network looked at."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import e2e_models as nets
import jsonschema
import numpy as np
import pytest

Verify = Callable[..., "subprocess.CompletedProcess[str]"]
PAIR = re.compile(r"\((X|Y)_(\d+) (\S+?)\)")


def valid(document: object, root: Path) -> None:
    schema = json.loads((root / "verifier/report/schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize("case", ["digits_mlp_unsat", "digits_cnn_unsat", "digits_residual_unsat"])
def test_a_proof_is_found_and_checked(
    verify: Verify, examples: Path, root: Path, tmp_path: Path, case: str
) -> None:
    model, prop = examples / "models" / f"{case[:-6]}.onnx", examples / "properties" / f"{case}.vnnlib"
    done = verify(model, prop, "--timeout", "60", "--certificate", "c.sbcert", "--json", "r.json")
    assert done.stdout == "unsat\n"
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    valid(report, root)
    assert (report["verdict"], report["semantics"], report["certificate"]) == ("unsat", "real", "c.sbcert")
    assert report["closed_fraction"] == 1.0
    checked = verify("check", "c.sbcert", "--model", model, "--property", prop)
    assert checked.stdout == "unsat\n"
    # the same certificate speaks about no other network and no other property
    other = examples / "models/pendulum.onnx"
    assert "rejected" in verify("check", "c.sbcert", "--model", other, "--property", prop, code=2).stderr
    wrong = str(prop).replace("unsat", "sat")
    assert "rejected" in verify("check", "c.sbcert", "--model", model, "--property", wrong, code=2).stderr


def test_a_violation_is_found_printed_and_replayed(
    verify: Verify, examples: Path, root: Path, tmp_path: Path
) -> None:
    model = examples / "models/pendulum.onnx"
    prop = examples / "properties/pendulum_limit_sat.vnnlib"
    done = verify(model, prop, "--json", "r.json", "--certificate", "c.sbcert", "--seed", "3")
    assert done.stdout.startswith("sat\n((X_0 ")
    pairs = PAIR.findall(done.stdout)
    x = [np.float32(v) for letter, _, v in pairs if letter == "X"]
    y = [np.float32(v) for letter, _, v in pairs if letter == "Y"]
    (again,) = nets.replay(model, {"x": np.array(x).reshape(1, 2)}, "y")
    assert again.reshape(-1).tolist() == y
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    valid(report, root)
    assert report["witness"]["kind"] == "replayed"
    assert verify("check", "c.sbcert", "--model", model, "--property", prop).stdout == "sat\n"
    repeated = verify(model, prop, "--seed", "3")
    assert repeated.stdout == done.stdout  # the same seed, the same answer


def test_limits_end_in_a_verdict(verify: Verify, examples: Path, tmp_path: Path) -> None:
    files = (examples / "models/digits_mlp.onnx", examples / "properties/digits_mlp_hard.vnnlib")
    done = verify(*files, "--timeout", "0.05", "--certificate", "c.sbcert")
    assert done.stdout == "timed-out\n"
    assert "undecided: the time limit was reached; raise --timeout" in done.stderr
    assert not (tmp_path / "c.sbcert").exists()
    done = verify(*files, "--max-domains", "1")
    assert done.stdout == "unknown\n"
    assert "the domain limit was reached; raise --max-domains" in done.stderr


def test_version_2_through_both_commands(verify: Verify, examples: Path) -> None:
    pytest.importorskip("vnnlib")
    model = examples / "models/pendulum.onnx"
    query = examples / "properties/pendulum_pushback_v2_unsat.vnnlib"
    assert verify(model, query).stdout == "unsat\n"
    assert verify("verify", query, "--network", f"controller={model}").stdout == "unsat\n"


def test_compressed_files(verify: Verify, examples: Path, tmp_path: Path) -> None:
    import gzip

    for name in ("models/pendulum.onnx", "properties/pendulum_pushback_unsat.vnnlib"):
        source = examples / name
        (tmp_path / f"{source.name}.gz").write_bytes(gzip.compress(source.read_bytes()))
    for end in (".gz", ""):
        done = verify(
            f"pendulum.onnx{end}", f"pendulum_pushback_unsat.vnnlib{end}", "--certificate", "c.sbcert"
        )
        assert done.stdout == "unsat\n"
    # the certificate is about the contents, compressed or not
    checked = verify(
        *("check", "c.sbcert", "--model", examples / "models/pendulum.onnx"),
        *("--property", examples / "properties/pendulum_pushback_unsat.vnnlib"),
    )
    assert checked.stdout == "unsat\n"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_batch_on_the_examples(verify: Verify, examples: Path, root: Path, tmp_path: Path) -> None:
    expected = {(r["onnx"], r["vnnlib"]): r["expected"] for r in rows(examples / "expected.csv")}
    listing = (examples / "instances.csv", "--out", "out.csv")
    done = verify(
        *("batch", *listing, "--jobs", "2", "--filter", "_(un)?sat", "--json", "r.json"),
        *("--results-txt", "txt", "--certificates", "proofs"),
    )
    found = rows(tmp_path / "out.csv")
    assert {(r["onnx"], r["vnnlib"]): r["verdict"] for r in found} == {
        pair: verdict for pair, verdict in expected.items() if "hard" not in pair[1]
    }
    assert done.stdout.count("\n") == len(found) == 10
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    valid(document, root)
    assert document["complete"] and document["counts"]["error"] == 0
    words = [p.read_text(encoding="utf-8").split()[0] for p in (tmp_path / "txt").iterdir()]
    assert sorted(words) == ["sat"] * 5 + ["unsat"] * 5
    row = next(r for r in found if "pendulum_limit_unsat" in r["vnnlib"])
    checked = verify(
        *("check", row["certificate"], "--model", examples / row["onnx"]),
        *("--property", examples / row["vnnlib"]),
    )
    assert checked.stdout == "unsat\n"
    # resuming runs what is left: here two lines are taken away, one of them torn in the middle
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "out.csv").write_text("".join(lines[:9]) + lines[9][:20], encoding="utf-8")
    again = verify("batch", *listing, "--jobs", "1", "--filter", "_(un)?sat", "--resume")
    assert again.stdout.count("\n") == 2
    verdicts = {(r["onnx"], r["vnnlib"]): r["verdict"] for r in rows(tmp_path / "out.csv")}
    assert verdicts == {(r["onnx"], r["vnnlib"]): r["verdict"] for r in found}


def test_a_list_with_expected_verdicts_finds_wrong_ones(verify: Verify, examples: Path) -> None:
    done = verify("batch", examples / "expected.csv", "--filter", "pendulum", "--out", "o.csv", "--jobs", "1")
    assert "wrong: 0" in done.stderr


@pytest.mark.parametrize("name", ["digits_cnn", "digits_residual"])
def test_inspect(verify: Verify, examples: Path, name: str) -> None:
    model = examples / "models" / f"{name}.onnx"
    assert "supported   yes" in verify("inspect", model).stdout
    facts = json.loads(verify("inspect", model, "--json").stdout)
    assert facts["supported"] and facts["neurons"] > 0 and facts["unsupported"] == []


def test_supports_speaks_about_the_importer(verify: Verify) -> None:
    operators = verify("supports", "--onnx-operators").stdout.split()
    assert {"Add", "Conv", "Gemm", "Relu", "Reshape", "MaxPool"} <= set(operators)
    oldest, newest = map(int, verify("supports", "--onnx-opset-versions").stdout.split())
    assert oldest == 7 and newest >= 21


def test_an_interrupt_keeps_what_is_known(program: Path, examples: Path, tmp_path: Path) -> None:
    """On a property that splitting cannot finish: a tie in a point that is left out."""
    text = nets.vnnlib1([(-1, 1), (-1, 1)], 1, "(<= Y_0 0.0)", "(>= X_0 0.0)", "(not (<= X_0 0.0))")
    (tmp_path / "p.vnnlib").write_text(text, encoding="utf-8")
    nets.dense(tmp_path / "m.onnx", [(np.float32([[1, -1], [0, 0]]), [0, 0]), ([[1.0], [1.0]], [0.0])])
    process = subprocess.Popen(
        [program, "m.onnx", "p.vnnlib", "--json", "r.json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while b"onnxruntime" not in Path(f"/proc/{process.pid}/maps").read_bytes():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "unknown\n"), err
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["reason"]["code"] == "cancelled"


def loaded(code: str, *args: object) -> tuple[set[str], str]:
    """Modules in memory after running code in a fresh interpreter, and what it printed before."""
    script = f"import sys, os\n{code}\nprint('LOADED', *sys.modules)"
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    before, _, after = done.stdout.rpartition("LOADED")
    return set(after.split()), before


RUN = """
from verifier.cli.main import main
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
print(os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"], os.environ["MKL_NUM_THREADS"])
"""


@pytest.mark.parametrize("answer", ["unsat", "sat"])
def test_a_run_stays_light_and_uses_one_thread(examples: Path, tmp_path: Path, answer: str) -> None:
    """What is imported decides how fast a small query is; torch alone would cost seconds."""
    model = examples / "models/pendulum.onnx"
    prop = examples / f"properties/pendulum_limit_{answer}.vnnlib"
    modules, printed = loaded(RUN, model, prop, "--certificate", tmp_path / "c.sbcert")
    assert printed.startswith(answer)
    assert printed.endswith("1 1 1\n")
    assert {"numpy", "onnx", "onnxruntime"} <= modules
    heavy = {"torch", "scipy", "sympy", "pandas", "sklearn", "vnnlib", "rich", "jsonschema", "click.testing"}
    assert modules.isdisjoint(heavy)
    light = ("bounds.errors", "bounds.threads")
    modules, _ = loaded(RUN, "check", tmp_path / "c.sbcert", "--model", model, "--property", prop)
    searching = {m for m in modules if m.startswith(("verifier.search", "bounds.")) and m not in light}
    assert searching == set()
    assert modules.isdisjoint(heavy | ({"onnxruntime"} if answer == "unsat" else set()))


def test_the_users_own_threads_win(examples: Path) -> None:
    _, printed = loaded("os.environ['OMP_NUM_THREADS'] = '3'\n" + RUN, "--version")
    assert printed.endswith("3 1 1\n")


def test_importing_the_package_is_light() -> None:
    modules, _ = loaded("import verifier\nverifier.__all__")
    assert modules.isdisjoint({"numpy", "onnx", "onnxruntime", "torch", "click"})
    modules, _ = loaded("import verifier\nverifier.Options")
    assert modules.isdisjoint({"numpy", "onnx", "onnxruntime", "torch", "click"})
    modules, _ = loaded("import verifier\nverifier.verify")
    assert "torch" not in modules
