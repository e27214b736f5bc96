"""How much memory a run may take: what is free, and what one subproblem needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bounds.graph import Graph

# share of the free memory that a run takes when nobody says otherwise
SHARE = 0.7
# share of a run's memory for the arrays of one block; the rest is for what is open
BLOCK_SHARE = 0.25
LEAST = 1 << 20
"""The smallest budget that may be asked for."""
_ROW_BYTES = 4_000_000  # packed rows that are bounded backwards at once
_NO_LIMIT = 1 << 60


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could still take: the machine's, or less where a control group limits it.

    Args:
        root: where ``proc`` and ``sys`` are (for tests).
    """
    return min(_machine(root), *_groups(root))


def _machine(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) << 10
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _groups(root: Path) -> list[int]:
    """What each control group on the way up leaves (versions 1 and 2)."""
    found = [_NO_LIMIT]
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        at = base / path.lstrip("/")
        while True:  # inside a container the path may be the host's: then only the base is there
            found.append(_left(at, *names))
            if at == base or base not in at.parents:
                break
            at = at.parent
    return found


def _left(folder: Path, limit: str, used: str) -> int:
    most, now = _read(folder / limit).strip(), _read(folder / used).strip()
    if not most.isdigit() or not now.isdigit():
        return _NO_LIMIT
    # pages of files are given back on demand
    stat = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines() if " " in line)
    cached = stat.get("inactive_file", "0")
    return max(int(most) - int(now) + (int(cached) if cached.isdigit() else 0), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def bytes_for_one(graph: Graph, varying: int, rows: int, *, forward: bool) -> int:
    """About what the arrays take while one subproblem is bounded (weights not counted).

    Args:
        graph: the network; varying: inputs that vary; rows: objective rows.
        forward: whether boxes are bounded forwards, with one column for each varying input.
    """
    sizes = [n.size for n in graph.nodes]
    widest = max(sizes, default=1)
    columns = varying + 1 if forward else 1
    backward = min(sum(sizes), max(8, _ROW_BYTES // (4 * widest)))
    return 4 * (3 * widest * columns + 10 * sum(sizes) + 6 * widest * (rows + backward))


def in_words(size: int) -> str:
    """A size as ``--memory`` reads it, rounded up."""
    for letter, bits in (("G", 30), ("M", 20), ("K", 10)):
        if size >= 10 << bits or (letter == "K" and size >= 1 << 10):
            return f"{-(-size >> bits)}{letter}"
    return str(size)
