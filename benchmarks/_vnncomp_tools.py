"""The tools of a comparison: command templates and how each one's verdict is read.

A template is split like a shell would, but no shell runs it. In each word ``{onnx}``, ``{vnnlib}``,
``{timeout}`` (seconds), ``{family}``, ``{out}`` (a result file to be written) and ``{seed}`` are replaced,
and ``$NAME`` (upper case) by the environment's value or the preset's own. The command runs in an empty
folder that is deleted afterwards, so give absolute paths. Compressed files are unpacked beforehand.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from _common import VERIFY
from _vnncomp_process import Ran

SURE = ("sat", "unsat")
UNDECIDED = ("unknown", "timed-out")
FAILED = ("error", "out-of-memory")

# what tools write -> what it means here
_WORDS = {
    "sat": "sat", "violated": "sat", "unsafe": "sat", "falsified": "sat",
    "unsat": "unsat", "holds": "unsat", "safe": "unsat", "verified": "unsat",
    "unknown": "unknown", "timeout": "timed-out", "timed-out": "timed-out", "timed out": "timed-out",
    "run_instance_timeout": "timed-out", "error": "error",
}  # fmt: skip


# upper case only: a template may be a shell's script with variables of its own
_VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*)")


def meaning(word: str) -> str | None:
    """The verdict a word stands for; case, blanks and what follows a comma do not matter.

    >>> meaning(" UNSAT,1.25"), meaning("sat-ish")
    ('unsat', None)
    """
    return _WORDS.get(word.partition(",")[0].strip().lower())


def first_line(text: str) -> str | None:
    """The verdict of a text whose first line is one."""
    return meaning(text.partition("\n")[0])


def last_line(text: str) -> str | None:
    """The last line of a text that is a verdict and nothing else."""
    found = [m for line in text.splitlines() if (m := meaning(line)) is not None]
    return found[-1] if found else None


# name -> how the verdict is read; of the result file (the competition's format) or of standard output
PARSERS: dict[str, Callable[[str], str | None]] = {
    "first-line": first_line,
    "last-line": last_line,
    "result-file": first_line,
}


@dataclass(frozen=True)
class Tool:
    """A verifier: ``defaults`` are values for ``$NAME`` where the environment has none; "" asks for one."""

    name: str
    template: str
    parser: str
    defaults: tuple[tuple[str, str], ...] = ()

    def missing(self, env: Mapping[str, str]) -> list[str]:
        """Variables the template needs that have no value."""
        values = dict(self.defaults) | dict(env)
        names = _VARIABLE.findall(self.template)
        return [name for name in dict.fromkeys(names) if not values.get(name)]

    def command(self, values: Mapping[str, str], env: Mapping[str, str]) -> list[str]:
        """The words of the command."""
        known = dict(self.defaults) | dict(env)
        words = [_VARIABLE.sub(lambda m: known.get(m[1], m[0]), w) for w in shlex.split(self.template)]
        return [_filled(word, values) for word in words]

    def verdict(self, ran: Ran, out: Path) -> tuple[str, str]:
        """Verdict and remark: a word of SURE, UNDECIDED or FAILED. A tool that was killed has no verdict."""
        if ran.killed:
            return "timed-out", "killed"
        if ran.out_of_memory:
            return "out-of-memory", ran.complaint
        found = PARSERS[self.parser](_content(out) if self.parser == "result-file" else ran.stdout)
        # VNN-LIB's solver interface: a verdict comes with exit status 0
        failed = self.parser == "first-line" and ran.code != 0
        if found is None or found == "error" or failed:
            return "error", ran.complaint
        return found, ""


def _content(path: Path) -> str:
    """The beginning of a file, "" where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(1000)
    except OSError:
        return ""


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Replaces known ``{name}``s only: code and formats in a template may have braces of their own."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), word)


# the wheel installs a package `src` that must be run as a script from its own folder
_NEURALSAT = (
    "import importlib.util as u, os, runpy, sys; p = os.path.dirname(u.find_spec('src').origin); "
    "sys.path.insert(0, p); sys.argv[0] = os.path.join(p, 'main.py'); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
OURS = Tool(
    "surebound", "$VERIFY {onnx} {vnnlib} --timeout {timeout} --seed {seed}", "first-line",
    (("VERIFY", str(VERIFY)),),
)  # fmt: skip
# name -> how to run it; `pip install vibecheck-nn maraboupy neuralsat` each in an environment of its own
PRESETS: dict[str, Tool] = {
    t.name: t
    for t in (
        Tool(
            "vibecheck-nn",
            "$VIBECHECK --net {onnx} --spec {vnnlib} --timeout {timeout} --device cpu --results-file {out}",
            "result-file",
            (("VIBECHECK", "vibecheck"),),
        ),
        Tool(
            "maraboupy",
            "$MARABOU {onnx} {vnnlib} --timeout {timeout} --verbosity 0",
            "last-line",
            (("MARABOU", "Marabou"),),
        ),
        Tool(
            "neuralsat",
            f'$NEURALSAT_PYTHON -c "{_NEURALSAT}" --net {{onnx}} --spec {{vnnlib}} --timeout {{timeout}} '
            "--device cpu --verbosity 0 --result_file {out}",
            "result-file",
            (("NEURALSAT_PYTHON", ""),),
        ),
        Tool(
            "alpha-beta-crown",
            "$ABCROWN_PYTHON $ABCROWN/complete_verifier/abcrown.py --config $ABCROWN_CONFIGS/{family}.yaml "
            "--device cpu --onnx_path {onnx} --vnnlib_path {vnnlib} --timeout {timeout} --results_file {out}",
            "result-file",
            (("ABCROWN_PYTHON", ""), ("ABCROWN", ""), ("ABCROWN_CONFIGS", "")),
        ),
        Tool(
            "nnenum",
            "$NNENUM_PYTHON -m nnenum.nnenum {onnx} {vnnlib} {timeout} {out}",
            "result-file",
            (("NNENUM_PYTHON", ""),),
        ),
    )
}


def tool(text: str) -> Tool:
    """Reads ``PRESET``, ``NAME=TEMPLATE`` or ``NAME:PARSER=TEMPLATE``.

    The name of a preset lends its parser and variables; any other name reads the result file when the
    template has ``{out}``, else the last line of output that is a verdict.

    Raises:
        ValueError: the text is none of these, or a variable has no value.
    """
    head, given, template = text.partition("=")
    name, _, parser = head.partition(":")
    preset = PRESETS.get(name)
    if not given:
        if preset is None or parser:
            raise ValueError(f"{text!r} is no preset ({', '.join(PRESETS)}); give NAME='command'")
        made = preset
    else:
        if not name or name == OURS.name or not template.strip():
            raise ValueError(f"{text!r}: give NAME='command', with a name other than {OURS.name}")
        if parser and parser not in PARSERS:
            raise ValueError(f"{parser!r} is no parser; choose one of {', '.join(PARSERS)}")
        guess = preset.parser if preset else ("result-file" if "{out}" in template else "last-line")
        made = Tool(name, template, parser or guess, preset.defaults if preset else ())
    if missing := made.missing(os.environ):
        raise ValueError(f"{name}: set the environment variable {' and '.join(missing)}")
    return made
