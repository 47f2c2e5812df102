"""Log every epoch to TensorBoard, MLflow or Weights & Biases, for a head with `log:`.

All are of the extra `tracking`. TensorBoard's files lie in the head's folder; MLflow's go where
MLFLOW_TRACKING_URI says, and without one to where MLflow puts them by itself. Those of Weights &
Biases are in the head's folder and leave the machine only with `wandb sync` or WANDB_MODE=online.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ser.heads.config import HeadConfig
from ser.heads.training.trainer import AfterEpoch, Row


@contextmanager
def tracked(config: HeadConfig, folder: Path, name: str) -> Iterator[AfterEpoch]:
    """Give the function to call with every row of history."""
    if config.log == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(folder / "tensorboard" / name) as writer:

            def add(row: Row) -> None:
                for key, value in _numbers(row).items():
                    writer.add_scalar(key, value, row["epoch"])

            yield add
    elif config.log == "mlflow":
        import mlflow

        with mlflow.start_run(run_name=f"{folder.name}/{name}"):
            mlflow.log_params(config.model_dump(mode="json"))
            yield lambda row: mlflow.log_metrics(_numbers(row), step=int(row["epoch"]))
    elif config.log == "wandb":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at import
        os.environ.setdefault("WANDB_MODE", "offline")
        import wandb

        with wandb.init(
            project="ser",
            name=f"{folder.name}/{name}",
            dir=folder,
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        ) as run:
            yield lambda row: run.log(_numbers(row), step=int(row["epoch"]))
        wandb.teardown()  # its process writes the file to the end
    else:
        yield lambda row: None


def _numbers(row: Row) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if key != "epoch"}
