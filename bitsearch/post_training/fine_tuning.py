"""Training calibrated plans on, with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitsearch.cost import Budget
from bitsearch.layers.weights import load_weights
from bitsearch.plan import BitPlan, LayerPlan
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.plan_names import is_uniform
from bitsearch.study.jobs import Trained, allocation_problem
from bitsearch.study.processes import ProcessGroup
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.session import TrainingSession


@dataclass(frozen=True)
class TrainOn:
    """Train a plan's network on from weights of its own."""

    layers: Mapping[str, LayerPlan]
    weights: Path
    epochs: int

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> Trained:
        """This process's part."""
        settings = processes.task.space.allocation
        quantized = allocation_problem(processes, session, settings, processes.budgets).quantized(self.layers)
        load_weights(quantized, self.weights)
        train_at_plan(
            quantized, self.layers, session, settings, epochs=self.epochs, seed=processes.seed, phase="fine-tune"
        )
        score, activity = session.measure(quantized)
        return Trained(quantized, score, activity, session.seconds)


def best_of_every_budget(plans: Sequence[BitPlan], stops: Sequence[Sequence[Budget]], metric: str) -> list[BitPlan]:
    """Of every stop the best plan on validation and the best uniform one, each once, in the order of the stops."""
    best: list[BitPlan] = []
    for budgets in stops:
        judged = {
            plan.provenance.trial: plan.model_copy(
                update={"budget": tuple(budget.outcome(plan.costs[budget.metric]) for budget in budgets)}
            )
            for plan in plans
        }
        for uniform in (False, True):
            winner = best_plan([plan for plan in judged.values() if is_uniform(plan) == uniform], metric)
            if winner is not None:
                best.append(next(plan for plan in plans if plan.provenance.trial == winner.provenance.trial))
    return list({plan.provenance.trial: plan for plan in best}.values())
