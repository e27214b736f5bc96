"""A search on disk: what is open, and the counts of what is not.

The file is a zip of one JSON header and NumPy arrays without pickle, and the digest of both. The digest finds
damage, not malice: what a checkpoint says was closed is believed, and a resumed run says so in its report. A
run that keeps evidence leaves it in the file too (:mod:`verifier.proof_part`); then whoever goes on can write
a certificate, which is checked as any other.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bounds.domain import Domains
from bounds.errors import BadInput
from bounds.graph import Array
from bounds.methods.bounder import Effort
from bounds.methods.splits import Splits
from verifier.files import replacing
from verifier.proof_part import ARRAYS as PROOF_ARRAYS
from verifier.proof_part import ProofPart
from verifier.proof_part import contradiction as proof_contradiction
from verifier.search.frontier import Frontier
from verifier.search.operand_search import OperandDomains
from verifier.search.outcome import Left
from verifier.verdict import UnknownReason

FORMAT, VERSION, OLDER = "surebound-checkpoint", 2, (1,)
_MOST_BYTES = 1 << 36
_SHARES = 2.0**-20  # how exactly shares must add up
_BOXES: Mapping[str, tuple[Any, int]] = {
    "id": (np.int64, 1), "open": (np.bool_, 2), "lb": (np.float64, 1), "volume": (np.float64, 1),
    "lo": (np.float64, 2), "hi": (np.float64, 2),
}  # fmt: skip
_OPERANDS: Mapping[str, tuple[Any, int]] = {
    "id": (np.int64, 1), "open": (np.bool_, 2), "lb": (np.float64, 1), "volume": (np.float64, 1),
    "pick": (np.int64, 1), "parameters": (np.uint8, 2), "operand": (np.int32, 2), "point": (np.float32, 2),
    "side": (np.int8, 2), "node": (np.int64, 2), "beta": (np.float32, 2),
}  # fmt: skip
_SPLITS = ("operand", "point", "side", "node", "beta")


@dataclass(slots=True)
class Part:
    """A case in the middle of its search.

    Attributes:
        case: its index; closed: the share of it that is proved.
        operands: whether operands are split (else inputs).
        left: what is open (without a bounder).
    """

    case: int
    closed: float
    operands: bool
    left: Left

    @property
    def nodes(self) -> int:
        """Open subproblems."""
        return sum(map(len, self.left.levels))

    @property
    def worst(self) -> float:
        """The least bound of an open subproblem."""
        known = [level.worst() for level in self.left.levels]
        return min((w for w in known if w is not None), default=np.inf)


@dataclass(frozen=True, slots=True)
class Dealt:
    """What makes a checkpoint a shard: a part of another one's open subproblems, and nothing else.

    Attributes:
        of: digest of the checkpoint that was dealt out.
        nodes: ids of the nodes that the shard was given.
        elsewhere: how many open nodes the other shards were given.
        splits, settled: the counts of the ledger at the dealing.
    """

    of: str
    nodes: tuple[int, ...]
    elsewhere: int
    splits: int
    settled: int


@dataclass(slots=True)
class State:
    """All there is to go on from.

    Attributes:
        query: what was asked, for comparison: digests of models and property, semantics.
        options: those of the run, for people; whole: whether inputs were searched as whole numbers.
        cases: number of cases; todo: those not begun; parts: those in the middle.
        created, splits, settled, abandoned: of the ledger.
        bounded, leaves, closed, seconds: of the run so far (closed: by cases that are done).
        together: whether the pass over all cases together is done.
        limit: the time limit that the effort at roots was proportioned to; whoever goes on keeps to it, so
            that all of them make the same bounds of a root.
        reason: what keeps the run from a proof whatever comes, if anything.
        dealt: of a shard.
        kept: the proof so far, of a run that keeps it.
        digest: of the file that it was read from.
    """

    query: dict[str, Any]
    options: dict[str, Any]
    whole: bool
    cases: int
    todo: list[int]
    parts: list[Part]
    created: int
    splits: int
    settled: int
    abandoned: int
    bounded: int
    leaves: int
    closed: float
    seconds: float
    together: bool = False
    reason: UnknownReason = UnknownReason.NONE
    limit: float | None = None
    dealt: Dealt | None = None
    kept: ProofPart | None = field(default=None, compare=False)
    source: str = field(default="", compare=False)
    digest: str = field(default="", compare=False)

    def nodes(self) -> Array:
        """Ids of what is open and of the roots of cases not begun."""
        batches = [level.all() for p in self.parts for level in p.left.levels]
        open_ = [b.id for b in batches if b is not None]
        return np.concatenate([np.array(self.todo, dtype=np.int64), *open_])


_COUNTS = ("cases", "created", "splits", "settled", "abandoned", "bounded", "leaves")


def part_of(case: int, closed: float, left: Left) -> Part | None:
    """A case's open subproblems as a part; None when nothing is open, or only its root."""
    levels: list[Frontier[Any]] = []
    for level in left.levels:
        batch = level.all()
        # a search that was stopped inside a block may hold subproblems that it has settled
        held = None if batch is None else batch.take(batch.open.any(axis=1))
        levels.append(Frontier(held) if held is not None and len(held) else Frontier[Any]())
    operands = left.bounder is not None
    if not any(map(len, levels)) or (not operands and left.effort is None):
        return None
    return Part(case, closed, operands, Left(levels, left.block, left.effort, anchor_node=left.anchor_node))


