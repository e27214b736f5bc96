"""Checkpoints: one safetensors file with weights, optimiser state and averages; what is no tensor is its
header.

Written beside the old file and renamed, so that a crash leaves the last good one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from bounds.errors import BadInput

FORMAT: Final = "surebound-training-1"


@dataclass(slots=True)
class State:
    """What training needs to go on bit for bit (epochs reseed everything random).

    Attributes:
        epoch: epochs done.
        step: steps done.
        averaged: number of weights in the running average.
        history: one record per evaluation.
    """

    epoch: int = 0
    step: int = 0
    averaged: int = 0
    history: list[dict[str, Any]] | None = None


def save(
    path: Path,
    state: State,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    config: dict[str, Any],
) -> None:
    """Writes a checkpoint."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average/{k}": v for k, v in average.items()}
    numbers: dict[str, Any] = {}
    for index, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{name}"] = value
            else:
                numbers[f"{index}/{name}"] = value
    header = {
        "format": FORMAT,
        "epoch": state.epoch,
        "step": state.step,
        "averaged": state.averaged,
        "history": state.history or [],
        "optimiser": numbers,
        "config": config,
    }
    fresh = path.with_suffix(".partial")
    owned = {
        k: v.detach().contiguous().clone() for k, v in tensors.items()
    }  # safetensors refuses shared memory
    save_file(owned, fresh, metadata={"surebound": json.dumps(header)})
    fresh.replace(path)


def restore(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    config: dict[str, Any],
) -> State:
    """Reads a checkpoint into model, average and optimiser.

    Raises:
        BadInput: it is no checkpoint, or of another configuration.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("surebound", "{}"))
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as a checkpoint ({error}); start without --resume") from None
    if header.get("format") != FORMAT:
        raise BadInput(f"{path}: is no checkpoint of this program; start without --resume")
    _same_run(path, header["config"], config)
    try:
        model.load_state_dict(_part(tensors, "model/"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path}: does not fit this network ({reason}); start without --resume") from None
    average.clear()
    average.update(_part(tensors, "average/"))
    held: dict[int, dict[str, Any]] = {}
    for name, value in _part(tensors, "optimiser/").items():
        index, field = name.split("/")
        held.setdefault(int(index), {})[field] = value
    for name, value in header["optimiser"].items():
        index, field = name.split("/")
        held.setdefault(int(index), {})[field] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": held, "param_groups": groups})
    return State(header["epoch"], header["step"], header["averaged"], list(header["history"]))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _same_run(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """More epochs would change the schedule behind, so nothing may differ."""
    for table, value in new.items():
        if old.get(table) == value:
            continue
        keys = (
            [k for k in value if old.get(table, {}).get(k) != value[k]]
            if isinstance(value, dict)
            else [table]
        )
        raise BadInput(
            f"{path}: was written with another configuration ({table}: {', '.join(keys)} changed), so going"
            " on would not repeat the run; restore it, or start without --resume"
        )
