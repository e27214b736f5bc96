"""The loop: epochs, checkpoints, evaluation, and what can go wrong in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from bounds.errors import BadInput, SureboundError
from training import checkpoint, schedule
from training.config import Config, as_mapping
from training.data import Dataset, augment, load
from training.logs import Logs
from training.tasks import Measured, Task, make_task

CHECKPOINT: Final = "checkpoint.safetensors"
_PRIME: Final = 1_000_003  # epochs of one seed get seeds far apart


@dataclass(frozen=True, slots=True)
class Progress:
    """What a caller hears after every step.

    Attributes:
        epoch, epochs: number of the present one (from 1), and of all.
        step, steps: within the epoch.
        loss: of the step.
        rate: examples a second since the start of the epoch.
        measured: the last evaluation, or None.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    measured: Measured | None


Listener = Callable[[Progress], None]


@dataclass(slots=True)
class Run:
    """A run in progress; see :func:`start`."""

    config: Config
    data: Dataset
    task: Task
    optimiser: torch.optim.Optimizer
    out: Path
    logs: Logs
    state: checkpoint.State = field(default_factory=checkpoint.State)
    average: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    seconds: float = 0.0
    examples: int = 0

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return self.out / CHECKPOINT

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.data.train_y) // self.config.train.batch)


def start(config: Config, out: Path, *, arrays: Any = None, resume: bool = False) -> Run:
    """Loads data, builds the network, restores a checkpoint when asked.

    Raises:
        BadInput: something in the configuration or the checkpoint cannot be used.
        SureboundError: the network does not fit into memory.
    """
    torch.set_num_threads(config.train.threads)
    data = load(config.data, arrays)
    if config.train.device != "cpu":
        data = _moved(data, config.train.device)
    torch.manual_seed(config.seed)
    try:
        task = make_task(config, data)
        task.model.to(config.train.device)
    except (MemoryError, RuntimeError) as error:
        if not _is_shortage(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise SureboundError(
            f"out of memory while building the network ({reason}); lower the widths in [model]"
        ) from None
    out.mkdir(parents=True, exist_ok=True)
    run = Run(config, data, task, _optimiser(config, task.model), out, Logs(config.log, out))
    if resume and run.file.exists():
        run.state = checkpoint.restore(run.file, task.model, run.average, run.optimiser, as_mapping(config))
    elif resume:
        raise BadInput(f"{run.file}: there is no checkpoint to resume; start without --resume")
    return run


def _moved(data: Dataset, device: str) -> Dataset:
    try:
        parts = [t.to(device) for t in (data.train_x, data.train_y, data.test_x, data.test_y)]
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"device '{device}' cannot be used ({reason}); set device = \"cpu\"") from None
    return Dataset(parts[0], parts[1], parts[2], parts[3], data.classes)


def _optimiser(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    settings = config.train
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=settings.lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)


def run_to_end(run: Run, listener: Listener | None = None, stop_after: int | None = None) -> None:
    """Trains the epochs that are left (``stop_after``: until so many are done).

    Raises:
        SureboundError: the loss is no number, or memory ran out; the message names the last good checkpoint.
    """
    try:
        while run.state.epoch < (stop_after or run.config.train.epochs):
            _epoch(run, listener)
    except (MemoryError, RuntimeError) as error:
        if not _is_shortage(error):
            raise
        raise _out_of_memory(run, error) from None
    finally:
        run.logs.close()


