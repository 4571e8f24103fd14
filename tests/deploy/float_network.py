"""The float network beside its integers: how far they may be from each other, from the roundings of its lowering."""

import copy
import math
from dataclasses import dataclass

import torch
from tolerances import FLOAT64, rounding
from torch import Tensor
from torch.fx import Interpreter
from torch.utils._pytree import tree_map

from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations.elementwise import Scale
from bitsearch.deploy.integer.operations.frames import Fire
from bitsearch.deploy.integer.operations.layer import RunLayer
from bitsearch.deploy.integer.operations.neuron import RunNeuron
from bitsearch.deploy.integer.operations.pooling import AveragePool
from bitsearch.deploy.integer.operations.synapses import RunSynapses
from bitsearch.frameworks.neurons import describe
from bitsearch.layers import QuantizedLayer
from bitsearch.plan import NeuronSettings
from bitsearch.quant.frames import bins, first_frames, hold_frames
from bitsearch.quant.uniform import to_levels
from bitsearch.train.predict import predict

DECAY = 2.0**-17
"""Half a unit of a decay."""


@dataclass(frozen=True)
class Bounded:
    """Currents of the float network, and how far the deployed ones may be from each."""

    x: Tensor
    off: Tensor
    scale: float = 1.0
    """What stands for one of the deployed value: spikes are counted in levels."""


