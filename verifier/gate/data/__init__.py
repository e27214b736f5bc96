"""Labelled samples from files: one module a format, one row each in :data:`READERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bounds.errors import BadInput
from verifier.gate.data import folder, npz, parquet
from verifier.gate.data.base import Raw, Wanted

if TYPE_CHECKING:
    from verifier.gate.entries import DataEntry

Read = Callable[[Path, Wanted], Raw]
# name -> (what tells it apart, reader)
READERS: Mapping[str, tuple[Callable[[Path], bool], Read]] = {
    "folder": (lambda path: path.is_dir(), folder.read),
    "parquet": (lambda path: path.suffix in (".parquet", ".pq"), parquet.read),
    "npz": (lambda path: path.suffix == ".npz", npz.read),
}


def read(path: Path, entry: DataEntry, wanted: Wanted) -> Raw:
    """All samples of a file or folder, as it holds them.

    Raises:
        BadInput: it cannot be read as samples.
    """
    names = [name for name, (fits, _) in READERS.items() if fits(path)]
    name = entry.format if entry.format != "auto" else names[0] if names else ""
    if not name:
        raise BadInput(f'{path}: its name does not tell what it is; give format = "{" | ".join(READERS)}"')
    return READERS[name][1](path, wanted)
