"""Experiment trackers, by Lightning's loggers: TensorBoard, MLflow, and Weights & Biases."""

import os
import re
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bitsearch.errors import InputError, suggestion

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger


class Tracker(Protocol):
    """What differs between trackers."""

    modules: ClassVar[tuple[str, ...]]
    """It needs."""

    def open(self, folder: Path, name: str, key: str | None) -> tuple["Logger", str]:
        """The logger of a run, new or gone on with by its key; and the key."""

    def attach(self, logger: Any, file: Path) -> None:
        """Give the run a file."""

    def close(self, logger: Any) -> None:
        """End the run."""


class TensorBoard(Tracker):
    """Event files in the run folder's ``tensorboard``; files are copied beside them."""

    modules: ClassVar = ("tensorboard",)

    def open(self, folder: Path, name: str, key: str | None) -> tuple["Logger", str]:
        """A folder a run."""
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        key = key or re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        return TensorBoardLogger(folder / "tensorboard", name="", version=key, default_hp_metric=False), key

    def attach(self, logger: Any, file: Path) -> None:
        """Copy it."""
        Path(logger.log_dir).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, logger.log_dir)

    def close(self, logger: Any) -> None:
        """Write what is left."""
        logger.finalize("success")


class MLflow(Tracker):
    """At ``MLFLOW_TRACKING_URI``, or in the run folder's ``mlflow.db``; an experiment for every run folder."""

    modules: ClassVar = ("mlflow", "pytorch_lightning")

    def open(self, folder: Path, name: str, key: str | None) -> tuple["Logger", str]:
        """Where there is a server, it says where artifacts go."""
        from pytorch_lightning.loggers import MLFlowLogger

        server = os.environ.get("MLFLOW_TRACKING_URI")
        logger = MLFlowLogger(
            experiment_name=folder.absolute().name,
            run_name=name,
            tracking_uri=server or f"sqlite:///{folder.absolute() / 'mlflow.db'}",
            artifact_location=None if server else (folder.absolute() / "mlflow").as_uri(),
            run_id=key,
        )
        return logger, str(logger.run_id)

    def attach(self, logger: Any, file: Path) -> None:
        """As an artifact."""
        logger.experiment.log_artifact(logger.run_id, str(file))

    def close(self, logger: Any) -> None:
        """The run is finished."""
        logger.finalize("success")


class WeightsAndBiases(Tracker):
    """In ``WANDB_PROJECT``, or ``bitsearch``; a group for every run folder. ``WANDB_MODE=offline`` sends nothing."""

    modules: ClassVar = ("wandb", "pytorch_lightning")

    def open(self, folder: Path, name: str, key: str | None) -> tuple["Logger", str]:
        """Its own files are in the run folder."""
        from pytorch_lightning.loggers import WandbLogger

        key = key or secrets.token_hex(8)
        project = os.environ.get("WANDB_PROJECT", "bitsearch")
        group = folder.absolute().name
        return WandbLogger(name, str(folder), id=key, project=project, group=group, resume="allow"), key

    def attach(self, logger: Any, file: Path) -> None:
        """As an artifact."""
        logger.experiment.log_artifact(str(file), name=file.name, type=file.suffix.lstrip("."))

    def close(self, logger: Any) -> None:
        """Another run can begin only once this one is finished."""
        logger.finalize("success")
        logger.experiment.finish()


TRACKERS: dict[str, Tracker] = {"tensorboard": TensorBoard(), "mlflow": MLflow(), "wandb": WeightsAndBiases()}


def check_tracker(name: str) -> None:
    """InputError if there is no such tracker, or it is not installed."""
    if name not in TRACKERS:
        raise InputError(f"no logger named {name!r}; known: {', '.join(TRACKERS)}{suggestion(name, TRACKERS)}")
    missing = [module for module in TRACKERS[name].modules if find_spec(module) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} is not installed; run: pip install 'bitsearch[{name}]'")
