"""What a run was asked for, as ``run.toml`` keeps it."""

import math
from typing import Any

from pydantic import Field, model_validator

from bitsearch.cost import Budget, Target
from bitsearch.plan import Reference
from bitsearch.runs.goal import AccuracyGoal
from bitsearch.score import Accuracy, Measured, Score
from bitsearch.space import SearchSpace
from bitsearch.validation import Cost, Frozen, Name, Seed


class CalibrationSettings(Frozen):
    """How the plans of `bitsearch allocate` were calibrated, in place of being trained."""

    samples: int = Field(ge=1)
    """Of the training split."""
    iterations: int = Field(ge=0)
    """Of every reconstruction."""
    fine_tune: int = Field(default=0, ge=0)
    """Epochs for which the best plans are trained on."""


class RunSettings(Frozen):
    """What a run was asked for, everything resolved; ``run.toml``."""

    schema_version: int = Field(default=1, ge=1, le=1)
    metric: Name
    """The cost that the search sets against accuracy: the axis of the front."""
    budgets: tuple[Budget, ...]
    """What was asked for, then the limits of the hardware target."""
    goal: AccuracyGoal | None = None
    """The most accuracy that the chosen plan may lose; it is the cheapest such plan then."""
    sweep: tuple[Budget, ...] = ()
    """The budgets that trials go to in turns, the loosest first, which is among ``budgets`` as well."""
    seed: Seed
    device: Name
    threads: int = Field(ge=1)
    processes: int = Field(default=1, ge=1)
    """That trained together."""
    compiled: bool = False
    """Trained with compiled quantizers."""
    storage: Name | None = None
    """The database that the study is in, without its password; None for ``study.db``."""
    study: Name | None = None
    """The study's name there."""
    merged: tuple[Name, ...] = ()
    """The run folders that this one was joined of."""
    own_training: bool = False
    """True where trials were trained by code of the user's, who asked for them."""
    calibration: CalibrationSettings | None = None
    """Of a run whose plans were calibrated; it has no study."""
    command: str
    bitsearch: Name
    torch: Name
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the file, or the object, that full precision began with; None of fresh weights."""
    full_precision: Measured = Accuracy()
    signed_input: bool | None = None
    """Whether an input was below zero, of data that are first read while full precision is trained."""
    baseline_costs: dict[str, Cost]
    reference: Reference | None = None
    """The network as it was given; None of runs of earlier versions."""
    space: SearchSpace
    target: Target

    @model_validator(mode="before")
    @classmethod
    def _without_front(cls, content: object) -> object:
        """A run of an earlier version had all of its trials at the budget, and goes on so."""
        if isinstance(content, dict) and isinstance(content.get("space"), dict):
            search = {"front_share": 0.0} | dict(content["space"].get("search") or {})
            return content | {"space": content["space"] | {"search": search}}
        return content

    @model_validator(mode="after")
    def _limited(self) -> "RunSettings":
        if not self.budgets and self.goal is None:
            raise ValueError("budgets is [], and there is no goal; a run has at least 1 of them")
        return self

    @property
    def score(self) -> Score:
        """What networks are judged by; known once full precision was measured."""
        return self.full_precision.score

    @property
    def limits(self) -> dict[str, Budget]:
        """The tightest budget of every metric that has one."""
        return {budget.metric: budget for budget in sorted(self.budgets, key=lambda budget: -budget.limit)}

    @property
    def request(self) -> str:
        """The budgets and the goal as they were asked for, the target's own limits left out."""
        requested = {budget.metric: budget.requested for budget in self.budgets if not budget.of_target}
        if self.sweep:
            requested[self.metric] = ",".join(stop.requested for stop in self.sweep)
        goal = [] if self.goal is None else [f"max drop {self.goal.requested}"]
        if list(requested) == [self.metric] and not goal:
            return requested[self.metric]
        return ", ".join([*(f"{metric}={amount}" for metric, amount in requested.items()), *goal])

    def defining(self) -> dict[str, Any]:
        """What a resumed run has to have in common with the first."""
        content = _comparable(self.model_dump())
        # The whole target and the weights are compared, not where their files lie.
        del content["space"]["target"], content["space"]["weights"]
        # What earlier versions wrote out was their default.
        quantizer = content["space"]["allocation"]["quantizer"]
        quantizer["spike_granularity"] = quantizer["spike_granularity"] or self.target.spike_granularity
        names = ("target", "space", "weights_sha256", "metric", "budgets", "goal", "sweep", "seed")
        return {name: content[name] for name in (*names, "own_training", "calibration")}


def _comparable(value: Any) -> Any:
    """A number that is none is equal to no other; as text it is."""
    if isinstance(value, dict):
        return {name: _comparable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(part) for part in value]
    return str(value) if isinstance(value, float) and math.isnan(value) else value
