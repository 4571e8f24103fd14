r"""The Fisher's loss model: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the true Fisher (:mod:`bitsearch.allocation.signals.fisher`) of the quantized network.
"""

import torch

from bitsearch.allocation.signals.binning import BinningLoss
from bitsearch.allocation.signals.fisher import Fisher
from bitsearch.allocation.signals.layer_spikes import LayerLosses, fired, grid, inputs_of, reference, spikes
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.quant.frames import bin_frames, hold_frames
from bitsearch.quant.membrane_width import membrane_width
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import to_levels
from bitsearch.train.tasks import CLASSIFICATION, LearningTask


class FisherLossModel(Fisher[LayerLosses]):
    """Measures the Fisher by probes and predicts losses from it; a :class:`bitsearch.allocation.loss_model.LossModel`.

    Args:
        network: searched layers are measured.
        seed: as for :class:`bitsearch.allocation.signals.fisher.Fisher`, as is ``batch_axis``.
        depth_preference: sensitivities are multiplied by exp(this × depth), depth from −½ (first) to ½ (last layer).
        batch_axis: the samples' axis in a batch's inputs.
        weight_tolerance: predicted losses of weights are multiplied by this: what training does not win back of them.
        time_tolerance: losses of binning a recording's frames are multiplied by this, likewise.
        binning: measures these; without, they count nothing.
        task: whose loss is meant.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        seed: int,
        depth_preference: float = 0.0,
        batch_axis: int = 0,
        *,
        weight_tolerance: float = 1.0,
        time_tolerance: float = 1.0,
        binning: BinningLoss | None = None,
        task: LearningTask = CLASSIFICATION,
    ) -> None:
        super().__init__(network, seed, batch_axis, LayerLosses, task)
        self.weight_tolerance, self.time_tolerance, self.binning = weight_tolerance, time_tolerance, binning
        names = list(network.layers)
        self.factors = {
            name: float(torch.tensor(depth_preference * (index / max(len(names) - 1, 1) - 0.5)).exp())
            for index, name in enumerate(names)
        }

    def use_hessian_traces(self, name: str, by_weights: float, by_input: float) -> None:
        """Let a layer's mean curvature, traces of the Hessian over their sizes, stand for its Fisher; probe before."""
        state = self.states[name]
        assert state.weight_fisher is not None, "probe before replacing"
        assert state.inputs is not None
        frames, _, features = state.inputs.shape
        state.weight_fisher = torch.full_like(state.weight_fisher, by_weights / state.weight_fisher.numel())
        # The sampled features stand for all.
        between = torch.eye(frames, device=state.inputs.device) * by_input / (frames * features)
        state.feature_fisher = between[:, :, None].expand(-1, -1, features)
        state.weight_losses.clear()
        state.spike_losses.clear()

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """½·Σ F·(Q(W) − W)² at a number of weight bits, with its best step, times the weight tolerance."""
        state, layer = self.states[name], self.network.layers[name]
        if weight_bits not in state.weight_losses:
            assert state.weight_fisher is not None, "probe before predicting"
            weight = layer.output_first(layer.weight.detach())
            bits, largest = grid(weight_bits, True, weight.device)
            step = state.weight_steps.get(weight_bits)
            if step is None:
                per_channel = layer.granularity == "channel"
                step = renew_step(weight, bits, signed=True, per_channel=per_channel, power_of_two=layer.power_of_two)
                state.weight_steps[weight_bits] = step
            error = to_levels(weight, step, bits, signed=True, largest=largest).codes.mul_(step).sub_(weight)
            fisher = layer.output_first(state.weight_fisher).to(error.dtype)
            loss = torch.dot(fisher.flatten(), error.square_().flatten())
            state.weight_losses[weight_bits] = 0.5 * float(loss)
        return self.weight_tolerance * self.factors[name] * state.weight_losses[weight_bits]

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """The neuron's loss, and the time tolerance times that of binning frames.

        Weights learn to live with coarser frames, as they do with their own rounding.
        """
        binning = 0.0 if self.binning is None else self.time_tolerance * self.binning(name, len(spike_bits))
        return self.factors[name] * (self.neuron_loss(name, spike_bits, membrane) + binning)

    def neuron_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples.

        A layer that stands for neurons of the network's is compared with what these send, o in the place of x. With a
        time axis, ō is what is held over every frame, and x the mean of its bin. Membranes are those of floats, with
        a step size a time step, or of a chosen width, with one for all.
        """
        state, layer = self.states[name], self.network.layers[name]
        if (spike_bits, membrane) not in state.spike_losses:
            width = None if membrane is None else membrane_width(membrane, spike_bits, signed=layer.signed_input)
            fisher, inputs, time_steps = state.feature_fisher, inputs_of(state), len(spike_bits)
            assert fisher is not None
            if layer.frames is None:
                sent = fired(state, layer, spike_bits, width)
                error = torch.sub(sent, reference(state, layer, time_steps)[0], alpha=time_steps).square_()
                loss = torch.mv(error, fisher[0, 0]).sum() / time_steps**2
            else:
                steps = [spikes(state, layer, spike_bits[: t + 1], time_steps, width) for t in range(time_steps)]
                binned = bin_frames(reference(state, layer, len(inputs)), time_steps)
                error = hold_frames(torch.stack(steps) - binned, len(inputs))
                loss = torch.einsum("fnk,fgk,gnk->", error, fisher, error)
            state.spike_losses[spike_bits, membrane] = 0.5 * float(loss) / inputs.shape[1]
        return state.spike_losses[spike_bits, membrane]
