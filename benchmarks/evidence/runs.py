"""Runs of one space and seed, all from the same float network, and the tables that they are kept in."""

import base64
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import LayerPlan
from bitsearch.runs.paired import score_of
from bitsearch.space import SearchSpace
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.evaluate import evaluate, score_row
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import Task, load_task

SMALL = Path(__file__).with_name("small.toml")
Row = dict[str, Any]
Plan = Mapping[str, LayerPlan]


class Ledger:
    """A table in a CSV file that grows row by row; an interrupted measurement goes on from it.

    Args:
        path: the file; there or not.
        keys: columns that name a measurement, which may have several rows.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        # Plans and curves are text, also where they look like a number.
        text = {"plan": str, "curve": str, "parameters": str, "right": str}
        self.rows: list[Row] = (
            pd.read_csv(path, dtype=text, keep_default_na=True).to_dict("records") if path.is_file() else []
        )
        self._done = {self._key(row) for row in self.rows}

    def _key(self, row: Row) -> tuple[str, ...]:
        return tuple(str(row[key]) for key in self.keys)

    def __contains__(self, key: Row) -> bool:
        return self._key(key) in self._done

    def add(self, key: Row, found: Sequence[Row]) -> None:
        """Keep the rows of one measurement."""
        self.rows += [key | row for row in found]
        self._done.add(self._key(key))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, self.table.to_csv(index=False))

    @property
    def table(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame(self.rows)


def packed(right: NDArray[np.bool_]) -> str:
    """Bool ``[N]`` as text, eight samples a byte, in Base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(text: str, samples: int) -> NDArray[np.bool_]:
    """What :func:`packed` wrote of so many samples."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return bits[:samples].astype(bool)


def complete_seeds(table: pd.DataFrame, plans: int) -> pd.DataFrame:
    """The rows of the seeds that have so many plans."""
    counts = table.groupby("seed")["plan"].nunique()
    return table[table["seed"].isin(counts[counts == plans].index)]


class Stage:
    """A space and a seed: the data, and the float network that every run starts from.

    Args:
        space: with ``split_seed`` as it is; the seed is that of weights and batches.
        seed: likewise.
        kept: folder where float networks are kept, so that a measurement that goes on has the same ones.
        outcomes: rows say which test samples are right (:func:`packed`), so that networks can be compared in pairs.
    """

    def __init__(self, space: SearchSpace, seed: int, kept: Path, *, outcomes: bool = False) -> None:
        self.outcomes = outcomes
        self.task: Task = load_task(space, seed=seed)
        self.space, self.seed, self.kept = space, seed, kept
        self.network: nn.Module = self.task.fresh_network()
        file = kept / f"{space.name}-{seed}.safetensors"
        if file.is_file():
            load_weights(self.network, file)
            return
        session, epochs = TrainingSession(self.task.splits, space.training), space.training.full_precision_epochs
        train(self.network, session, epochs=epochs, seed=seed, phase="full precision")
        kept.mkdir(parents=True, exist_ok=True)
        save_weights(self.network, file)

    def float_row(self) -> Row:
        """Accuracies of the float network."""
        return {"method": "full_precision", **self.accuracies(self.network)}

    def accuracies(self, network: nn.Module) -> Row:
        """Of any network, on validation and test."""
        at_once, splits = self.space.training.at_once, self.task.splits
        found: Row = {"validation": evaluate(network, splits.validation, at_once)}
        if not self.outcomes:
            return found | {"test": evaluate(network, splits.test, at_once)}
        right = score_row(network, splits.test, at_once).numpy()
        return found | {"test": score_of(right), "right": packed(right)}

    def problem(self, settings: Allocation, budgets: Sequence[Budget] = (), attempt: int = 0) -> AllocationProblem:
        """What a method is given."""
        task = self.task
        return AllocationProblem(
            self.network,
            task.model,
            task.rules,
            TrainingSession(task.splits, self.space.training, teacher=self.network),
            self.space,
            settings,
            budgets,
            seed=self.seed,
            attempt=attempt,
        )

    def fixed(self, plan: Plan, epochs: int | None = None) -> Row:
        """Train a fixed plan, by default as long as any method."""
        problem, epochs = self.problem(self.space.allocation), epochs or self.space.training.epochs
        return next(self._measured(problem, lambda problem: iter([self._train_fixed(problem, plan, epochs)])))

    def _train_fixed(self, problem: AllocationProblem, plan: Plan, epochs: int) -> QuantizedNetwork:
        quantized, session = problem.quantized(plan), problem.session
        return train_at_plan(quantized, plan, session, problem.settings, epochs=epochs, seed=self.seed, phase="fixed")

    def run(self, settings: Allocation, budgets: Sequence[Budget], attempt: int = 0) -> list[Row]:
        """Every network that the method ``settings.method`` leaves; costs of computing stand in the first row."""
        return list(self._measured(self.problem(settings, budgets, attempt), METHODS[settings.method]))

    def _measured(
        self, problem: AllocationProblem, method: Callable[[AllocationProblem], Iterator[QuantizedNetwork]]
    ) -> Iterator[Row]:
        curve: list[float] = []

        def on_epoch(record: EpochRecord) -> None:
            curve.append(record.validation_score)

        started = time.process_time()
        networks = list(method(replace(problem, session=replace(problem.session, on_epoch=on_epoch))))
        spent = {"epochs": len(curve), "cpu_seconds": round(time.process_time() - started, 3)}
        for network in networks:
            plans = network.layer_plans
            yield {
                "plan": self.text(plans),
                **{name: value for name, value in self.task.model.costs(plans).items() if name in SHOWN},
                **self.accuracies(network),
                **spent,
                "curve": " ".join(f"{value:.4f}" for value in curve),
            }
            spent, curve = {"epochs": 0, "cpu_seconds": 0.0}, []

    def text(self, plan: Plan) -> str:
        """``weight/spike`` bits of every searched layer, spike bits one a time step: ``2/1,1 1/3``."""
        found = (plan[name] for name in self.task.rules.searched)
        return " ".join(f"{layer.weight_bits}/{','.join(map(str, layer.spike_bits))}" for layer in found)

    def plan(self, text: str) -> dict[str, LayerPlan]:
        """The plan that :meth:`text` writes so; layers that are not searched have their own bits."""
        plan = self.task.rules.smallest(self.task.model)
        for name, bits in zip(self.task.rules.searched, text.split(), strict=True):
            weight, spikes = bits.split("/")
            each = tuple(int(part) for part in spikes.split(","))
            update = {"weight_bits": int(weight), "spike_bits": each, "time_steps": len(each)}
            plan[name] = plan[name].model_copy(update=update)
        return plan


SHOWN = ("bit_budget", "bit_budget_mac", "s_ace", "weight_memory")
"""Costs that tables keep."""


def progress(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
