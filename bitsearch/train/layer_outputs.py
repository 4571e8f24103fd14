"""What modules of a float network return, call by call, for the same modules of its quantized copy to come near."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitsearch.dataflow.products import first_tensor
from bitsearch.network_inputs import Inputs
from bitsearch.train.predict import OutputForm, predict

LayerOutputs = dict[str, list[Tensor]]
"""By module path, of every call."""


@contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[LayerOutputs]:
    """Inside, a copy of what the modules of these paths return is added to the outputs, of several tensors the first.

    A copy, since an activation that follows may write in place.
    """
    modules = dict(network.named_modules())
    outputs: LayerOutputs = {name: [] for name in names}

    def keep(name: str, result: object) -> None:
        tensor = first_tensor(result)
        if tensor is not None:
            outputs[name].append(tensor.clone())

    hooks = [
        modules[name].register_forward_hook(lambda module, args, result, name=name: keep(name, result))
        for name in names
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def layer_outputs(
    network: nn.Module, names: Sequence[str], inputs: Inputs, form: OutputForm
) -> tuple[LayerOutputs, Tensor]:
    """(what the layers return, what the network does) for a batch."""
    with watched(network, names) as outputs:
        result = predict(network, inputs, form)
    return outputs, result
