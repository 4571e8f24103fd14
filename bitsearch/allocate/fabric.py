"""What a training runs on: device, precision, and the processes that train together."""

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy, SingleDeviceStrategy

from bitsearch.allocate.device import launched_processes, processes_here
from bitsearch.space import Precision

# It announces on stderr what a run's own output says.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def make_fabric(device: torch.device, precision: Precision = "32-true") -> Fabric:
    """This process alone on ``device``, or all processes that ``torchrun`` started, each on a device of the kind.

    Make it once a run: the processes meet here.
    """
    if launched_processes() == 1:
        return Fabric(
            accelerator=device.type,
            devices=1 if device.type == "cpu" else [device.index or 0],
            strategy=SingleDeviceStrategy(device),
            plugins=[LightningEnvironment()],
            precision=precision,
        )
    # Statistics of batch norm and steps are shared where they are computed, so buffers never differ. Latents have
    # gradients from outside the forward pass, and a network may have parameters that it does not use: a static graph
    # allows both.
    strategy = DDPStrategy(broadcast_buffers=False, static_graph=True)
    fabric = Fabric(
        accelerator=device.type,
        devices=processes_here(),
        num_nodes=launched_processes() // processes_here(),
        strategy=strategy,
        plugins=[TorchElasticEnvironment()],
        precision=precision,
    )
    fabric.launch()
    return fabric
