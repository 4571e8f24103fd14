"""What a training runs on: device, precision, and the processes that train together."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from torch import distributed
from torch.amp.grad_scaler import GradScaler

from bitsearch.launch import launched_world_size, local_world_size
from bitsearch.train.precision import slowness
from bitsearch.train.state import Stateful
from bitsearch.training import Precision as TrainingPrecision

# It announces on stderr what a run's own output says.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


_MIXED: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""Fabric's names of half precisions."""


class _Autocast(MixedPrecision):
    """Fabric's, but that inputs and targets come as they are: to be quantized, and to be learned, with all digits."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(device: torch.device, precision: TrainingPrecision = "float32") -> Fabric:
    """This process alone on ``device``, or all that were started with it, each on a device of the kind.

    Make it once a run, inside :func:`process_group`: the processes meet here.
    """
    # By itself Fabric takes bfloat16 for float16 on a CPU.
    digits = _Autocast(_MIXED[precision], device.type) if precision in _MIXED else Precision()
    slow = slowness(device, precision)
    if slow is not None:
        warnings.warn(slow, stacklevel=2)
    if launched_world_size() == 1:
        return Fabric(
            accelerator=device.type,
            devices=1 if device.type == "cpu" else [device.index or 0],
            strategy=SingleDeviceStrategy(device),
            plugins=[LightningEnvironment(), digits],
        )
    # Statistics of batch norm and steps are shared where they are computed, so buffers never differ. Latents take part
    # in the last part of a batch only, and a network may have parameters that it does not use at all.
    strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=True)
    fabric = Fabric(
        accelerator=device.type,
        devices=local_world_size(),
        num_nodes=launched_world_size() // local_world_size(),
        strategy=strategy,
        plugins=[TorchElasticEnvironment(), digits],
    )
    fabric.launch()
    return fabric


@contextmanager
def process_group() -> Iterator[None]:
    """Inside, processes may train together; whatever ends it, this one leaves their group. One alone has none.

    Left to the end of the interpreter, gloo's threads may outlive what they work on, which aborts the process.
    """
    try:
        yield
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def reset_loss_scale(fabric: Fabric) -> Stateful:
    """What scales the loss of float16, at its start, so that no training depends on those before it."""
    scale = fabric.strategy.precision
    if isinstance(scale, MixedPrecision) and scale.scaler is not None:
        scale.load_state_dict(GradScaler(scale.device).state_dict())
    return scale
