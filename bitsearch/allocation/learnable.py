"""A network whose bits are drawn to budgets in a loop of the user's: what :func:`bitsearch.quantize` returns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.allocation.budget_control import BudgetPenalty, Prices
from bitsearch.allocation.solvers.projection import project
from bitsearch.choices import Choices, FirstLayer, NeuronChoice, Tie
from bitsearch.cost import (
    AllowedBits,
    Budget,
    CostModel,
    Target,
    check_first_layer,
    check_granularity,
    target_limits,
    trace,
    warn_of_own_steps,
)
from bitsearch.data.inputs import KINDS, check_input
from bitsearch.declared_neuron import DeclaredNeuron
from bitsearch.errors import InputError
from bitsearch.frameworks.declared import declare_neuron
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.network_inputs import Inputs
from bitsearch.plan import Baseline, BitPlan, LayerPlan, Provenance, UniformBits, Unquantized
from bitsearch.score import Accuracy
from bitsearch.train.latent_steps import LatentSteps
from bitsearch.version import __version__


class LearnableNetwork(QuantizedNetwork):
    """A quantized network with learnable bits, a penalty that moves them to a budget, and a projection onto budgets.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> learnable = bitsearch.quantize(network, torch.rand(16, 1, 8, 8))
    >>> loss = learnable(torch.rand(16, 1, 8, 8)).square().mean() + learnable.penalty("8x", steps=10)
    >>> loss.backward()
    >>> learnable.budget("8x").met_by(learnable.model, learnable.project("8x"))
    True
    """

    def __init__(self, network: nn.Module, model: CostModel, rules: AllowedBits, baseline: UniformBits) -> None:
        super().__init__(network, model, rules, baseline)
        self._penalties: dict[tuple[Budget, int, Prices], BudgetPenalty] = {}

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Let step renewal reset this optimizer's state of the steps that it replaces, and bits move at their rates.

        Under ``torch.optim.SGD``, latents move by Adam at the rates of :meth:`parameter_groups`, whenever the optimizer
        makes a step: by the gradient alone, with momentum above all, bits fall far below their budget.

        >>> network = bitsearch.quantize(torch.nn.Linear(4, 2), torch.rand(2, 4))
        >>> network.watch(torch.optim.SGD(network.parameter_groups(lr=0.1), momentum=0.9))
        """
        super().watch(optimizer)
        groups = [group for group in self.parameter_groups(0.0) if "latents" in group]
        chosen = {id(p): group["lr"] for group in optimizer.param_groups if "latents" in group for p in group["params"]}
        for group in groups:
            group["lr"] = chosen.get(id(group["params"][0]), group["lr"])
        if groups and isinstance(optimizer, torch.optim.SGD):
            LatentSteps(optimizer, groups)

    def budget(self, request: str, metric: str = "bit_budget") -> Budget:
        """Read a budget such as ``4x`` or ``memory=64KiB``; InputError if it is malformed or infeasible."""
        budget = Budget.parse(request, metric, self.model, self.baseline)
        budget.check_feasible(self.model, self.rules)
        return budget

    def penalty(
        self,
        budget: str | Budget,
        metric: str = "bit_budget",
        *,
        steps: int,
        prices: Prices = (1.0, 1.0, 1.0),
    ) -> Tensor:
        """What draws the bits to a budget, a scalar to add to the loss of every training step of a search.

        It is :class:`bitsearch.allocation.budget_control.BudgetPenalty`, as ``bitsearch run`` trains with: the limit
        tightens over the first half of the steps, and the weight of the penalty follows the violation. With
        ``torch.optim.SGD``, call :meth:`watch` first.

        Args:
            budget: such as ``4x`` or ``memory=64KiB``; each has a penalty of its own, which begins with its first call.
            metric: what is limited where the budget names no metric.
            steps: training steps of the search; one call each.
            prices: regularizer weights of weight bits, spike bits and time steps.

        Raises:
            InputError: a budget that is malformed or infeasible.
        """
        if isinstance(budget, str):
            budget = self.budget(budget, metric)
        budget.check_counted(self.model, self.activity)
        key = budget, steps, prices
        if key not in self._penalties:
            self._penalties[key] = BudgetPenalty(self, [budget], steps, prices=prices)
        return self._penalties[key]()

    @property
    def costs(self) -> dict[str, float]:
        """Every cost of the bits as they are, by metric; those that need firing rates once :attr:`activity` is set.

        >>> network = bitsearch.quantize(torch.nn.Linear(4, 2), torch.rand(2, 4))
        >>> network.costs["weight_memory"]  # 8 weights of 8 bits, one step size, 2 output channels
        28.0
        """
        return self.model.costs(self.layer_plans, self.activity)

    def plan(
        self,
        *budgets: str | Budget,
        metric: str = "bit_budget",
        name: str = "network",
        accuracy: Accuracy | None = None,
    ) -> BitPlan:
        """The bits as they are as a plan, which :func:`bitsearch.apply`, :func:`bitsearch.pack` and ``save`` take.

        Args:
            budgets: what the plan is said to meet, or to miss, besides the limits of the hardware target.
            metric: what is limited where a budget names no metric.
            name: of the network and the search space, which nobody looks up.
            accuracy: as you have measured it.

        Raises:
            InputError: a budget that is malformed or infeasible, or depends on firing rates that are not measured.

        >>> network = bitsearch.quantize(torch.nn.Linear(4, 2), torch.rand(2, 4))
        >>> layers = network.project("memory=64B")
        >>> plan = network.plan("memory=64B", name="mine")
        >>> plan.layers == layers, plan
        (True, BitPlan('mine', 1 layers, weight_memory 28 of 64))
        """
        limits = self._limits(budgets, metric)
        for limit in limits:
            limit.check_counted(self.model, self.activity)
        costs = self.costs
        return BitPlan(
            space=name,
            network=name,
            target=self.model.target.name,
            budget=tuple(limit.outcome(costs[limit.metric]) for limit in limits),
            baseline=Baseline(
                **self.baseline.model_dump(), costs=self.model.costs(self.model.uniform(self.baseline, None))
            ),
            layers=self.layer_plans,
            unquantized={
                layer.name: Unquantized(reason=layer.fixed_reason or "", weights=layer.weights, macs=layer.macs)
                for layer in self.model.unquantized
            },
            costs=costs,
            accuracy=accuracy or Accuracy(),
            provenance=Provenance(
                bitsearch=__version__, torch=torch.__version__, seed=0, command="bitsearch.quantize", method="own loop"
            ),
        )

    def _limits(self, budgets: Sequence[str | Budget], metric: str) -> list[Budget]:
        """The budgets, and those limits of the hardware target that are not among them."""
        limits = [self.budget(budget, metric) if isinstance(budget, str) else budget for budget in budgets]
        for limit in target_limits(self.model.target):
            if limit not in limits:
                limit.check_feasible(self.model, self.rules, self.activity)
                limits.append(limit)
        return limits

    def project(self, *budgets: str | Budget, metric: str = "bit_budget") -> dict[str, LayerPlan]:
        """Bring the allocation within every budget and limit of the target exactly, freeze it, and return it.

        :meth:`plan` makes it a file.

        Args:
            budgets: such as ``4x`` or ``memory=64KiB``; none where the target's limits are all that is asked for.
            metric: what is limited where a budget names no metric.

        Raises:
            InputError: no budget and no limit; one that is malformed or infeasible, or depends on firing rates that
                are not measured.
        """
        limits = self._limits(budgets, metric)
        plan = project(self.layer_plans, self.model, limits, self.rules, activity=self.activity)
        self.fix(plan)
        # Another search begins anew.
        self._penalties.clear()
        return plan


