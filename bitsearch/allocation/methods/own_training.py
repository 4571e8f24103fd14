"""The search phase in a training of the user's own: its parts are hooks of the network, and one term of the loss."""

from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.allocation.learnable import LearnableNetwork
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.finish import project_and_fine_tune
from bitsearch.allocation.methods.search_phase import search_parts
from bitsearch.allocation.methods.search_start import search_start
from bitsearch.network_inputs import called_with


class OwnTraining:
    """As :func:`bitsearch.allocation.methods.adaptive.allocate_adaptively`, with the training left to the user.

    Whatever calls :attr:`network` in training mode, the curvature is measured with those activations; :meth:`penalty`
    is what draws the bits to the budgets and holds them up; :meth:`freeze` projects them onto the budgets.

    Args:
        problem: its budgets are met.
        steps: training steps of the search phase, one call of :meth:`penalty` each.
    """

    def __init__(self, problem: AllocationProblem, steps: int) -> None:
        self.problem = problem
        estimate, space = ActivityEstimate(problem), problem.space
        settings = problem.settings.model_copy(update={"start": search_start(problem, estimate.from_start())})
        self.network = LearnableNetwork.learnable(
            problem.network,
            problem.model,
            rules=problem.rules,
            start=settings.start,
            baseline=space.baseline,
            granularity=settings.quantizer.granularity,
            decay=settings.decay,
        )
        self.network.release_spikes()
        estimate.at_plan(self.network)
        self._meters, self._pull, self._signal = search_parts(self.network, problem, steps)
        self._measuring, self._measured = False, False
        self._hooks = [
            self.network.register_forward_pre_hook(self._before, with_kwargs=True),
            self.network.register_forward_hook(self._after, with_kwargs=True),
        ]

    def penalty(self) -> Tensor:
        """The term of the next training step's loss, a scalar."""
        penalty, slopes = self._pull.penalty(), self._signal.penalty() if self._measured else None
        return penalty if slopes is None else penalty + slopes

    def freeze(self) -> None:
        """Bring the bits within the budgets exactly, and fix them."""
        for hook in self._hooks:
            hook.remove()
        self._signal.curvature.unwatch()
        project_and_fine_tune(
            self.network,
            self.problem,
            epochs=0,
            seed=self.problem.seed,
            limits=self._pull.aims,
            loss=self._signal.curvature if self._measured else None,
            prices=self.problem.settings.prices,
            corrections=0,
        )

    def _before(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # What measures passes its own batches through the network.
        inputs = called_with(args, kwargs)
        if self._measuring or not network.training or not torch.is_grad_enabled() or inputs is None:
            return
        self._measuring = True
        try:
            for part in (*self._meters, self._signal):
                part.before_batch(inputs)
        finally:
            self._measuring = False

    def _after(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        measured = called_with(args, kwargs) is not None
        if self._measuring or not network.training or not torch.is_grad_enabled() or not measured:
            return
        # Which labels the user has is not known here: all samples count alike.
        self._signal.after_forward(self.problem.session.task.form.read(output, "the network"))
        self._measured = True
