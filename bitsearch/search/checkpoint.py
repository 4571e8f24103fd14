"""The state of a training in one safetensors file, written anew after every epoch."""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bitsearch.allocate.trainer import TrainingState
from bitsearch.errors import InputError


class CheckpointFile:
    """A :class:`bitsearch.allocate.trainer.Checkpoints` in ``path``.

    Holds the network's state, the optimizer's, the schedule's step, and the states of both random generators.

    Args:
        path: file; there is none before the first epoch has ended.
        training: identifies what is trained, and how; a file of another training is refused.
    """

    def __init__(self, path: Path, training: str) -> None:
        self.path, self._training = path, training

    @property
    def done(self) -> int:
        """Epochs that are done; InputError if the file is of another training, or none at all."""
        if not self.path.exists():
            return 0
        return int(self._read()[0]["epoch"])

    def _read(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                # Copies: what the library returns lies in the file itself.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is not a checkpoint: {error}; delete it to start anew") from error
        if metadata.get("training") != self._training or not metadata.get("epoch", "").isdigit():
            raise InputError(
                f"{self.path} is of another training; delete it to start anew, or write to another place with --output"
            )
        return metadata, tensors

    def restore(self, state: TrainingState) -> int:
        """As :meth:`bitsearch.allocate.trainer.Checkpoints.restore`."""
        if not self.path.exists():
            return 0
        metadata, tensors = self._read()
        try:
            self._restore(state, tensors, int(metadata["step"]))
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path} does not fit this training: {error}; delete it to start anew") from error
        return int(metadata["epoch"])

    def _restore(self, state: TrainingState, tensors: dict[str, Tensor], step: int) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}

        state.network.load_state_dict(part("network."))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer.").items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
        state.schedule.last_epoch = step
        for group, rate, factor in zip(
            state.optimizer.param_groups, state.schedule.base_lrs, state.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = rate * factor(step)
        state.generator.set_state(tensors["batches"])
        torch.set_rng_state(tensors["random"])

    def keep(self, state: TrainingState, epoch: int) -> None:
        """As :meth:`bitsearch.allocate.trainer.Checkpoints.keep`: whole or not at all."""
        tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
        for index, moments in state.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors |= {"batches": state.generator.get_state(), "random": torch.get_rng_state()}
        metadata = {"training": self._training, "epoch": str(epoch), "step": str(state.schedule.last_epoch)}
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            # Copies, since safetensors refuses tensors that share memory, as tied weights do.
            save_file(
                {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, draft, metadata
            )
            with draft.open("r+b") as file:
                os.fsync(file.fileno())
            draft.replace(self.path)
        except (OSError, SafetensorError) as error:
            draft.unlink(missing_ok=True)
            raise InputError(f"cannot write {self.path}: {error}") from error

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)


def fingerprint(**parts: object) -> str:
    """What identifies a training, as text."""
    return json.dumps(parts, sort_keys=True)
