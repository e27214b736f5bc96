"""Reads properties in a confined child of the web process: ``python -m workers.lint HOME``.

The official parser of VNN-LIB 2.0 is native code, which must not read what users sent where keys and other
tenants' requests pass. One line of JSON for each property, one for each answer
(:class:`workers.linter.Linter`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from bounds.errors import SpecError, SureboundError
from workers import sandbox
from workers.linter import MEMORY_MB, TIMEOUT_S


def main() -> None:
    """Serves until standard input ends, or a property has taken too much."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    taken = sandbox.enter(Path(sys.argv[1]))
    sandbox.allow_memory(MEMORY_MB)
    # the workers may have a parser that is missing here
    able = importlib.util.find_spec("vnnlib") is not None

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    say({"ready": {"given_up": taken}})
    for line in sys.stdin:
        sandbox.allow_time(TIMEOUT_S)
        say({"read": read(json.loads(line)["text"]) if able else None})


def read(text: str) -> dict[str, Any] | None:
    """The mistake in a property; None if there is none, or none that is its own."""
    from verifier.spec.load import loads

    try:
        loads(text, source="property", open_inputs=True)
    except SpecError as error:
        return {"detail": str(error), "line": error.line, "column": error.column}
    except SureboundError as error:
        return {"detail": str(error), "line": 0, "column": 0}
    return None


if __name__ == "__main__":
    main()
