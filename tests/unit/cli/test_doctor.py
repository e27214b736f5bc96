"""``verify doctor``: what is healthy is said to be, and every planted defect is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bounds.graph import Array
from service import doctor as servers
from verifier.doctor import numerics, packages, run, selftest
from verifier.doctor.model import Finding, Level

VERIFY = str(Path(sys.executable).with_name("verify"))


def ask(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("SUREBOUND_")} | environment
    return subprocess.run([VERIFY, "doctor", *args], check=False, capture_output=True, text=True, env=env)


def level(found: list[Finding], subject: str) -> Level:
    return next(f.level for f in found if f.subject == subject)


def test_this_installation_is_healthy() -> None:
    done = ask("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["healthy"], done.stderr) == (0, True, "")
    subjects = {f["subject"]: f for f in report["findings"]}
    for needed in ("numpy", "onnxruntime", "subnormals of float32", "a small proof", "a small refutation"):
        assert subjects[needed]["level"] == "ok"
    assert "re-checked" in subjects["a small proof"]["found"]
    assert all(f["advice"] for f in report["findings"] if f["level"] != "ok")


def test_for_people() -> None:
    done = ask()
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "nothing is wrong"
    assert "rounding of float64" in done.stdout


def test_a_server_that_does_not_answer_is_a_problem() -> None:
    # nothing listens on port 1
    done = ask(
        "--json", SUREBOUND_BROKER="redis://:secret@127.0.0.1:1/0", SUREBOUND_SERVER="http://127.0.0.1:1"
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["healthy"]) == (2, False)
    bad = {f["subject"] for f in report["findings"] if f["level"] == "problem"}
    assert bad == {"broker", "server"}
    assert "secret" not in done.stdout


def test_every_extra_is_described() -> None:
    extras = set(metadata.metadata("surebound").get_all("Provides-Extra") or ())
    assert set(packages.EXTRAS) == extras - {"all"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("numpy>=2.0", ("numpy", "2.0", "")),
        ("torch>=2.4; extra == 'torch'", ("torch", "2.4", "torch")),
        ("psycopg[binary]>=3.2; extra == 'postgres'", ("psycopg", "3.2", "postgres")),
        ('uvloop>=0.20; (sys_platform != "win32") and extra == "service"', ("uvloop", "0.20", "service")),
        ("plain", ("plain", "", "")),
    ],
)
def test_requirements(line: str, wanted: tuple[str, str, str]) -> None:
    assert packages.parse(line) == packages.Requirement(*wanted)


def test_all_requirements_are_understood() -> None:
    lines = metadata.requires("surebound") or []
    assert len(packages.requirements()) == len(lines) > 10
    assert all(r.least for r in packages.requirements()), "every lower bound is read"


@pytest.mark.parametrize(
    ("version", "least", "wanted"),
    [
        ("2.0", "2.0", False),
        ("2.0.1", "2.0", False),
        ("1.9", "2.0", True),
        ("2", "2.0.0", False),
        ("10.1", "9.9", False),
        ("2.13.0+cpu", "2.4", False),
    ],
)
def test_versions(version: str, least: str, wanted: bool) -> None:
    assert packages.older(version, least) is wanted


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        packages.Requirement("numpy", "999", ""),
        packages.Requirement("surely-not-installed", "1", ""),
        packages.Requirement("surely-not-installed", "1", "train"),
        packages.Requirement("numpy", "999", "sdp"),
    ]
    monkeypatch.setattr(packages, "requirements", lambda: wanted)
    required, extras = list(packages.check_required()), list(packages.check_extras())
    assert [f.level for f in required] == [Level.PROBLEM, Level.PROBLEM]
    assert "needed is 999" in required[0].found and "missing" in required[1].found
    assert {f.subject: f.level for f in extras} == {"extra train": Level.NOTE, "extra sdp": Level.NOTE}
    assert all("pip install" in f.advice for f in [*required, *extras])


def test_a_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requirements", list[Any])
    assert level(list(packages.check_required()), "surebound") is Level.PROBLEM


def test_a_package_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(packages.importlib, "import_module", broken)
    found = list(packages.check_required())
    assert {f.level for f in found} == {Level.PROBLEM}
    assert "libfoo" in found[0].found


# --- arithmetic: each probe finds what it is for


@pytest.mark.parametrize("bits", [8, 11, 20, 23])
def test_shortened_products_are_found(bits: int) -> None:
    def shortened(a: Array, b: Array) -> Array:
        scale = np.float32(2.0 ** (bits - 1))
        exponent = np.exp2(np.floor(np.log2(np.maximum(np.abs(a), 1e-30)))).astype(np.float32)
        return (np.round(a / exponent * scale) / scale * exponent).astype(np.float32) @ b

    assert numerics.full_product(lambda a, b: a @ b)
    assert not numerics.full_product(shortened)


def test_another_type_is_no_full_product() -> None:
    assert not numerics.full_product(lambda a, b: (a @ b).astype(np.float64))


@pytest.mark.torch
def test_flushed_subnormals_are_found() -> None:
    """PyTorch can set the processor's mode for real, for every library of the thread."""
    torch = pytest.importorskip("torch")
    assert {f.level for f in numerics.check_subnormals()} == {Level.OK}
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        found = list(numerics.check_subnormals())
    finally:
        torch.set_flush_denormal(False)
    assert {f.level for f in found} == {Level.PROBLEM}
    assert all("flush-to-zero" in f.advice for f in found)


