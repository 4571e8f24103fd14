"""A network's prediction for a batch, whatever kind of network it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError, suggestion
from bitsearch.frameworks.neurons import reset_states
from bitsearch.network_inputs import Inputs, call_network, is_dense


@dataclass(frozen=True)
class OutputForm:
    """What a network returns, and which part of it is meant."""

    part: str | int | None = None
    """Name or index in a dict, a tuple or a named tuple; None for a network that returns a tensor."""
    axes: int = 1
    """Of one sample's output."""
    every_step: bool = False
    """Outputs of time steps are kept, ``[N, T, ...]``, instead of averaged."""
    single: bool = False
    """A sample's output may be one number without an axis, ``[N]``."""
    description: str = "logits [N, classes] or [T, N, classes]"

    @property
    def words(self) -> str:
        """``logits``, or ``values``."""
        return self.description.split()[0] if self.description[0].isalpha() else "outputs"

    def read(self, output: object, label: str) -> Tensor:
        """The part that is meant, ``[N, ...]``; InputError, which names ``label``, if there is no such tensor.

        Outputs of time steps, ``[T, N, ...]``, are averaged, or kept as ``[N, T, ...]``.
        """
        tensor = output if self.part is None else self._part(output, label)
        if isinstance(tensor, Tensor) and is_dense(tensor) and tensor.is_floating_point():
            if self.single and tensor.dim() == 1:
                return tensor.unsqueeze(1)
            if tensor.dim() == self.axes + 1:
                return tensor.unsqueeze(1) if self.every_step else tensor
            if tensor.dim() == self.axes + 2:
                return tensor.transpose(0, 1) if self.every_step else tensor.mean(0)
        advice = ""
        if isinstance(output, Mapping | tuple | list) and self.part is None:
            advice = "; task.output names the part that is meant"
        raise InputError(
            f"{label} returns {describe_output(output)}; it must return one float tensor, {self.description}{advice}"
        )

    def _part(self, output: object, label: str) -> object:
        if isinstance(output, Mapping) and self.part in output:
            return output[self.part]
        if isinstance(output, tuple | list) and isinstance(self.part, int) and -len(output) <= self.part < len(output):
            return output[self.part]
        fields = getattr(output, "_fields", ())
        if isinstance(self.part, str) and self.part in fields:
            return getattr(output, self.part)
        names = list(output) if isinstance(output, Mapping) else list(fields)
        raise InputError(
            f"{label} returns {describe_output(output)}; it has no part {self.part!r} (task.output)"
            f"{suggestion(str(self.part), [str(name) for name in names])}"
        )


LOGITS = OutputForm()


def predict(network: nn.Module, inputs: Inputs, form: OutputForm = LOGITS) -> Tensor:
    """Outputs ``[N, ...]``, by default logits, for a batch ``[N, ...]``, or ``[T, N, ...]`` with a time axis.

    States of spiking neurons are reset before.

    Raises:
        InputError: the network returns something else, as it may for some inputs only.
    """
    return form.read(run(network, inputs), "the network")


def check_rows(outputs: Tensor, targets: Tensor, form: OutputForm) -> None:
    """InputError unless there is one output a sample; a loss or a metric might repeat them to fit."""
    if len(outputs) != len(targets):
        rows = f"{len(outputs)} rows of {form.words}"
        raise InputError(f"the network returns {rows} for {len(targets)} samples; give one each")


def run(network: nn.Module, inputs: Inputs) -> object:
    """What the network returns for a batch, whatever it is; states of spiking neurons are reset before."""
    reset_states(network)
    return call_network(network, inputs)


def over_steps(outputs: Tensor, form: OutputForm) -> Tensor:
    """Outputs without their time steps, of which :func:`torch.mean` is taken where the form keeps them."""
    return torch.mean(outputs, 1) if form.every_step else outputs


def describe_output(output: object) -> str:
    """What a network returned: ``dict with logits: float32 [4, 10], loss: float32 []``, or ``int64 [4]``."""
    if isinstance(output, Tensor):
        if not is_dense(output):
            return "no dense tensor"
        return f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}"
    names: list[object]
    if isinstance(output, Mapping):
        names, values = list(output), list(output.values())
    elif isinstance(output, tuple | list):
        values = list(output)
        names = list(getattr(output, "_fields", range(len(values))))
    else:
        return type(output).__name__
    parts = [f"{name}: {describe_output(value)}" for name, value in zip(names[:4], values, strict=False)]
    return f"{type(output).__name__} with {', '.join(parts) or 'nothing in it'}{', …' if len(names) > 4 else ''}"
