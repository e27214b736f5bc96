"""What is published: sdist and wheel hold what they must and no more, and work from an empty folder."""

from __future__ import annotations

import email
import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bounds", "verifier", "sdp", "training", "workers", "service")
pytestmark = pytest.mark.slow


def run(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it, by the tools of this environment."""
    pytest.importorskip("build", reason="pip install --group package")
    pytest.importorskip("hatchling", reason="pip install --group package")
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def tracked(*folders: str) -> set[str]:
    """Files under version control; an export without one has no such list."""
    done = run("git", "ls-files", *folders, cwd=ROOT)
    if done.returncode != 0:
        pytest.skip("this is no git checkout: what belongs to the packages is not known")
    return {line for line in done.stdout.splitlines() if (ROOT / line).is_file()}


def test_the_wheel_holds_the_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[1]).namelist())
    info = next(n.split("/")[0] for n in names if n.endswith(".dist-info/METADATA"))
    base = info.removesuffix(".dist-info")
    assert {n.split("/")[0] for n in names} == {*PACKAGES, info, f"{base}.data"}
    inside = {n for n in names if n.split("/")[0] in PACKAGES}
    assert tracked(*PACKAGES) - inside == set(), "templates, migrations, schemas and markers are part of it"
    assert all("test" not in Path(n).parts for n in inside)
    assert f"{base}.data/data/share/man/man1/verify.1" in names
    assert f"{info}/licenses/LICENSE" in names


def test_check_wheel_contents(built: tuple[Path, Path]) -> None:
    tool = Path(sys.executable).with_name("check-wheel-contents")
    if not tool.exists():
        pytest.skip("check-wheel-contents is missing: pip install --group package")
    done = run(tool, "--config", ROOT / "pyproject.toml", built[1])
    assert done.returncode == 0, done.stdout


def test_the_metadata(built: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(built[1])
    name = next(n for n in archive.namelist() if n.endswith("METADATA"))
    meta = email.message_from_bytes(archive.read(name))
    assert (meta["Name"], meta["License-Expression"], meta["Requires-Python"]) == (
        "surebound",
        "Apache-2.0",
        ">=3.11",
    )
    extras = set(meta.get_all("Provides-Extra") or ())
    assert {"all", "service", "torch", "train", "sdp", "vnnlib2", "redis", "postgres"} <= extras
    wanted = meta.get_all("Requires-Dist") or []
    everything = {w.partition(";")[0].strip() for w in wanted if "extra == 'all'" in w}
    for extra in extras - {"all", "train-logs"}:  # train-logs pulls in a tracking server that few want
        mine = {w.partition(";")[0].strip() for w in wanted if f"extra == '{extra}'" in w}
        assert mine and mine <= everything, f"surebound[all] lacks what {extra} needs"
    assert not any("pytest" in w for w in wanted), "tools for tests are no dependency"


def test_the_sdist_is_whole_and_clean(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    for needed in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "tests/conftest.py",
        "docs/man/verify.1",
        "mkdocs.yml",
    ):
        assert needed in names
    for part in (".venv", ".git", ".ci", "build", "dist"):
        assert not any(n == part or n.startswith(f"{part}/") for n in names), part


def test_it_works_from_an_empty_folder(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Installed somewhere else, the packages are found there, with their data and commands."""
    home, empty = tmp_path / "home", tmp_path / "empty"
    empty.mkdir()
    options = ("--no-deps", "--no-index", "--quiet", "--target", home)
    done = run(sys.executable, "-m", "pip", "install", *options, built[1])
    assert done.returncode == 0, done.stderr
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUREBOUND_", "PYTEST_"))}
    env = {**kept, "PYTHONPATH": str(home)}
    for name in PACKAGES:
        done = run(sys.executable, "-c", f"import {name}; print({name}.__file__)", cwd=empty, env=env)
        assert done.stdout.startswith(str(home)), name
    verify = home / "bin" / "verify"
    help_ = run(sys.executable, verify, "--help", cwd=empty, env=env)
    for command in ("run", "doctor", "train", "serve"):
        assert f"\n  {command} " in help_.stdout
    doctor = run(sys.executable, verify, "doctor", cwd=empty, env=env)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    model, spec = (
        ROOT / "examples" / p for p in ("models/pendulum.onnx", "properties/pendulum_limit_unsat.vnnlib")
    )
    proof = empty / "proof.sbcert"
    done = run(sys.executable, verify, model, spec, "--certificate", proof, cwd=empty, env=env)
    assert done.stdout == "unsat\n", done.stderr
    done = run(
        sys.executable, verify, "check", proof, "--model", model, "--property", spec, cwd=empty, env=env
    )
    assert done.stdout == "unsat\n", done.stderr
    code = (
        "from importlib import resources as r\n"
        "assert r.files('service').joinpath('static').is_dir()\n"
        "assert r.files('service').joinpath('templates').is_dir()\n"
        "assert r.files('verifier').joinpath('report/schema.json').is_file()\n"
    )
    assert run(sys.executable, "-c", code, cwd=empty, env=env).returncode == 0
    assert [p.name for p in empty.iterdir()] == ["proof.sbcert"], "nothing else is left behind"


# --- release notes


def notes_module() -> Any:
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / "scripts" / "release_notes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_fragment_is_of_the_agreed_form() -> None:
    text = notes_module().notes(ROOT / "changes")
    assert text.startswith("### Added\n\n- ")


def test_notes_and_changelog(tmp_path: Path) -> None:
    module = notes_module()
    (tmp_path / "README.md").write_text("not a fragment")
    (tmp_path / "b.md").write_text("**Fixed** a thing\nover two lines.\n")
    (tmp_path / "a.md").write_text("**Added** this.\n\n**Added** that.")
    text = module.notes(tmp_path)
    assert text == "### Added\n\n- This.\n- That.\n\n### Fixed\n\n- A thing over two lines.\n"
    log = "# Changelog\n\nAbout.\n\n## [0.1.0] - 2026-01-01\n\n### Added\n\n- Old.\n"
    new = module.released(log, "0.2.0", "2026-12-24", text)
    assert new.index("## [0.2.0] - 2026-12-24") < new.index("- This.") < new.index("## [0.1.0]")
    assert new.startswith("# Changelog\n\nAbout.\n\n## [0.2.0]")
    begun = log.replace("2026-01-01", "unreleased")
    new = module.released(begun, "0.1.0", "2026-12-24", text)
    assert new.count("## [0.1.0]") == 1 and new.index("- This.") < new.index("- Old.")
    for version, date, notes, said in (
        ("0.1.0", "2026-12-24", text, "already"),
        ("next", "2026-12-24", text, "no version"),
        ("0.2.0", "today", text, "no date"),
        ("0.2.0", "2026-12-24", "", "nothing to release"),
    ):
        with pytest.raises(ValueError, match=said):
            module.released(log, version, date, notes)
    (tmp_path / "c.md").write_text("Fixed it")
    with pytest.raises(ValueError, match=r"c\.md"):
        module.notes(tmp_path)
