"""Training at fixed bits, through the weight quantizer that ``allocation.quantizer.form``, or a layer rule, names.

While bits move, every method quantizes weights uniformly; ``sigmoid`` (:mod:`bitsearch.quant.sigmoid`) trains them
once the bits are frozen. Its steps sharpen from epoch to epoch and end as real ones, so that plans, costs and files are
those of a uniform grid.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocation_settings import Allocation
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.soft_weights import SoftWeights
from bitsearch.plan import LayerPlan
from bitsearch.quant.sigmoid import temperature
from bitsearch.train.distillation import distillation
from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession


class SoftSteps(Callback):
    """Gives layers soft weights and raises their temperature; measures what soft steps reach.

    The records' own validation accuracy is that of hard steps, as every measurement outside of training is.
    """

    def __init__(self, network: QuantizedNetwork, session: TrainingSession, settings: Allocation) -> None:
        self.network, self.session, self.settings = network, session, settings
        soft: dict[Tensor, SoftWeights] = {}
        for name in soft_layers(network, settings):
            layer = network.layers[name]
            if layer.weight not in soft:
                bits = layer.layer_plan.weight_bits
                soft[layer.weight] = SoftWeights(
                    layer.weight.detach(), bits, settings.quantizer.max_level, power_of_two=layer.power_of_two
                )
            layer.soft_weights = soft[layer.weight]
        self._heat(1)

    @property
    def _soft(self) -> list[SoftWeights]:
        layers = self.network.layers.values()
        return [layer.soft_weights for layer in layers if isinstance(layer.soft_weights, SoftWeights)]

    def _heat(self, epoch: int) -> None:
        for soft in self._soft:
            soft.temperature = temperature(epoch, self.settings.quantizer.temperature_rate)

    def state_dict(self) -> dict[str, Any]:
        """The temperature; what soft weights have learned are parameters of the network."""
        return {"temperature": self._soft[0].temperature}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at that temperature."""
        for soft in self._soft:
            soft.temperature = state["temperature"]

    def accuracy(self) -> float:
        """Validation accuracy with soft steps."""
        for soft in self._soft:
            soft.soft_in_evaluation = True
        try:
            return self.session.score(self.network)
        finally:
            for soft in self._soft:
                soft.soft_in_evaluation = False

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """What soft steps reach at this epoch's temperature; the next one's is higher."""
        self.network.soft_accuracy = self.accuracy()
        measures = {"soft_accuracy": self.network.soft_accuracy, "temperature": self._soft[0].temperature}
        self._heat(epoch + 1)
        return measures


def soft_layers(network: QuantizedNetwork, settings: Allocation) -> list[str]:
    """The layers whose weights are trained through sums of sigmoids: all, or those that layer rules name."""
    form = settings.quantizer.form
    return [name for name in network.layers if network.rules.setting(name, "quantizer", form) == "sigmoid"]


def fine_tune(
    quantized: QuantizedNetwork,
    session: TrainingSession,
    settings: Allocation,
    *,
    epochs: int,
    seed: int,
    phase: str,
    callbacks: Sequence[Callback] = (),
    latent_rates: dict[str, float] | None = None,
) -> dict[str, Tensor]:
    """Train in place while no bits move; arguments as for :func:`bitsearch.train.loop.train`.

    Returns:
        The real-valued weights by layer, where hard ones have taken their place: what further training starts from.
    """
    soft = [SoftSteps(quantized, session, settings)] if soft_layers(quantized, settings) else []
    train(
        quantized,
        session,
        epochs=epochs,
        seed=seed,
        phase=phase,
        callbacks=[*callbacks, *soft, *distillation(session, quantized.network)],
        latent_rates=latent_rates,
    )
    if not soft:
        return {}
    real = {name: layer.weight.detach().clone() for name, layer in quantized.layers.items()}
    with torch.no_grad():
        for layer in quantized.layers.values():
            layer.harden()
    return real


def train_at_plan(
    quantized: QuantizedNetwork,
    plan: Mapping[str, LayerPlan],
    session: TrainingSession,
    settings: Allocation,
    *,
    epochs: int,
    seed: int,
    phase: str,
    callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> QuantizedNetwork:
    """Freeze the bits of ``quantized`` at a plan's and train its weights, in place; with no epochs, freeze alone.

    Whoever trains a plan, be it a baseline, the end of a method or one that a user brings, does so here.

    Args:
        quantized: with the layers of the plan; its bits may be others, and may be learnable.
        plan: bits of every layer.
        session: as for :func:`bitsearch.train.loop.train`; so are ``epochs``, ``seed`` and ``phase``.
        settings: name the quantizer of the weights.
        callbacks: makes a method's own parts of the training, once the bits are frozen.
    """
    quantized.fix(plan)
    if epochs > 0:
        fine_tune(quantized, session, settings, epochs=epochs, seed=seed, phase=phase, callbacks=callbacks())
    return quantized
