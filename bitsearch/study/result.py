"""The result of a search: its plans, their networks, and the answer to whether they were worth it."""

import warnings
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset

from bitsearch.data import batches
from bitsearch.data.checked_samples import Requirements, check_sample, checked_samples, read_sample
from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.targets import Targets
from bitsearch.deploy.formats import DEFAULT, FORMATS, ExportRequest, request_options
from bitsearch.errors import InputError
from bitsearch.layers import apply
from bitsearch.layers.weights import load_weights
from bitsearch.network_inputs import Inputs, InputShape, axis_length, dtypes_of, shape_of, shape_text
from bitsearch.plan import BitPlan
from bitsearch.registry import OBJECT
from bitsearch.runs.confirmed import Confirmed, confirmed
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.pareto import to_dataframe, validation_rank
from bitsearch.runs.rebuild import rebuild
from bitsearch.runs.sweep import sweep_table
from bitsearch.runs.test_split import verdict_of
from bitsearch.runs.verdict import Verdict
from bitsearch.study.objects import object_name
from bitsearch.train.evaluate import evaluate
from bitsearch.train.output_check import output_count
from bitsearch.train.task import Task
from bitsearch.train.tasks import make_learning_task, output_form, targets_of

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class SearchResult:
    """The plans of a finished search, read from its run folder.

    >>> result = bitsearch.load("run")
    >>> result.best.met, len(result.front) <= len(result.trials)
    (True, True)
    >>> result.network()(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    folder: RunFolder
    float_network: nn.Module | None = field(default=None, repr=False)
    """The network before it got bits, of a search whose network was an object."""
    task: Task | None = field(default=None, repr=False)
    """Of the search: its data, and a few training inputs as a network gets them; None of a result from a folder."""

    @property
    def best(self) -> BitPlan:
        """The plan with the best validation score that meets the budget."""
        return self.folder.chosen()

    @property
    def within_one_standard_error(self) -> BitPlan | None:
        """The cheapest plan that validation cannot tell from the best: within one standard error, paired over samples.

        None in a run that does not record which samples its plans got right, as one of an earlier version.
        """
        return cheapest_within_one_standard_error(self.folder)

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front, cheapest first, one row a plan."""
        return to_dataframe(self.folder.front())

    @property
    def trials(self) -> pd.DataFrame:
        """Every finished trial, one row a plan."""
        return to_dataframe(self.folder.plans())

    @property
    def sweep(self) -> pd.DataFrame:
        """One row a budget of the sweep, with its plan; empty for a run without one."""
        return sweep_table(self.folder)

    @property
    def verdict(self) -> Verdict:
        """Whether what was searched is better than uniform bits, on the test split and by chance."""
        return verdict_of(self.folder)

    @property
    def confirmed(self) -> list[Confirmed]:
        """The finalists' accuracies over further seeds, where the search had ``confirm``; empty otherwise."""
        return confirmed(self.folder)

    @property
    def uniform(self) -> list[BitPlan]:
        """The uniform baselines, best validation score first."""
        plans = [plan for plan in self.folder.plans() if plan.provenance.method == "uniform"]
        return sorted(plans, key=lambda plan: -validation_rank(plan))

    def network(self, trial: int | None = None, *, trust: bool = False) -> nn.Module:
        """The quantized network of a plan with its trained weights, in evaluation mode on the CPU.

        Args:
            trial: of the run; the chosen plan's by default.
            trust: run code of the user's own that the run folder names.

        Raises:
            InputError: no such trial, code that is not trusted, or a run of an object that :func:`bitsearch.load` was
                not given.
        """
        return self._rebuilt(trial, trust)[0]

    def evaluate(self, samples: Any, trial: int | None = None, *, trust: bool = False) -> float:
        """The score of a plan's network, such as the share of samples that it classifies rightly.

        Args:
            samples: a data set or a loader, as the search was given; frames of a data set are its samples' first axis.
            trial: as for :meth:`network`, as is ``trust``.

        Raises:
            InputError: as :meth:`network`, or samples that are not like those of the search.
        """
        space = self.folder.settings.space
        network, task, _ = self._rebuilt(trial, trust)
        kind = targets_of(space.task)
        if isinstance(samples, IterableDataset) or not (isinstance(samples, Dataset) or hasattr(samples, "__iter__")):
            raise InputError(f"samples is {type(samples).__name__}; give a torch Dataset, or a DataLoader")
        if isinstance(samples, Dataset):
            first = _first(samples, kind)
            samples = samples if task is None else _like(task.examples, samples, shape_of(first[0]))
        else:
            axis = space.data_options.get("time_axis")
            samples = LoadedSamples(samples, "samples", time_axis=axis, targets=kind)
        inputs, targets = next(iter(batches(samples, space.training.at_once)))
        form = output_form(space.task, targets.dim() - 1)
        classes = output_count(network, inputs, space.network, form)
        if isinstance(samples, LoadedSamples):
            samples.classes = classes
        else:
            shape, dtypes = shape_of(first[0]), dtypes_of(first[0])
            required = Requirements(shape, dtypes, classes, kind, tuple(torch.as_tensor(first[1]).shape))
            samples = checked_samples(samples, "samples", required)
        learned = make_learning_task(space.task, classes, targets.dim() - 1)
        return evaluate(network, samples, space.training.at_once, task=learned)

    def deploy(
        self,
        path: str | Path,
        trial: int | None = None,
        *,
        format: str = DEFAULT,  # noqa: A002 - as on the command line
        share_steps: bool = False,
        thresholds: bool = False,
        dialect: str | None = None,
        trust: bool = False,
    ) -> Path:
        """Write a plan's network for use elsewhere, as ``bitsearch deploy`` does: by default as packed integers.

        Args:
            path: file or folder to write.
            trial: as for :meth:`network`, as is ``trust``.
            format: ``packed``, ``c``, ``onnx``, ``qonnx``, ``nir``, ``akida`` or ``hub-folder``.
            share_steps: of ``nir`` and ``qonnx``, one threshold for all time steps of a layer.
            thresholds: of ``qonnx``, integers and thresholds in the place of quantizers.
            dialect: of ``nir``, whose importer is to read the file.

        Returns:
            The path. A file that was run, and computes otherwise than its network, is a warning.

        Raises:
            InputError: as :meth:`network`, or what the format cannot hold.
        """
        options = request_options(format, share_steps=share_steps, thresholds=thresholds, dialect=dialect)
        network, task, plan = self._rebuilt(trial, trust)
        if task is None:
            raise InputError(
                f"the data of {self.folder.path} were objects, which a folder does not hold; deploy the result of "
                "bitsearch.search, called again with the same network, data and out=, or use bitsearch.pack"
            )
        if format == "hub-folder" and plan.network.endswith(OBJECT):
            raise InputError(
                f"{plan.network!r} is an object, which a published folder cannot name; search it as package.module:name"
            )
        report = self.folder.report_file if self.folder.report_file.is_file() else None
        verdict = self.verdict.text if plan == self.best else None
        result = FORMATS[format].export(ExportRequest(network, plan, task, Path(path), report, verdict, **options))
        if not result.equal:
            warnings.warn("; ".join(result.lines), stacklevel=2)
        return Path(path)

    def plot(self) -> "go.Figure":
        """The front as a plotly figure: every trial's score against its cost, the chosen plan and the budgets."""
        # By the public interface: the report stands above the study.
        from bitsearch import plot_front

        return plot_front(self.folder)

    def _repr_html_(self) -> str:
        from bitsearch import summary_html

        return summary_html(self.folder)

    def _rebuilt(self, trial: int | None, trust: bool) -> tuple[nn.Module, Task | None, BitPlan]:
        if trial is not None and not isinstance(trial, Integral):
            raise InputError(f"trial is {trial!r}; give the number of one, as the column trial of result.trials has it")
        plan = self.best if trial is None else self.folder.plan(trial)
        number = plan.provenance.trial
        assert number is not None
        if self.float_network is not None:
            network = apply(plan, self.float_network)
            load_weights(network, self.folder.weights_file(number))
            return network.eval(), self.task, plan
        if plan.network.endswith(OBJECT):
            raise InputError(
                f"the network of {self.folder.path} was an object, {plan.network!r}; give it again: "
                "bitsearch.load(FOLDER, network)"
            )
        network, task = rebuild(self.folder.plan_file(number), trust=trust, device="cpu")
        return network.eval(), task, plan


