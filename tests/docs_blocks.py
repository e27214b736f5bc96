"""Runs the code blocks of a Markdown page, in order, in a folder of their own.

What is run: blocks of the languages ``sh`` and ``python``. All of a page's blocks share the folder (which
holds a copy of ``examples/``), the variables that a shell block exports, and one Python interpreter. What
else a block needs stands in an HTML comment on the line before its fence, where a reader does not see it:

=============================  ==========================================================================
``<!-- not run: REASON -->``   the block is not run; the reason is listed by the test
``<!-- before: COMMAND -->``   a shell command to run first (stands in for what the reader has)
``<!-- file: NAME -->``        the block, of any language, is written to that file; nothing is run
``<!-- exit: CODE -->``        the shell block ends with this code (otherwise 0)
``<!-- output -->``            the block, of language ``text``, is what the block before it printed: each of
                               its lines must occur in it, in order, numbers aside
=============================  ==========================================================================

Several comments may follow each other. Other languages, and ``text`` without a comment, are not code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {"sh": "sh", "bash": "sh", "python": "python"}
MARKS = ("not run", "before", "file", "exit", "output")
# around parts of the README that scripts write; their own tests look at those
_OTHERS = ("transcript", "service", "measured")
_PORT = 8732  # the service's default
SECONDS = 300.0  # for one block; far more than any needs, so that a hang ends
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>[^`\n]*)$")
_MARK = re.compile(r"^ *<!-- (?P<name>[a-z ]+?)(: (?P<value>.*?))? -->$")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")

_DRIVER = """
import json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    block = json.loads(line)
    try:
        exec(compile(block["code"], block["name"], "exec"), names)
        good = True
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        good = False
    print("\\n" + block["end"] + str(good), flush=True)
"""
_END = "==== end of the block: "


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, its language (as in ``LANGUAGES``, or as written), its text, its marks."""

    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def reason(self) -> str:
        """Why it is not run, or ""."""
        return self.marks.get("not run", "")

    @property
    def runs(self) -> bool:
        """Whether it is code that is run here."""
        return self.language in LANGUAGES.values() and not self.reason and "file" not in self.marks


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page.

    Raises:
        ValueError: a mark that is not known, or a fence that is not closed.
    """
    found: list[Block] = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        opening = _FENCE.match(lines[i])
        if opening is None:
            i += 1
            continue
        indent, fence = len(opening["indent"]), opening["fence"]
        end = next((j for j in range(i + 1, len(lines)) if lines[j].strip() == fence), None)
        if end is None:
            raise ValueError(f"line {i + 1}: the block is not closed")
        language = opening["language"].strip()
        body = "".join(
            f"{line[indent:] if line[:indent].isspace() else line}\n" for line in lines[i + 1 : end]
        )
        found.append(Block(i + 1, LANGUAGES.get(language, language), body, _marks(lines, i)))
        i = end + 1
    return found


def _marks(lines: list[str], fence: int) -> dict[str, str]:
    marks: dict[str, str] = {}
    at = fence - 1
    while at >= 0 and (match := _MARK.match(lines[at])):
        name = match["name"]
        if name in _OTHERS:
            break
        if name not in MARKS:
            raise ValueError(f"line {at + 1}: '{name}' is none of {', '.join(MARKS)}")
        value = match["value"] or ""
        marks[name] = f"{value}\n{marks[name]}" if name in marks else value  # several are one after the other
        at -= 1
    if "not run" in marks and len(marks["not run"]) < 10:
        raise ValueError(f"line {fence + 1}: say why the block is not run")
    return marks


class Page:
    """A page being run; a context manager that ends what its blocks left running."""

    def __init__(self, folder: Path) -> None:
        """Prepares the folder."""
        self.folder = folder
        # not on the path of what the blocks' own tests collect
        self._state = folder.with_name(folder.name + "-state")
        self._state.mkdir()
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        self._python: subprocess.Popen[str] | None = None
        self._groups: list[int] = []
        self.output = ""
        with socket.socket() as free:  # pages name the default port, which may be taken here
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        if self._python is not None:
            assert self._python.stdin is not None and self._python.stdout is not None
            self._python.stdin.close()
            self._python.wait(SECONDS)
            self._python.stdout.close()
        for group in self._groups:  # our own sessions: servers that a block started in the background
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue

    def run(self, block: Block) -> None:
        """Runs a block, or does what its marks say instead.

        Raises:
            AssertionError: it fails, or does not print what the page says.
        """
        if command := block.marks.get("before"):
            self._shell(command, 0, block)
        if name := block.marks.get("file"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif "output" in block.marks:
            self._compare(block)
        elif block.runs and block.language == "sh":
            self._shell(block.text, int(block.marks.get("exit", "0")), block)
        elif block.runs:
            self._interpret(block)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUREBOUND_", "PYTEST_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return kept | {"PATH": path, "ROOT": str(ROOT), "SUREBOUND_PORT": str(self._port)}

    def _ported(self, text: str) -> str:
        return text.replace(f"127.0.0.1:{_PORT}", f"127.0.0.1:{self._port}")

    def _shell(self, text: str, code: int, block: Block) -> None:
        text = self._ported(text)
        state, log = self._state / "environment.sh", self._state / "output.txt"
        script = (
            f'[ -f "{state}" ] && . "{state}"\nset -eo pipefail\n{text}\n{{ set +e; }} 2>/dev/null\n'
            f'{{ export -p; printf "cd %q\\n" "$PWD"; }} > "{state}"\n'
        )
        # to a file, not a pipe: what is left running in the background keeps it open
        with log.open("w+", encoding="utf-8") as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            found = process.wait(SECONDS)
        self.output = log.read_text(encoding="utf-8")
        assert found == code, f"line {block.line}: exit code {found}, not {code}\n{text}\n{self.output}"

    def _interpret(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", _DRIVER],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        assert self._python.stdin is not None and self._python.stdout is not None
        asked = {"code": self._ported(block.text), "name": f"line {block.line}", "end": _END}
        self._python.stdin.write(json.dumps(asked) + "\n")
        self._python.stdin.flush()
        lines: list[str] = []
        for line in self._python.stdout:
            if line.startswith(_END):
                break
            lines.append(line)
        else:
            line = _END + "False"
        self.output = "".join(lines)
        assert line.strip() == _END + "True", f"line {block.line}:\n{block.text}\n{self.output}"

    def _compare(self, block: Block) -> None:
        printed = [masked(line) for line in self.output.splitlines()]
        at = 0
        for line in filter(None, map(masked, block.text.splitlines())):
            assert line in printed[at:], (
                f"line {block.line}: the page shows a line that was not printed (here): {line}\n{self.output}"
            )
            at += printed[at:].index(line) + 1


def masked(line: str) -> str:
    """A line with its numbers and its spacing taken out of account."""
    return " ".join(_NUMBER.sub("N", line).split())