@pytest.mark.torch
def test_pytorch_is_looked_at() -> None:
    found = list(numerics.check_torch())
    assert level(found, "torch devices") is Level.OK
    assert level(found, "float32 products, torch on cpu") is Level.OK


def test_an_engine_that_decides_nothing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_PROPERTY", selftest._PROPERTY.replace("{limit}", "0.25"))
    assert [f.level for f in selftest.check_engine()] == [Level.PROBLEM]


def test_a_check_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(run, "CHECKS", (("bad", broken), ("floats", numerics.check_float)))
    monkeypatch.setattr(run, "entry_points", lambda **_: [])
    found = run.diagnose()
    assert [(f.subject, f.level) for f in found] == [("bad", Level.PROBLEM), ("Python floats", Level.OK)]
    assert "planted" in found[0].found
    assert not run.as_json(found)["healthy"]


# --- servers


def test_servers_are_asked_only_when_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE", "BROKER", "SERVER"):
        monkeypatch.delenv(f"SUREBOUND_{name}", raising=False)
    assert {f.level for f in servers.checks()} == {Level.OK}


def test_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="pip install --group workers")
    from workers.jobs.sql import open_store

    path = tmp_path / "jobs.db"
    monkeypatch.setenv("SUREBOUND_DATABASE", str(path))
    assert level(list(servers.checks()), "database") is Level.NOTE
    assert not path.exists(), "looking creates nothing"
    open_store(str(path)).close()
    assert level(list(servers.checks()), "database") is Level.OK
    path.write_bytes(b"no database" * 1000)
    assert level(list(servers.checks()), "database") is Level.PROBLEM
    monkeypatch.setenv("SUREBOUND_DATABASE", "oracle://u:secret@h/d")
    found = list(servers.checks())
    assert level(found, "database") is Level.PROBLEM
    assert not any("secret" in f.found + f.advice for f in found)


@pytest.mark.parametrize("url", ["amqp://localhost", "http://[::1", "redis://127.0.0.1:99999"])
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SUREBOUND_BROKER", url)
    monkeypatch.setenv("SUREBOUND_SERVER", "ftp://host")
    found = list(servers.checks())
    assert level(found, "broker") is Level.PROBLEM
    assert level(found, "server") is Level.PROBLEM


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://u:p%40w@h/d", "postgresql://u:***@h/d"),
        ("jobs.db", "jobs.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert servers.masked(url) == shown
