"""The installed program, run as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Answer = subprocess.CompletedProcess[str]
PROGRAM = Path(sys.executable).with_name("verify")


@pytest.fixture
def program() -> Path:
    """The console script of this environment."""
    assert PROGRAM.exists(), "install the project into this environment: pip install -e ."
    return PROGRAM


@pytest.fixture
def verify(program: Path, tmp_path: Path) -> Callable[..., Answer]:
    """Runs ``verify`` in an empty folder; standard error must never hold a traceback or a warning."""

    def run(*args: object, code: int = 0) -> Answer:
        done = subprocess.run(
            [str(program), *map(str, args)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return done

    return run


@pytest.fixture
def refuses(verify: Callable[..., Answer]) -> Callable[..., str]:
    """Runs ``verify``, which must exit 2 with nothing but one line on standard error; returns the line."""

    def run(*args: object) -> str:
        done = verify(*args, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "internal error" not in done.stderr
        return done.stderr

    return run
