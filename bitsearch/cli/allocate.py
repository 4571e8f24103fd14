"""``bitsearch allocate``."""

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitsearch.cli.options import (
    DataArgOption,
    DataOption,
    DeviceOption,
    LayerOption,
    MetricOption,
    ModelArgOption,
    ModelOption,
    QuietOption,
    SetOption,
    SpaceChoice,
    SpikesOption,
    StepSizesOption,
    TargetOption,
    TieOption,
    TimeStepsOption,
    TrainedWeightsOption,
    TrustOption,
    VerboseOption,
)
from bitsearch.cli.run import how_to_go_on, result_as_json
from bitsearch.cli.space_options import space_from_options
from bitsearch.cli.terminal.console import Console, make_console, print_json, print_line
from bitsearch.cli.terminal.progress import Bars
from bitsearch.errors import InputError
from bitsearch.validation import MAX_SEEDS

if TYPE_CHECKING:
    from bitsearch.plan import BitPlan

SOLVING_OPTIONS = {
    *("start", "budgets", "budget", "metric", "target", "output", "calibrate", "device", "trust", "quiet", "verbose")
}
"""That go with ``--from``; the run has all else."""


def allocate(
    context: typer.Context,
    budgets: Annotated[
        str, typer.Option(metavar="BUDGETS", help="Budgets on one metric, a plan for each.")
    ] = "4x,8x,16x,32x",
    budget: Annotated[
        list[str] | None,
        typer.Option(help="A further budget on another metric, such as memory=64KiB, which every plan meets."),
    ] = None,
    space: SpaceChoice = None,
    model: ModelOption = None,
    model_arg: ModelArgOption = None,
    data: DataOption = None,
    data_arg: DataArgOption = None,
    weights: TrainedWeightsOption = None,
    spikes: SpikesOption = None,
    time_steps: TimeStepsOption = None,
    step_sizes: StepSizesOption = None,
    layer: LayerOption = None,
    tie: TieOption = None,
    overrides: SetOption = None,
    metric: MetricOption = None,
    target: TargetOption = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Training samples, without labels, to score and calibrate on.")
    ] = 256,
    iterations: Annotated[
        int, typer.Option(min=0, help="Of every reconstruction of roundings and steps; 0 leaves it out.")
    ] = 100,
    fine_tune: Annotated[
        int, typer.Option(metavar="EPOCHS", min=0, help="Train the best plans of every budget on, with labels.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEEDS - 1, help="Seed of the samples and of training.")] = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; one of the same allocation goes on. Default: reports/SPACE-DATE-N."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Solve anew from the scores of a run of this command: for other --budgets, each beside every "
            "--budget, another --metric or --target. Plans of --output are calibrated where the run's data are there.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --from, the plan to write; of several budgets a folder for them."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            help="With --from and --output, calibrate and measure each plan, and write its weights beside it."
        ),
    ] = True,
    trust: TrustOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Plans for several budgets in minutes: score a trained network once, then solve and calibrate, without training.

    Without --weights, the network is trained in full precision first.

    Tight budgets take training. On digits, where full precision has 98.1 % on test, plans of 4x, 8x, 16x and 32x have
    97.9, 98.0, 97.1 and 93.3 %; the last has 93.9 % after --fine-tune 1, and 96.6 % after 18 epochs. A plan that loses
    more than 2 % is warned of, with its figure.
    """
    errors = make_console(quiet=quiet, verbose=verbose)
    if start is not None:
        _check_solving_options(context)
        solved = Solving(start, budget or [], metric, target, trust=trust, device=device)
        if output is None:
            solved.print_plan(budgets.split(","))
        else:
            solved.write_plans(budgets.split(","), output, errors, calibrate=calibrate)
        return
    if output is not None:
        raise InputError("--output is for plans of --from; a run folder is named by --out")
    if not calibrate:
        raise InputError("--no-calibrate is for plans of --from; without a reconstruction, give --iterations 0")
    search_space = space_from_options(
        space,
        model=model,
        data=data,
        model_args=model_arg or (),
        data_args=data_arg or (),
        weights=weights,
        spikes=spikes,
        time_steps=time_steps,
        step_sizes=step_sizes,
        overrides=overrides or (),
        layers=layer or (),
        ties=tie or (),
    )
    with errors.status("Loading torch, data and network"):
        from bitsearch.cli.terminal.tables import print_result
        from bitsearch.post_training.run import allocate as run_allocation
        from bitsearch.report import write_report
        from bitsearch.runs.command_line import shell_command

    bars = Bars(errors, epochs=verbose)
    try:
        with bars:
            result = run_allocation(
                search_space,
                budgets=budgets,
                budget=budget or (),
                metric=metric,
                target=target,
                samples=samples,
                iterations=iterations,
                fine_tune=fine_tune,
                seed=seed,
                device=device,
                out=out,
                progress=bars,
                command=shell_command(sys.argv[1:]),
            )
    except KeyboardInterrupt:
        errors.print(f"Interrupted. {how_to_go_on(bars.folder)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    page = write_report(result.folder)
    if as_json:
        print_json(json.dumps(result_as_json(result, page), indent=2))
    else:
        print_result(result, page, Console())


def _check_solving_options(context: typer.Context) -> None:
    """Raise InputError for an option that kept scores have no use for."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in SOLVING_OPTIONS:
            raise InputError(
                f"{parameter.opts[0]} does not go with --from, which solves anew from the scores of a run; leave it "
                "out, or allocate without --from"
            )


