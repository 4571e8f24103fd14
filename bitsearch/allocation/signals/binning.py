r"""What binning a layer's frames costs, measured in the trained network.

.. math::
    \Delta L_l(T) = \mathrm{KL}\bigl(p(y \mid x) \,\|\, p_{l, T}(y \mid x)\bigr)

in nats a sample (other losses than cross-entropy have a divergence of their own), of the network at its finest bits,
and of the same with layer l's frames in T bins. A local model of the loss cannot predict it: a mean destroys the order
of the frames, and what neurons make of that is no matter of slopes (our own contribution). Batch norms take statistics
of the batch, as in training, which follows.
"""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.network_inputs import Inputs
from bitsearch.plan import LayerPlan
from bitsearch.train.predict import predict
from bitsearch.train.tasks import CLASSIFICATION, LearningTask


class BinningLoss:
    """Measures the loss of fewer time steps than frames, a layer at a time, when it is first asked for.

    Every measurement is a forward pass, kept for the next time. Processes that have the same network and inputs come to
    the same numbers, and need not ask together.

    Args:
        network: trained, with learnable bits at the finest allowed; nothing else may use it.
        inputs: a batch, ``[F, N, ...]`` or ``[N, ...]``.
        task: whose loss is meant.
    """

    def __init__(self, network: QuantizedNetwork, inputs: Inputs, task: LearningTask = CLASSIFICATION) -> None:
        self.network, self.inputs, self.task = network.eval(), inputs, task
        for module in network.modules():
            module.training = isinstance(module, _BatchNorm)
        for layer in network.searched_layers.values():
            layer.renew_weights = layer.renew_spikes = True
        self.finest: Tensor | None = None
        """Outputs ``[N, ...]`` without binning."""
        self.losses: dict[tuple[str, int], float] = {}

    @torch.no_grad()
    def __call__(self, name: str, time_steps: int) -> float:
        """In nats a sample; 0 without a time axis, and at as many steps as the layer may have."""
        layer = self.network.searched_layers[name]
        if not bins_frames(layer) or time_steps >= layer.active_steps:
            return 0.0
        if (name, time_steps) not in self.losses:
            if self.finest is None:
                self.finest = self._predictions()
            plan = layer.layer_plan
            _set(layer, plan.with_bits(plan.weight_bits, plan.spike_bits[:time_steps]))
            binned = self._predictions()
            _set(layer, plan)
            self.losses[name, time_steps] = float(self.task.loss.divergence(self.finest, binned) / len(binned))
        return self.losses[name, time_steps]

    def _predictions(self) -> Tensor:
        return predict(self.network.network, self.inputs, self.task.form).double()


def _set(layer: QuantizedLayer, plan: LayerPlan) -> None:
    """Give a layer a plan's bits, with step sizes for what its neuron integrates then."""
    layer.spike_step_bits.zero_()
    layer.set_bits(plan)


def bins_frames(layer: QuantizedLayer) -> bool:
    """Whether a layer can have fewer time steps than frames: not where a loop shows it a frame a call."""
    if layer.frames is None or layer.loop == "frames" or layer.choices is None:
        return False
    return layer.choices.time_steps.low < layer.choices.time_steps.high
