"""Where the weights of a short trial come from: along the front, one goes on from the nearest trial that has finished.

From full precision a network needs all of a trial's epochs to get used to few bits. One that is used to nearly as few
needs a part of them, so that several plans of the front are trained in the time of one.
"""

import math
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState
from safetensors.torch import load_file
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.frameworks.plain_layers import with_plain_layers
from bitsearch.runs.folder import RunFolder
from bitsearch.study.database.artifacts import Artifacts
from bitsearch.study.database.optuna_internals import storage_of
from bitsearch.study.study import is_intermediate

START = "start"
"""A trial's attribute: the number of the trial whose weights it goes on from."""


def nearest_start(trials: Iterable[FrozenTrial], target: float) -> FrozenTrial | None:
    """The finished trial whose cost on the front's axis is nearest to ``target`` by their ratio; None while none has.

    One that costs at least as much comes before any that costs less: bits are easier to do without than to make use of.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE and not is_intermediate(trial)]

    def distance(trial: FrozenTrial) -> tuple[bool, float]:
        cost = trial.values[1]
        return cost < target, abs(math.log(cost / target)) if cost > 0 else math.inf

    return min(finished, key=distance, default=None)


def load_start(
    folder: RunFolder, start: FrozenTrial, study: optuna.Study, artifacts: Artifacts | None
) -> dict[str, Tensor]:
    """The state of a finished trial's quantized network.

    Raises:
        InputError: its weights are not in the run folder any more.
        StorageError: nor in the artifacts of a study that others work on.
    """
    plan_file, weights_file = folder.plan_file(start.number), folder.weights_file(start.number)
    if artifacts is not None:
        artifacts.fetch(start, storage_of(study), plan_file, weights_file)
    if not weights_file.is_file():
        raise InputError(
            f"{weights_file} is missing, which a trial goes on from; put it back, or search again with another --out"
        )
    return load_file(weights_file)


def start_network(network: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A copy of a float network with the state of a quantized one that was made of it.

    A reparametrized weight becomes a plain one, as it is in the quantized network. What the float one has and the other
    lacks, as neurons that became part of a layer do, stays as it is; steps and bits, which the float one lacks, are
    found anew.
    """
    network = with_plain_layers(network)
    tensors = network.state_dict()
    kept = {name: value for name, value in state.items() if name in tensors and value.shape == tensors[name].shape}
    network.load_state_dict(kept, strict=False)
    return network
