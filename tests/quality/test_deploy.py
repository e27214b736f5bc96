"""What is under deploy/ can be read by the programs it is for, and its commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted(FOLDER.glob("*.service"))


def parses(words: list[str]) -> bool:
    """Whether ``verify WORDS`` is a command with these options."""
    import click

    from service.command import serve, worker

    commands: dict[str, click.Command] = {"serve": serve, "worker": worker}
    try:
        commands[words[0]].make_context(words[0], words[1:])
    except (click.ClickException, KeyError):
        return False
    return True


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def test_the_commands_of_compose_exist() -> None:
    services = compose()["services"]
    ours = {name: s for name, s in services.items() if s["image"].startswith("surebound")}
    assert set(ours) == {"api", "worker", "worker-cuda"}
    for service in ours.values():
        assert service["command"][0] == "verify" and parses(service["command"][1:]), service["command"]
        assert set(service["depends_on"]) <= set(services)
    assert not parses(["serve", "--no-such-option"])


def test_compose_is_understood_by_docker() -> None:
    docker = shutil.which("docker")
    known = (
        docker
        and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    )
    if not docker or not known:
        pytest.skip("needs docker compose: https://docs.docker.com/compose/install")
    done = subprocess.run(
        [docker, "compose", "-f", str(FOLDER / "compose.yaml"), "--profile", "cuda", "config", "--quiet"],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "POSTGRES_PASSWORD": "x"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_image_starts_a_command_that_exists() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    command = re.findall(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    words = [w.strip().strip('"') for w in command[0].split(",")]
    assert words[0] == "verify" and parses(words[1:])
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["surebound"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_the_units_start_commands_that_exist(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    words = shlex.split(re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0])
    assert words[0].endswith("/verify") and parses(words[1:])
    assert "KillMode=mixed" in text and "NoNewPrivileges=yes" in text


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.name)
def test_the_units_are_understood_by_systemd(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    program = tmp_path / "verify"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name.replace("@", "@1")
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/surebound/bin/verify", str(program)))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if copy.name in line]
    assert about == [], done.stderr
