"""A network whose bits are drawn to budgets in a loop of the user's: what :func:`bitsearch.quantize` returns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bitsearch.allocation.budget_control import BudgetPenalty, Prices
from bitsearch.allocation.solvers.projection import project
from bitsearch.cost import (
    AllowedBits,
    Budget,
    CostModel,
    target_limits,
)
from bitsearch.errors import InputError
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import Baseline, BitPlan, LayerPlan, Provenance, UniformBits, Unquantized
from bitsearch.score import Accuracy
from bitsearch.train.latent_steps import LatentSteps
from bitsearch.validation import shown, whole
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

        Under any optimizer but Adam, latents move by Adam at the rates of :meth:`parameter_groups`, whenever it makes a
        step: by the gradient alone, with momentum above all, bits fall far below their budget.

        >>> network = bitsearch.quantize(torch.nn.Linear(4, 2), torch.rand(2, 4))
        >>> network.watch(torch.optim.SGD(network.parameter_groups(lr=0.1), momentum=0.9))
        """
        super().watch(optimizer)
        groups = [group for group in self.parameter_groups(0.0) if "latents" in group]
        chosen = {id(p): group["lr"] for group in optimizer.param_groups if "latents" in group for p in group["params"]}
        for group in groups:
            group["lr"] = chosen.get(id(group["params"][0]), group["lr"])
        if groups and not isinstance(optimizer, torch.optim.Adam):
            LatentSteps(optimizer, groups)

    def budget(self, request: str, metric: str = "bit_budget") -> Budget:
        """Read a budget such as ``4x`` or ``memory=64KiB``; InputError if it is malformed or infeasible."""
        if not isinstance(request, str):
            raise InputError(f"budget is {shown(request)}; give a text such as '4x'")
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
        tightens over the first half of the steps, and the weight of the penalty follows the violation. Under
        any optimizer but Adam, call :meth:`watch` first.

        Args:
            budget: such as ``4x`` or ``memory=64KiB``; each has a penalty of its own, which begins with its first call.
            metric: what is limited where the budget names no metric.
            steps: training steps of the search; one call each.
            prices: regularizer weights of weight bits, spike bits and time steps.

        Raises:
            InputError: a budget that is malformed or infeasible.
        """
        steps = whole(steps, "steps", 1)
        if not isinstance(budget, Budget):
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
        limits = [budget if isinstance(budget, Budget) else self.budget(budget, metric) for budget in budgets]
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