class _Beside(Interpreter):
    """Runs a traced network in float64 on the spikes that its integers made, and bounds how far these are from it.

    No spike differs, so that currents differ by sums of roundings: each of a step, a multiplier, a bias or a result, to
    half its unit. What lies between layers adds up, averages, selects or passes on, and does the same to the bounds.
    """

    def __init__(self, lowered, replayed):
        super().__init__(copy.deepcopy(lowered.graph))
        for module in self.module.modules():
            if not isinstance(module, QuantizedLayer):
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    tensor.data = tensor.data.double() if tensor.is_floating_point() else tensor.data
        self.lowered, self.replayed, self.compared, self.spikes = lowered, replayed, 0, 0

    def run_node(self, n):
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "output" or n.name in self.lowered.folded:
            return args[0]
        index = self.lowered.operations.get(n.name)
        operation = None if index is None else self.lowered.program.operations[index]
        if isinstance(operation, RunLayer):
            return self._layer(n, index, operation, args[0])
        if isinstance(operation, RunNeuron):
            return self._neuron(n, index, operation, args[0])
        if isinstance(operation, RunSynapses):
            return self._synapses(n, operation, args[0])
        if isinstance(operation, Fire):
            return self._fire(self.fetch_attr(n.target).spiking, operation, args[0])
        x = self._part("x", n, args, kwargs)
        if not isinstance(x, Tensor):
            return x
        off = self._part("off", n, args, kwargs)
        if isinstance(operation, Scale):
            factor = operation.multiplier * 2.0 ** -(operation.shift + operation.finer)
            off = off + abs(factor - self.fetch_attr(n.target).gain) * (args[0].x.abs() + args[0].off)
        scale = args[0].scale if isinstance(args[0], Bounded) else args[0][0].scale
        if isinstance(operation, Scale | AveragePool):
            off = off + scale * self._unit(index + 1) / 2
        return Bounded(x, off, scale)

    def _part(self, part, n, args, kwargs):
        args, kwargs = tree_map(lambda one: getattr(one, part) if isinstance(one, Bounded) else one, (args, kwargs))
        return getattr(self, n.op)(n.target, args, kwargs)

    def _unit(self, value):
        return 2.0 ** -self.lowered.analysis.values[value].fraction

    def _compare(self, name, t, membrane, unit, codes, clear):
        """A membrane with the replayed one, and its own code with the replayed one where they have to be the same."""
        seen = self.replayed[name, "membrane", t].double() * unit
        assert ((membrane.x - seen).abs() <= membrane.off * (1 + FLOAT64) + FLOAT64 * seen.abs()).all(), (name, t)
        assert torch.equal(codes[clear], self.replayed[name, "spikes", t].double()[clear]), (name, t)
        self.compared += int(clear.sum())
        self.spikes += clear.numel()

    def _layer(self, n, index, operation, given):
        layer = self.fetch_attr(n.target)
        numbers = self.lowered.numbers[operation.layer]
        total, counts, weighted = self._spikes(layer, index, operation, given)
        per_step = numbers.spike_weights[0] / numbers.steps[0].item()
        return self._summed(n, layer, operation, total, per_step * counts, weighted)

    def _neuron(self, n, index, operation, given):
        layer, packed = self.fetch_attr(n.target).owner, self.lowered.program.layers[operation.layer]
        numbers = self.lowered.numbers[operation.layer]
        total, counts, _ = self._spikes(layer, index, operation, given)
        scale = numbers.steps[0].item() / numbers.spike_weights[0] * 2.0**-packed.step_fraction
        off = counts * 2.0**-packed.step_fraction
        if layer.frames is None:
            return Bounded(total, off / layer.active_steps, scale / layer.active_steps)
        x, off = (
            hold_frames(each.unflatten(0, (layer.active_steps, -1)), layer.frames).flatten(0, 1)
            for each in (total, off)
        )
        return Bounded(x, off, scale)

    def _synapses(self, n, operation, given):
        layer, x, off = self.fetch_attr(n.target), given.x, given.off
        if layer.frames is not None:
            x, off = (
                first_frames(each.unflatten(0, (layer.frames, -1)), layer.active_steps).flatten(0, 1)
                for each in (x, off)
            )
        levels = 1 / (given.scale * self._unit(operation.inputs[0]))
        return self._summed(n, layer, operation, x, off * levels, (x.abs() + off) * levels)

    def _spikes(self, layer, index, operation, given):
        """(spikes; how far they may be off, in units of a step size; their weighted levels)."""
        packed = self.lowered.program.layers[operation.layer]
        numbers = self.lowered.numbers[operation.layer]
        widths = self.lowered.analysis.operations[index].widths
        unit, steps = 2.0**-widths.membrane_fraction, layer.spike_step.double()
        currents = self._currents(layer, given, self._unit(operation.inputs[0]), packed)
        # What a membrane counts in, how far each step is from the deployed one there, and what the membrane holds.
        grid, apart, least, most = steps, True, -math.inf, math.inf
        if packed.membrane_bits is not None:
            unit, apart = 1 / packed.membrane.units, False
            grid, least, most = torch.ones_like(steps), -(packed.membrane.most + 1) * unit, packed.membrane.most * unit
            deployed = numbers.steps[0].item() * 2.0**-packed.step_fraction
            currents = [
                Bounded(
                    (each.x / steps[0]).clamp(least, most),
                    (each.off + each.x.abs() * abs(1 - deployed / steps[0])) / deployed + unit / 2,
                )
                for each in currents
            ]
        spikes, counts, weighted = [], [], []
        membrane = currents[0]
        for t, (step, weight) in enumerate(zip(numbers.steps.tolist(), numbers.spike_weights, strict=True)):
            code = self.replayed[operation.name, "spikes", t].double()
            # A step below half a unit is a whole one.
            step_off = 2.0**-packed.step_fraction * (0.5 if step > 1 else 1.0)
            assert abs(steps[t] - step * 2.0**-packed.step_fraction) <= step_off
            off_there = step_off if apart else 0.0
            levels = to_levels(membrane.x, grid[t], layer.spike_bits[t].double(), signed=layer.signed_input)
            scaled, codes = levels.scaled, levels.codes
            boundary = (scaled - scaled.floor() - 0.5).abs()
            if layer.signed_input and layer.spike_bits[t] == 1:
                boundary = scaled.abs()
            settings = layer.neuron or NeuronSettings()
            if settings.threshold == "full":
                boundary = (scaled - scaled.round()).abs()
                codes = (scaled.ceil() - 1 if settings.strict else scaled.floor()).clamp(
                    0, 2 ** packed.spike_bits[t] - 1
                )
            if settings.largest is not None:
                codes = codes.clamp_max(max(float((settings.largest / steps[t]).round()), 1.0))
            clear = boundary * grid[t] > membrane.off + (scaled.abs() + 1) * off_there
            self._compare(operation.name, t, membrane, unit, codes, clear)
            residual = membrane.x - code * grid[t]
            residual_off = membrane.off + code.abs() * off_there
            if settings.reset == "zero":
                residual, residual_off = (
                    torch.where(code == 0, each, torch.zeros_like(each)) for each in (membrane.x, membrane.off)
                )
            if t + 1 < len(numbers.steps):
                current = currents[t + 1]
                off = current.off + layer.decay * residual_off
                if packed.decay != 1 << 16:
                    off = off + DECAY * (residual.abs() + residual_off) + unit / 2
                membrane = Bounded((layer.decay * residual + current.x).clamp(least, most), off)
            spikes.append(code * steps[t])
            counts.append(code.abs() * step_off * 2.0**packed.step_fraction)
            weighted.append(code.abs() * weight)
        static = layer.frames is None
        total, counts, weighted = (
            torch.stack(each).sum(0) if static else torch.cat(each) for each in (spikes, counts, weighted)
        )
        return total / len(spikes) if static else total, counts, weighted

    def _summed(self, n, layer, operation, spikes, off_levels, weighted):
        """The layer's sums of spikes, of which so many levels may be missing, and their affine map."""
        packed, numbers = self.lowered.program.layers[operation.layer], self.lowered.numbers[operation.layer]
        weight = layer.quantized_weight().double()
        bias = None if layer.bias is None else layer.bias.double()
        x = layer.operation(spikes, weight, bias)
        norm = next((user for user in n.users if user.name in self.lowered.folded), None)
        x = x if norm is None else self.fetch_attr(norm.target)(x)
        step = layer.weight_step.double().expand(layer.output_first(weight).shape)
        levels = (weight / layer.in_layout(step)).abs()
        shape = (-1, *[1] * (levels.dim() - 2))
        half = 2.0 ** -(packed.shift + packed.fraction) / 2
        gain = (torch.from_numpy(numbers.multiplier).double().abs() * 2 * half + half).view(shape)
        by_step = gain * layer.operation(off_levels, levels, None)
        # The multiplier's; and that of a weight in float32, a level times a step.
        by_weight = (half + rounding(2) * gain) * layer.operation(weighted, levels, None)
        off = by_step + by_weight + 2.0**-packed.fraction
        if layer.frames is not None:
            x, off = (
                hold_frames(each.unflatten(0, (layer.active_steps, -1)), layer.frames).flatten(0, 1)
                for each in (x, off)
            )
        return Bounded(x, off)

    def _currents(self, layer, given, unit, packed):
        if layer.frames is None:
            return [given] * layer.active_steps
        x, off = (each.unflatten(0, (layer.frames, -1)) for each in (given.x, given.off))
        return [
            Bounded(x[first:end].mean(0), off[first:end].mean(0) + unit * 2.0**-packed.finer / 2)
            for first, end in bins(layer.frames, layer.active_steps)
        ]

    def _fire(self, module, operation, given):
        unit = self._unit(operation.inputs[0])
        threshold = (module.v_threshold - (module.v_reset or 0.0)) / describe(module).charge
        frames = self.lowered.program.input.frames or 1
        x, off = (each.unflatten(0, (frames, -1)) for each in (given.x, given.off))
        membrane, fired = Bounded(torch.zeros_like(x[0]), torch.zeros_like(x[0])), []
        for t in range(frames):
            membrane = Bounded(membrane.x + x[t], membrane.off + off[t])
            clear = (membrane.x - threshold).abs() > membrane.off + unit / 2
            self._compare(operation.name, t, membrane, unit, (membrane.x >= threshold).double(), clear)
            fired.append(self.replayed[operation.name, "spikes", t].double())
            if operation.hard:
                left, left_off = (each * (1 - fired[-1]) for each in (membrane.x, membrane.off))
            else:
                left, left_off = membrane.x - threshold * fired[-1], membrane.off + unit / 2 * fired[-1]
            off_decayed = describe(module).decay * left_off
            if operation.decay != 1 << 16:
                off_decayed = off_decayed + DECAY * (left.abs() + left_off) + unit / 2
            membrane = Bounded(describe(module).decay * left, off_decayed)
        return Bounded(torch.cat(fired), torch.zeros_like(given.x))