def _first(samples: Any, targets: Targets) -> tuple[Inputs, Any]:
    """The first sample, checked; InputError if there is none."""
    if len(samples) == 0:
        raise InputError("samples is empty; give at least one sample")
    return check_sample(read_sample(samples, 0, "samples"), "samples sample 0", targets=targets)


def _like(examples: Inputs, samples: Any, shape: InputShape) -> Any:
    """A data set whose batches are as the examples, ``[N, ...]`` or ``[T, N, ...]``; InputError if they cannot be."""
    static, framed = shape_of(examples, without=0), shape_of(examples, without=1)
    if getattr(samples, "frames", None) is None and shape == static:
        return samples
    if shape == framed:
        with_frames: Any = Subset(samples, range(len(samples)))
        with_frames.frames = axis_length(examples, 0)
        return with_frames
    raise InputError(
        f"samples have inputs of shape {shape_text(shape)}; those of the search are {shape_text(static)}, or "
        f"{shape_text(framed)} where the first axis of a batch is time"
    )


def load(folder: str | Path, network: nn.Module | None = None) -> SearchResult:
    """The result of a run that has ended, or goes on, from its folder.

    Args:
        folder: of the run.
        network: the one that was searched, where it was an object, to rebuild plans with; its weights do not count.

    Raises:
        InputError: no run folder, or one of another network.

    >>> bitsearch.load("run").best.met
    True
    """
    opened = RunFolder.open(folder)
    if network is not None and opened.settings.space.network != object_name(network):
        raise InputError(
            f"{folder} is a run of {opened.settings.space.network!r}, not of {object_name(network)!r}; give the "
            "network that was searched, or none where a search space names it"
        )
    return SearchResult(opened, network)
