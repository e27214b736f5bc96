"""What every benchmark records about where it ran, and where results go."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
VERIFY = Path(sys.executable).parent / "verify"
PACKAGES = ("surebound", "numpy", "onnx", "onnxruntime", "torch", "vnnlib")

# one BLAS thread per process, for numbers that repeat
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def provenance(**settings: Any) -> dict[str, Any]:
    """Machine, commit, versions and the settings (seed, limits, ...) of a run."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _git("rev-parse", "HEAD") or "none",
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": _memory(),
        },
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "settings": settings,
    }


def write(name: str, record: dict[str, Any], table: str = "") -> Path:
    """Writes ``results/NAME.json`` and, given a table, ``results/NAME.md``; returns the first."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if table:
        (RESULTS / f"{name}.md").write_text(table, encoding="utf-8")
    return path


def described(record: dict[str, Any]) -> str:
    """One line for people under a table."""
    machine = record["machine"]
    state = " with changes" if record["modified"] else ""
    return (
        f"{record['date']}, commit {record['commit'][:12]}{state}, {machine['cpu']}, "
        f"{machine['cores']} cores, Python {record['python']}, settings {record['settings']}"
    )


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