@torch.no_grad()
def check_near(network, lowered, inputs):
    """Integers are their float network but for the roundings of its lowering.

    The graph that was lowered is the network, in float64; and layer by layer, on the spikes that the integers made,
    membranes and outputs are those of the graph, within the sum of their roundings, and so are the spikes of membranes
    that are further than that from a rounding boundary.
    """
    frames, repeated = lowered.program.input.frames, lowered.program.input.repeated

    def joined(x):
        return x if frames is None else x.repeat(frames, *[1] * (x.dim() - 1)) if repeated else x.flatten(0, 1)

    whole, graph = copy.deepcopy(network).double().eval(), copy.deepcopy(lowered.graph).double()
    traced = graph(joined(inputs.double()))
    if frames is None:
        expected = whole(inputs.double())
    else:
        expected, traced = predict(whole, inputs.double()), traced.unflatten(0, (frames, -1)).mean(0)
    torch.testing.assert_close(traced, expected, rtol=FLOAT64, atol=FLOAT64)

    replayed = {}
    replay = Replay(lowered.program, lowered.numbers)
    outputs = replay(inputs, lambda name, what, t, seen: replayed.update({(name, what, t): seen.clone()}))
    x = joined(inputs.double())
    beside = _Beside(lowered, replayed)
    found = beside.run(Bounded(x, torch.full_like(x, 2.0**-lowered.program.input.fraction / 2)))
    assert beside.compared > beside.spikes / 2, "most membranes are near a boundary: few spikes were compared"
    x, off = (each if frames is None else each.unflatten(0, (frames, -1)).sum(0) for each in (found.x, found.off))
    seen = outputs.double() * 2.0 ** -lowered.analysis.values[-1].fraction
    assert ((x - seen).abs() <= off * (1 + FLOAT64) + FLOAT64 * seen.abs()).all()
