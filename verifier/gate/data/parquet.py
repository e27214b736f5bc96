"""Parquet files: a column of lists, or one column per feature, beside a column of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bounds.errors import BadInput
from verifier.gate.data.base import Raw, Wanted
from verifier.robustness.data import INPUT_KEYS, LABEL_KEYS


def read(path: Path, wanted: Wanted) -> Raw:
    """See :class:`verifier.gate.data.base.Raw`."""
    try:
        import pyarrow
        import pyarrow.parquet as files
    except ImportError:
        raise BadInput(f"{path}: reading parquet needs pyarrow: pip install 'surebound[gate]'") from None
    try:
        table: Any = files.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: is no readable parquet file ({reason}); write it again") from None
    there: list[str] = list(table.column_names)
    label = _named(there, wanted.labels, LABEL_KEYS, path, "labels")
    x, name = _inputs(table, there, label, wanted.inputs, path)
    y = np.asarray(table.column(label).to_numpy(zero_copy_only=False))
    return Raw(y, [str(i) for i in range(len(x))], lambda places: x[places], f"{path}, column '{name}'")


def _named(there: list[str], asked: str, usual: tuple[str, ...], path: Path, what: str) -> str:
    found = next((n for n in ([asked] if asked else usual) if n in there), None)
    if found is None:
        told = f"no column '{asked}'" if asked else f"no column of {what} under a usual name"
        raise BadInput(f"{path}: has {told} (it holds {', '.join(there)}); name one with the key {what}")
    return found


def _inputs(table: Any, there: list[str], label: str, asked: str, path: Path) -> tuple[Any, str]:
    name = asked if asked else next((n for n in INPUT_KEYS if n in there), "")
    if name and name not in there:
        raise BadInput(
            f"{path}: has no column '{name}' (it holds {', '.join(there)}); name one with the key inputs"
        )
    columns = [name] if name else [n for n in there if n != label]
    if name:
        rows = table.column(name).to_pylist()
        lengths = {len(r) if isinstance(r, list) else -1 for r in rows}
        if len(lengths) > 1 or lengths == {-1}:
            raise BadInput(f"{path}, column '{name}': its rows are not lists of one length; write it so")
        kind = table.schema.field(name).type.value_type.to_pandas_dtype()
        try:
            return np.array(rows, dtype=kind), name
        except (TypeError, ValueError):
            raise BadInput(
                f"{path}, column '{name}': holds something that is no number; clean the data"
            ) from None
    parts = [np.asarray(table.column(n).to_numpy(zero_copy_only=False)) for n in columns]
    odd = next((n for n, p in zip(columns, parts, strict=True) if p.dtype.kind not in "iufb"), None)
    if odd is not None or not parts:
        raise BadInput(
            f"{path}, column '{odd}': holds no numbers; name the column of inputs with the key inputs"
        )
    return np.stack(parts, axis=1), ", ".join(columns[:4])
