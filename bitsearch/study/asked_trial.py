"""A trial that code of the user's own trains."""

import time
from collections.abc import Sequence
from typing import Any

import optuna
from torch import Tensor

from bitsearch.allocation.methods.own_training import OwnTraining
from bitsearch.cost import Budget
from bitsearch.frameworks.neurons import reset_states
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan


class Trial:
    """A network to be trained, as :meth:`Study.ask` hands it out.

    Train :attr:`network` with :meth:`penalty` in its loss, call :meth:`freeze` once the search phase is over, and train
    on. A uniform baseline is frozen from the beginning, and its penalty is 0: the same code trains both.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        label: str,
        network: QuantizedNetwork,
        budgets: Sequence[Budget],
        search: OwnTraining | None,
    ) -> None:
        self.label = label
        """Such as ``trial 4, adaptive``."""
        self.network = network
        """In training mode, with the weights of full precision."""
        self.budgets = tuple(budgets)
        """That its plan has to meet."""
        self._trial, self._search, self._began = trial, search, time.monotonic()
        # A call is a forward pass of its own: neurons that stayed as they are keep nothing from the one before.
        network.register_forward_pre_hook(_reset, prepend=True)

    def __repr__(self) -> str:
        return f"Trial({self.label!r}, {'frozen' if self.is_frozen else 'searching'})"

    @property
    def number(self) -> int:
        """In the run."""
        return self._trial.number

    @property
    def is_frozen(self) -> bool:
        """True once the bits are fixed."""
        return self._search is None

    def penalty(self) -> Tensor:
        """What moves the bits, a scalar to add to the loss of every training step; 0 once they are frozen."""
        if self._search is None:
            return next(self.network.parameters()).new_zeros(())
        return self._search.penalty()

    def freeze(self) -> dict[str, LayerPlan]:
        """Bring the bits within the budgets exactly and fix them; the plan, layer by layer.

        Weights keep their places, so that the optimizer can go on; the bits' own parameters are gone.
        """
        if self._search is not None:
            training = self.network.training
            self._search.freeze()
            self.network.train(training)
            self._search = None
        return self.network.layer_plans


def _reset(network: QuantizedNetwork, inputs: tuple[Any, ...]) -> None:
    reset_states(network.network)