def _is_shortage(error: BaseException) -> bool:
    """Whether memory ran out: PyTorch's CPU allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "memory" in str(error)


def _out_of_memory(run: Run, error: BaseException) -> SureboundError:
    reason = " ".join(str(error).split())[:120]
    return SureboundError(
        f"out of memory in epoch {run.state.epoch + 1} ({reason}); lower 'batch' in [train] or the widths in"
        f" [model]. {_good(run)}"
    )


def _good(run: Run) -> str:
    if not run.state.epoch:
        return "No epoch had ended, so there is no checkpoint"
    return f"The last good checkpoint is {run.file}, of epoch {run.state.epoch}; --resume goes on from it"


def _epoch(run: Run, listener: Listener | None) -> None:
    config, data, task = run.config, run.data, run.task
    # an epoch's randomness depends on its number alone: that is why a resumed run repeats bit for bit
    torch.manual_seed(config.seed * _PRIME + run.state.epoch)
    generator = torch.Generator().manual_seed(config.seed * _PRIME + run.state.epoch)
    order = torch.randperm(len(data.train_y), generator=generator)
    task.model.train()
    began, seen = time.perf_counter(), 0
    measured = _last(run)
    for number, index in enumerate(order.split(config.train.batch)):
        x = augment(data.train_x[index], config.data, generator)
        loss = _step(run, x, data.train_y[index], number)
        seen += len(index)
        if listener is not None:
            speed = seen / max(time.perf_counter() - began, 1e-9)
            listener(
                Progress(
                    run.state.epoch + 1, config.train.epochs, number + 1, run.steps, loss, speed, measured
                )
            )
    run.state.epoch += 1
    run.seconds += time.perf_counter() - began
    run.examples += seen
    if run.state.epoch % config.evaluate.every == 0 or run.state.epoch == config.train.epochs:
        _evaluate(run)
    checkpoint.save(run.file, run.state, task.model, run.average, run.optimiser, as_mapping(config))


def one_step(run: Run, x: Tensor, y: Tensor) -> float:
    """One step on a batch (for measuring); the loss."""
    return _step(run, x, y, 0)


def _step(run: Run, x: Tensor, y: Tensor, number: int) -> float:
    config, model, optimiser = run.config, run.task.model, run.optimiser
    share = run.state.step / (run.steps * config.train.epochs)
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate(config.train, share)
    loss = run.task.loss(x, y, share)
    value = float(loss.detach())
    optimiser.zero_grad(set_to_none=True)
    if value == value and abs(value) != float("inf"):
        loss.backward()
        limit = config.train.clip or float("inf")
        size = float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
    else:
        size = float("nan")
    if not size < float("inf"):
        what = "loss" if size != size and not abs(value) < float("inf") else "gradient"
        raise SureboundError(
            f"the {what} is no finite number in epoch {run.state.epoch + 1}, step {number + 1} (loss {value})"
            f"; lower 'lr' in [train], or 'clip'. {_good(run)}"
        )
    optimiser.step()
    run.state.step += 1
    _average(run, share)
    return value


def _average(run: Run, share: float) -> None:
    """Moves the averaged weights."""
    settings = run.config.train
    if settings.average == "none" or (settings.average == "swa" and share < settings.swa_start):
        return
    run.state.averaged += 1
    if settings.average == "ema":
        # early on, the mean of what there is
        weight = max(1 - settings.ema_decay, 1 / run.state.averaged)
    else:
        weight = 1 / run.state.averaged
    with torch.no_grad():
        for name, value in run.task.model.state_dict().items():
            if not value.is_floating_point() or name not in run.average:
                run.average[name] = value.clone()
            else:
                run.average[name].lerp_(value, weight)


def _last(run: Run) -> Measured | None:
    if not run.state.history:
        return None
    return Measured(run.state.history[-1]["clean"], run.state.history[-1]["certified"])


class Averaged:
    """The averaged weights put in place, and the trained ones put back."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.held: dict[str, Tensor] = {}

    def __enter__(self) -> None:
        if self.run.average:
            model = self.run.task.model
            self.held = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(self.run.average)

    def __exit__(self, *_: object) -> None:
        if self.held:
            self.run.task.model.load_state_dict(self.held)


def _evaluate(run: Run) -> None:
    config, data = run.config, run.data
    limit = config.evaluate.limit or len(data.test_y)
    model = run.task.model
    model.eval()
    with Averaged(run):
        found = run.task.measure(data.test_x[:limit], data.test_y[:limit], config.evaluate.radii)
    model.train()
    record = {"epoch": run.state.epoch, "clean": found.clean, "certified": found.certified}
    run.state.history = [*(run.state.history or []), record]
    run.logs.write(run.state.epoch, found)
