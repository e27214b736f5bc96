"""The machine: interpreter, cores and threads, memory, a place for temporary files, the runtime."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator

from bounds.threads import VARIABLE, cores, threads
from verifier.cli.codes import THREADS
from verifier.cli.version import version
from verifier.doctor.model import Finding, Level
from verifier.search.memory import SHARE, free_memory

OLDEST = (3, 11)
_LITTLE = 1 << 30


def check_python() -> Iterator[Finding]:
    """surebound's version, and what it runs in."""
    yield Finding("surebound", Level.OK, version())
    found = f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"
    good = sys.version_info >= OLDEST
    yield Finding(
        "Python",
        Level.OK if good else Level.PROBLEM,
        found,
        "" if good else f"install Python {OLDEST[0]}.{OLDEST[1]} or newer",
    )


def check_threads() -> Iterator[Finding]:
    """How many threads a run takes, and what says so."""
    said = ", ".join(f"{name}={os.environ[name]}" for name in (VARIABLE, *THREADS) if name in os.environ)
    told = f"{cores()} cores, {threads()} threads for large convolutions, {said or 'no variable set'}"
    yield Finding("threads", Level.OK, told)


def check_memory() -> Iterator[Finding]:
    """What is free, and what a run would take of it."""
    free = free_memory()
    told = f"{free / 2**30:.1f} GiB free; a run takes at most {free * SHARE / 2**30:.1f} GiB unless told"
    if free < _LITTLE:
        yield Finding("memory", Level.NOTE, told, "close something, or expect 'unknown' for want of memory")
    else:
        yield Finding("memory", Level.OK, told)


def check_temporary() -> Iterator[Finding]:
    """A folder for temporary files that can be written."""
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"surebound")
            file.flush()
            yield Finding("temporary files", Level.OK, os.path.dirname(file.name))  # noqa: PTH120
    except OSError as error:
        yield Finding(
            "temporary files", Level.PROBLEM, str(error), "set TMPDIR to a folder that can be written"
        )


def check_runtime() -> Iterator[Finding]:
    """onnxruntime, which replays counterexamples, and the operator sets that are read."""
    import onnxruntime
    from onnx.defs import onnx_opset_version

    from bounds.io.onnx import OLDEST_OPSET

    providers: list[str] = onnxruntime.get_available_providers()
    if "CPUExecutionProvider" not in providers:
        yield Finding(
            "onnxruntime",
            Level.PROBLEM,
            f"has no CPU provider ({', '.join(providers)})",
            "reinstall onnxruntime",
        )
        return
    yield Finding("onnxruntime providers", Level.OK, f"{', '.join(providers)}; counterexamples use the CPU")
    yield Finding("ONNX operator sets", Level.OK, f"{OLDEST_OPSET} to {onnx_opset_version()}")