@dataclass(frozen=True)
class Solving:
    """Plans from the scores of a run, each within one of several budgets and within all of the others."""

    run: Path
    others: list[str]
    metric: str | None
    target: str | None
    trust: bool
    device: str

    def plan(self, request: str, weights: Path | None = None) -> "BitPlan":
        """Within one budget; calibrated where there is a file for its weights."""
        from bitsearch.post_training.reallocation import reallocate
        from bitsearch.runs.command_line import shell_command

        return reallocate(
            self.run,
            [request, *self.others],
            metric=self.metric,
            target=self.target,
            weights=weights,
            trust=self.trust,
            device=self.device,
            command=shell_command(sys.argv[1:]),
        )

    def print_plan(self, requests: list[str]) -> None:
        """Print the one plan that is asked for, which is not calibrated."""
        if len(requests) > 1:
            raise InputError(
                "--from prints one plan; give one budget with --budgets, or a folder for all with --output"
            )
        print_json(self.plan(requests[0]).to_json())

    def write_plans(self, requests: list[str], output: Path, errors: Console, *, calibrate: bool) -> None:
        """Write one plan, or several into a folder, calibrated where that can be; says of each which it is."""
        from bitsearch.runs.folder import plan_file_name

        # Solved before anything is written: a budget that cannot be met leaves nothing behind.
        plans = {request: self.plan(request) for request in requests}
        if len(requests) > 1:
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make the folder {output}: {error.strerror or error}") from error
        for request, plan in plans.items():
            path = output if len(requests) == 1 else output / plan_file_name(request)
            reason = "not calibrated, and without weights, as asked"
            if calibrate:
                plan, reason = self._calibrated(request, plan, weights_beside(path))
            plan.save(path)
            print_line(path)
            errors.print(f"{path}: {reason}", highlight=False, soft_wrap=True, markup=False)

    def _calibrated(self, request: str, plan: "BitPlan", weights: Path) -> "tuple[BitPlan, str]":
        """(the plan calibrated, or as it is where that cannot be; what was done)."""
        from bitsearch.text import score_text

        try:
            with warnings.catch_warnings():
                # They were told when it was solved.
                warnings.simplefilter("ignore", UserWarning)
                calibrated = self.plan(request, weights)
        except InputError as error:
            return plan, f"not calibrated, and without weights: {error}"
        measured = calibrated.measured
        assert measured.validation is not None
        score = f"{score_text(measured.validation, measured.score)} {measured.score.name} on validation"
        return calibrated, f"calibrated, {score}; its weights are in {weights}"


def weights_beside(path: Path) -> Path:
    """Of a plan file, the file of its weights."""
    return path.with_suffix(".safetensors") if path.suffix == ".json" else path.with_name(path.name + ".safetensors")
