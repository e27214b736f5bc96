"""What a caller may ask for: one table of options, from which flags, checks and docs are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bounds.errors import BadInput
from verifier.verdict import Semantics


class Engine(StrEnum):
    """Who bounds subproblems first."""

    BUILT_IN = "built-in"
    AUTO_LIRPA = "auto-lirpa"


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One row of the table.

    Attributes:
        name: field of :class:`Options`; the flag is ``--`` + name with dashes.
        kind: "seconds", "count", "bytes", "choice" or "flag"; decides how a flag's text is read.
        default: the value when nothing is given; must equal the field's default.
        low: smallest value allowed (inclusive, except that "seconds" must be greater), or None.
        high: largest value allowed, inclusive, or None.
        help: one sentence for people.
        choices: the words allowed, for "choice".
        hidden: kept out of help and docs (for debugging only).
    """

    name: str
    kind: str
    default: object
    help: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> None:
        """Raises :class:`BadInput` unless ``value`` is in range; None means "no limit"."""
        if value is None or self.kind in ("choice", "flag"):
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise BadInput(f"{self.flag} is {value!r}; give a number")
        if self.kind != "seconds" and not isinstance(value, int):
            raise BadInput(f"{self.flag} is {value!r}; give a whole number")
        if self.kind == "seconds" and value <= 0:
            raise BadInput(f"{self.flag} is {value:g} s; give a number of seconds above 0")
        if self.low is not None and value < self.low:
            raise BadInput(f"{self.flag} is {value}; the smallest value allowed is {self.low}")
        if self.high is not None and value > self.high:
            raise BadInput(f"{self.flag} is {value}; the largest value allowed is {self.high}")


OPTIONS: Final[tuple[OptionRow, ...]] = (
    OptionRow("timeout", "seconds", None, "Stop after this many seconds with verdict 'timed-out'.", low=0),
    OptionRow(
        "semantics",
        "choice",
        Semantics.REAL,
        "What 'unsat' speaks about: the network over the reals, or as float32 arithmetic computes it.",
        choices=tuple(s.value for s in Semantics),
    ),
    OptionRow("seed", "count", 0, "Seed of every random choice.", low=0, high=2**63 - 1),
    OptionRow(
        "max_domains",
        "count",
        None,
        "Stop with verdict 'unknown' after this many subproblems (a limit that repeats exactly).",
        low=1,
    ),
    OptionRow(
        "memory",
        "bytes",
        None,
        "Memory for open subproblems and bounds, in bytes or with a suffix K, M, G or T (not given: 70 % of "
        "what is free).",
        low=2**20,
    ),
    OptionRow(
        "engine",
        "choice",
        Engine.BUILT_IN,
        "Who bounds first. 'auto-lirpa' asks the auto_LiRPA library (docs/howto/second-engine.md); what it "
        "finds is nominal, so a verdict still rests on rigorous float64 bounds.",
        choices=tuple(e.value for e in Engine),
    ),
    OptionRow("attack", "flag", True, "Look for counterexamples before proving.", hidden=True),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one query; the table :data:`OPTIONS` says what each means.

    Attributes:
        timeout: seconds, or None for no limit.
        semantics: what an ``unsat`` is a statement about.
        seed: seed of every random choice.
        max_domains: subproblems, or None for no limit.
        memory: bytes, or None to choose from the machine's memory.
        engine: who bounds first.
        attack: whether the falsifier runs (False only for debugging).

    Raises:
        BadInput: a value is out of range.
    """

    timeout: float | None = None
    semantics: Semantics = Semantics.REAL
    seed: int = 0
    max_domains: int | None = None
    memory: int | None = None
    engine: Engine = Engine.BUILT_IN
    attack: bool = True

    def __post_init__(self) -> None:
        for row in OPTIONS:
            row.check(getattr(self, row.name))


_SUFFIXES: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_bytes(text: str) -> int:
    """Reads ``2G``, ``512MiB``, ``1.5g`` or plain bytes; suffixes are powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    body = text.strip().upper().removesuffix("IB").removesuffix("B")
    suffix = body[-1:] if body[-1:] in _SUFFIXES else ""
    number = float(body.removesuffix(suffix))
    if not math.isfinite(number) or number < 0:
        raise ValueError(text)
    return int(number * 2 ** _SUFFIXES[suffix])
