"""Completion as a shell asks for it, and the manual page as ``man`` reads it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verifier.cli.completion import SHELLS
from verifier.cli.main import COMMANDS

VERIFY = Path(sys.executable).with_name("verify")
ENVIRONMENT = {**os.environ, "PATH": f"{VERIFY.parent}:{os.environ['PATH']}"}


def completed(*words: str) -> list[str]:
    """What bash is told for a line whose last word is being typed: ``kind,value`` lines."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    environment = {**ENVIRONMENT, **asked, "_VERIFY_COMPLETE": "bash_complete"}
    done = subprocess.run([VERIFY], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_commands_options_files_and_choices() -> None:
    assert completed("verify", "doc") == ["plain,doctor"]
    assert completed("verify", "tra") == ["plain,train"], "commands of other packages too"
    assert set(completed("verify", "")) >= {f"plain,{name}" for name in COMMANDS}
    assert completed("verify", "model.on") == ["file,model.on"], "the default command takes files"
    assert completed("verify", "model.onnx", "--max") == ["plain,--max-domains"]
    assert completed("verify", "run", "--semantics", "f") == ["plain,float32"]
    assert completed("verify", "check", "") == ["file,"]


def test_bash_takes_the_script(tmp_path: Path) -> None:
    """The printed script, in a real bash, with a line as bash hands it over."""
    script = """
        eval "$(verify completion bash)"
        complete -p verify >/dev/null || exit 9
        COMP_WORDS=(verify comple) COMP_CWORD=1
        _verify_completion verify
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script], env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["completion"]), done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script(shell: str) -> None:
    command = [VERIFY, "completion", shell]
    text = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    assert "_VERIFY_COMPLETE" in text and f"{shell}_complete" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its syntax was not checked")
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_the_manual_page_is_current(root: Path) -> None:
    spec = importlib.util.spec_from_file_location("gen_man", root / "docs" / "gen_man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.render(), "run python docs/gen_man.py"


def test_the_manual_page_is_read(root: Path) -> None:
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    page = root / "docs" / "man" / "verify.1"
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["man", "-l", str(page)], env=environment, capture_output=True, text=True, check=True
    )
    assert "error" not in done.stderr
    for name in COMMANDS:
        assert f"verify {name}" in done.stdout
    assert "--max-domains" in done.stdout.replace("\N{HYPHEN}", "-")
