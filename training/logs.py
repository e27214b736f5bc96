"""Further places to log to: TensorBoard and MLflow, each through its own library, each optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bounds.errors import BadInput
from training.config import LogConfig
from training.tasks import Measured


class Logs:
    """Writers that a configuration asks for.

    Raises:
        BadInput: a library is missing.
    """

    def __init__(self, config: LogConfig, out: Path) -> None:
        self.board: Any = None
        self.mlflow: Any = None
        if config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise BadInput("tensorboard = true needs its package: pip install tensorboard") from None
            self.board = SummaryWriter(str(out / "tensorboard"))
        if config.mlflow:
            try:
                import mlflow  # pyright: ignore[reportMissingImports]
            except ImportError:
                raise BadInput("mlflow needs its package: pip install mlflow") from None
            mlflow.set_experiment(config.mlflow)
            mlflow.start_run()
            self.mlflow = mlflow

    def write(self, epoch: int, found: Measured) -> None:
        """One evaluation."""
        values = {"clean": found.clean, **{f"certified_{r}": v for r, v in found.certified.items()}}
        for name, value in values.items():
            if self.board is not None:
                self.board.add_scalar(name, value, epoch)
            if self.mlflow is not None:
                self.mlflow.log_metric(name, value, step=epoch)

    def close(self) -> None:
        """Flushes."""
        if self.board is not None:
            self.board.close()
        if self.mlflow is not None:
            self.mlflow.end_run()