def untouched(left: Left | None) -> bool:
    """Whether a case is as it was before its search: at most its root was looked at."""
    return left is None or (left.bounder is None and left.effort is None and any(map(len, left.levels)))


def save(path: str | Path, state: State) -> None:
    """Writes a checkpoint (atomically).

    Raises:
        BadInput: it cannot be written.
    """
    arrays: dict[str, Array] = {"todo": np.array(state.todo, dtype=np.int64)}
    parts: list[dict[str, Any]] = []
    for i, part in enumerate(state.parts):
        batches = [level.all() for level in part.left.levels]
        held = [b for b in batches if b is not None]
        joined = type(held[0]).concat(held)
        for name in _OPERANDS if part.operands else _BOXES:
            arrays[f"p{i}_{name}"] = getattr(joined.splits if name in _SPLITS else joined, name)
        parts.append(
            {
                "case": part.case,
                "closed": part.closed,
                "operands": part.operands,
                "levels": [0 if b is None else len(b) for b in batches],
                "block": part.left.block,
                "effort": None if part.left.effort is None else asdict(part.left.effort),
                "anchor_node": part.left.anchor_node,
            }
        )
    kept = state.kept
    if kept is not None:
        arrays |= {f"proof_{name}": array for name, array in kept.arrays.items()}
    header = {
        "format": FORMAT, "version": VERSION, "query": state.query, "options": state.options,
        "whole": state.whole, "together": state.together, "parts": parts, "closed": state.closed,
        "reason": state.reason.name, "seconds": state.seconds, "limit": state.limit,
        "dealt": None if state.dealt is None else asdict(state.dealt),
        "proof": None if kept is None else {"first": kept.first, "forward": kept.forward},
    } | {name: getattr(state, name) for name in _COUNTS}  # fmt: skip
    members = {"checkpoint.json": json.dumps(header, sort_keys=True, indent=1).encode()}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    with (
        replacing(Path(path)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z,
    ):
        for name, data in members.items():
            z.writestr(_entry(name), data)
        z.writestr(_entry("digest"), _digest(members))


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without the time of day: equal searches make equal files."""
    entry = zipfile.ZipInfo(name)
    # evidence is large, and whoever was told to stop has seconds
    large = name.startswith("proof_")
    entry.compress_type = zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED
    return entry


def _digest(members: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(members):
        total.update(f"{name} {len(members[name])}\n".encode())
        total.update(members[name])
    return total.hexdigest()


def load(path: str | Path) -> State:
    """Reads a checkpoint and checks that it is whole and agrees with itself.

    Raises:
        BadInput: it cannot be read, is damaged, or contradicts itself.
    """
    try:
        members = _members(Path(path))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad(path, f"cannot be read ({error})") from None
    digest = members.pop("digest", b"")
    found = _digest(members)
    if digest.decode("ascii", "replace") != found:
        raise _bad(path, "is damaged: its contents do not have its digest")
    try:
        state = _state(members)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _bad(path, f"is no checkpoint of this version ({type(error).__name__}: {error})") from None
    state.source, state.digest = str(path), found
    problem = contradiction(state)
    if problem:
        raise _bad(path, f"contradicts itself: {problem}")
    return state


def _bad(path: str | Path, what: str) -> BadInput:
    return BadInput(f"{path}: {what}; run again without --resume")


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as z:
        if sum(i.file_size for i in z.infolist()) > _MOST_BYTES:
            raise zipfile.BadZipFile("it is too large")
        names = z.namelist()
        if len(set(names)) != len(names):
            raise zipfile.BadZipFile("a member occurs twice")
        return {name: z.read(name) for name in names}


def _state(members: Mapping[str, bytes]) -> State:
    header = json.loads(members["checkpoint.json"])
    if header["format"] != FORMAT or header["version"] not in (VERSION, *OLDER):
        raise ValueError(f"format {header['format']!r} version {header['version']!r}")
    parts = [_part(i, told, members) for i, told in enumerate(header["parts"])]
    counts = {name: _count(header[name]) for name in _COUNTS}
    return State(
        query=dict(header["query"]),
        options=dict(header["options"]),
        whole=bool(header["whole"]),
        todo=_array(members, "todo", np.int64, 1).tolist(),
        parts=parts,
        closed=float(header["closed"]),
        seconds=float(header["seconds"]),
        together=bool(header["together"]),
        reason=UnknownReason[header["reason"]],
        # files of version 1 hold none of these
        limit=None if header.get("limit") is None else float(header["limit"]),
        dealt=_dealt(header.get("dealt")),
        kept=_kept(header.get("proof"), members),
        cases=counts["cases"],
        created=counts["created"],
        splits=counts["splits"],
        settled=counts["settled"],
        abandoned=counts["abandoned"],
        bounded=counts["bounded"],
        leaves=counts["leaves"],
    )


def _dealt(told: Mapping[str, Any] | None) -> Dealt | None:
    if told is None:
        return None
    counts = (_count(told[name]) for name in ("elsewhere", "splits", "settled"))
    return Dealt(str(told["of"]), tuple(_count(n) for n in told["nodes"]), *counts)


def _kept(told: Mapping[str, Any] | None, members: Mapping[str, bytes]) -> ProofPart | None:
    if told is None:
        return None
    arrays = {n: _array(members, f"proof_{n}", kind, axes) for n, (kind, axes) in PROOF_ARRAYS.items()}
    return ProofPart(_count(told["first"]), bool(told["forward"]), arrays)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _array(members: Mapping[str, bytes], name: str, dtype: Any, axes: int) -> Array:
    array = np.load(io.BytesIO(members[f"{name}.npy"]), allow_pickle=False)
    if array.dtype != np.dtype(dtype) or array.ndim != axes:
        raise ValueError(f"array {name} has the wrong type or shape")
    return np.asarray(array)


def _part(i: int, told: Mapping[str, Any], members: Mapping[str, bytes]) -> Part:
    operands = bool(told["operands"])
    fields = {
        name: _array(members, f"p{i}_{name}", dtype, axes)
        for name, (dtype, axes) in (_OPERANDS if operands else _BOXES).items()
    }
    if len({len(a) for a in fields.values()}) != 1:
        raise ValueError(f"arrays of part {i} differ in length")
    sizes = [_count(n) for n in told["levels"]]
    batch: Any
    if operands:
        splits = Splits(*(fields.pop(name) for name in _SPLITS))
        if len({getattr(splits, name).shape for name in _SPLITS}) != 1:
            raise ValueError(f"splits of part {i} differ in shape")
        batch = OperandDomains(**fields, splits=splits)
    else:
        batch = Domains(**fields)
    if sum(sizes) != len(batch):
        raise ValueError(f"levels of part {i} do not add up")
    ends = np.cumsum([0, *sizes]).tolist()
    levels = [Frontier(batch.take(slice(a, b))) if b > a else Frontier[Any]() for a, b in pairwise(ends)]
    effort = None if told["effort"] is None else Effort(**told["effort"])
    anchor = _count(told["anchor_node"] + 1) - 1
    left = Left(levels, max(1, _count(told["block"])), effort, anchor_node=anchor)
    return Part(_count(told["case"]), float(told["closed"]), operands, left)


def _adds_up(part: Part) -> bool:
    """Whether what is proved and what is open make a whole case."""
    batches = [level.all() for level in part.left.levels]
    waiting = sum(float(b.volume.sum()) for b in batches if b is not None)
    return abs(part.closed + waiting - 1) < _SHARES


def contradiction(state: State) -> str:
    """What is impossible about a state, or "".

    Soundness: a proof needs a ledger in which all is settled. Every node that the ledger has open must be
    among the open subproblems, or a case not begun, or abandoned: then no part can get lost on the way.
    """
    roots = max(state.cases, 1)
    known = state.todo + [p.case for p in state.parts]
    ids = [p.left.levels[k].all() for p in state.parts for k in range(len(p.left.levels))]
    nodes = np.concatenate([np.zeros(0, dtype=np.int64), *(b.id for b in ids if b is not None)])
    waiting = state.created - state.splits - state.settled
    dealt = state.dealt or Dealt("", (), 0, 0, 0)
    proof = "" if state.kept is None else proof_contradiction(state.kept, state.created)
    rules = (
        (state.created == roots + 2 * state.splits, "nodes and splits do not add up"),
        (
            waiting == len(state.todo) + len(nodes) + state.abandoned + dealt.elsewhere,
            "open nodes are missing, or too many",
        ),
        (dealt.splits <= state.splits and dealt.settled <= state.settled, "a shard has lost something"),
        (
            len(set(dealt.nodes)) == len(dealt.nodes) > 0 or not state.dealt,
            "a shard's nodes are not distinct",
        ),
        (not proof, proof),
        (len(set(known)) == len(known), "a case occurs twice"),
        (all(0 <= c < state.cases for c in known), "a case does not exist"),
        (len(np.unique(nodes)) == len(nodes), "a node occurs twice"),
        (bool(((nodes >= 0) & (nodes < state.created)).all()), "a node does not exist"),
        (not set(state.todo) & set(nodes.tolist()), "a case is both open and not begun"),
        (all(len(p.left.levels) > 0 and p.nodes > 0 for p in state.parts), "a part is empty"),
        (all(bool(b.open.any(axis=1).all()) for b in ids if b is not None), "an open node has nothing open"),
        (
            state.abandoned > 0 or all(map(_adds_up, state.parts)),
            "shares of a case do not add up to the whole",
        ),
        (all(0 <= c <= 1 + _SHARES for c in (state.closed, *(p.closed for p in state.parts))), "shares"),
    )
    return next((words for holds, words in rules if not holds), "")