def quantize(
    network: nn.Module,
    example_input: Inputs,
    *,
    choices: Choices | None = None,
    start: UniformBits | None = None,
    first_layer: FirstLayer | None = None,
    baseline: UniformBits | None = None,
    granularity: str = "layer",
    spike_granularity: str | None = None,
    step_sizes: str = "free",
    decay: float | None = None,
    target: Target | str | None = None,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    time_axis: bool = False,
    signed_input: bool | None = None,
    neurons: Mapping[type[nn.Module], DeclaredNeuron] | None = None,
    neuron: NeuronChoice | Mapping[str, Any] | None = None,
    ties: Iterable[Tie | TieRule] = (),
    layers: Sequence[LayerRule | str] = (),
) -> LearnableNetwork:
    """Make a network's bits learnable: one of torch, SpikingJelly, snnTorch or Norse, step by step or on sequences.

    Every ``Conv1d``/``Conv2d``/``Conv3d`` and ``Linear`` becomes a quantized layer with a refined spiking neuron at its
    input, in place of the network's own; the first that runs gets fixed bits, since it sees the network's input.
    Weights are kept, ``network`` is left as it is. :attr:`LearnableNetwork.conversion` tells what became of what.

    Args:
        network: with ReLU-like activations, or spiking neurons.
        example_input: a batch as the network gets in use, to trace the layers with: ``[N, ...]``, or ``[T, N, ...]``;
            several inputs are a tuple, or a dict by the names of the network's arguments.
        choices: what a layer may get; 1–8 weight bits, 1–8 spike bits and 1–4 time steps by default.
        start: where the bits start; 4/4/2 by default, brought to what each layer may get.
        first_layer: the first layer's bits; 8/8/1 by default.
        baseline: what ``4x`` is a part of; w8 s4 T2 by default.
        granularity: one weight step a ``"layer"``, or one a ``"channel"``.
        spike_granularity: one spike step a time ``"step"``, or one a ``"layer"``, whose integers are narrower; by
            default the latter where the target's membranes or accumulators have a width.
        step_sizes: ``"free"``, or ``"power_of_two"``, for shifts in place of products and quotients.
        decay: membrane decay between time steps; by default as the network's own neurons have it, or 1.
        target: hardware target, or its name or path; ``generic`` by default.
        include: globs of module paths, such as ``features.*``: what gets bits.
        exclude: globs of module paths that keep 32 bits.
        time_axis: True if the example has one, ``[T, N, ...]``; where modules in spikingjelly's multi-step mode work on
            it, that is seen without being told.
        signed_input: True if inputs may be below zero; by default, if the example is anywhere. What comes below zero
            all the same is counted, and a warning says so.
        neurons: spiking neurons of your own classes, as :func:`bitsearch.declare_neuron` takes them.
        neuron: reset and start of the refined neurons, in place of what the network's own do: an object, or its fields,
            such as ``{"reset": "zero"}``.
        ties: layers that share numbers; layers with one weight (one parameter) have one weight width without it.
        layers: what layers may get whose names match, in place of the choices and of the first layer's bits; the last
            that matches one counts. Objects, or texts as on the command line, ``"conv1:spike_bits=[2, 4, 8]"``.

    Raises:
        InputError: the network cannot run the example, has nothing to quantize, nothing that the target allows, or no
            module that a glob matches; or layers that share a number have no choice of it in common.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 4}, input_shape=(1, 8, 8), classes=10)
    >>> quantized = bitsearch.quantize(network, torch.rand(16, 1, 8, 8))
    >>> quantized.layer_plans["conv2"].weight_bits
    4
    >>> plans = quantized.project("8x")  # exactly within the budget, bits frozen
    >>> quantized.budget("8x").met_by(quantized.model, plans)
    True
    """
    for kind, declaration in (neurons or {}).items():
        declare_neuron(kind, declaration)
    # Training is the user's own, and may be in double precision.
    double = any(parameter.dtype == torch.float64 for parameter in network.parameters())
    example_input = check_input(example_input, "example_input", (*KINDS, torch.float64) if double else KINDS)
    start = start or UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    first_layer = first_layer or FirstLayer()
    baseline = baseline or UniformBits(weight_bits=8, spike_bits=4, time_steps=2)
    hardware = target if isinstance(target, Target) else Target.load(target or "generic")
    check_granularity(granularity, hardware)
    warn_of_own_steps(spike_granularity, hardware)
    if spike_granularity not in (None, "step", "layer"):
        raise InputError(f"spike_granularity is {spike_granularity!r}; give 'step' or 'layer'")
    if step_sizes not in ("free", "power_of_two"):
        raise InputError(f"step_sizes is {step_sizes!r}; give 'free' or 'power_of_two'")
    check_first_layer(first_layer, hardware)
    geometry = trace(
        network,
        example_input,
        time_axis=time_axis,
        include=include,
        exclude=exclude,
        nonnegative_input=None if signed_input is None else not signed_input,
    )
    model = CostModel(geometry, first_layer_counted=first_layer.counted, target=hardware, ties=ties)
    model.choose_neurons(NeuronChoice().replace(neuron))
    named = [LayerRule.parse(rule) if isinstance(rule, str) else rule for rule in layers]
    rules = AllowedBits.make(model, choices or Choices(), first_layer, named)
    model = model.with_one_step(rules.one_step(spike_granularity or hardware.spike_granularity))
    return LearnableNetwork.learnable(
        network,
        model,
        rules=rules,
        start=start,
        baseline=baseline,
        granularity=granularity,
        step_sizes=step_sizes,
        decay=decay,
    )
