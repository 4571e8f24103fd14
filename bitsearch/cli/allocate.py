"""``bitsearch allocate``."""

import json
import sys
from pathlib import Path
from typing import Annotated

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

SOLVING_OPTIONS = {"start", "budgets", "budget", "metric", "target", "output", "trust", "quiet", "verbose"}
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
            help="Solve anew from the scores of a run of this command, without data: for other --budgets, each beside "
            "every --budget, another --metric or --target. Writes plans that are not calibrated.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --from, the plan to write; of several budgets a folder for them."),
    ] = None,
    trust: TrustOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Plans for several budgets in minutes: score a trained network once, then solve and calibrate, without training.

    Without --weights, the network is trained in full precision first.
    """
    errors = make_console(quiet=quiet, verbose=verbose)
    if start is not None:
        _check_solving_options(context)
        _solve_anew(start, budgets.split(","), budget or [], metric, target, output, trust=trust)
        return
    if output is not None:
        raise InputError("--output is for plans of --from; a run folder is named by --out")
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


def _solve_anew(
    run: Path,
    requests: list[str],
    others: list[str],
    metric: str | None,
    target: str | None,
    output: Path | None,
    *,
    trust: bool,
) -> None:
    """Print one plan, or write it, or write several into a folder."""
    if len(requests) > 1 and output is None:
        raise InputError("--from prints one plan; give one budget with --budgets, or a folder for all with --output")
    from bitsearch.post_training.reallocation import reallocate
    from bitsearch.runs.command_line import shell_command
    from bitsearch.runs.folder import plan_file_name

    command = shell_command(sys.argv[1:])
    plans = {
        request: reallocate(run, [request, *others], metric=metric, target=target, trust=trust, command=command)
        for request in requests
    }
    if output is None:
        print_json(plans[requests[0]].to_json())
        return
    if len(requests) > 1:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {output}: {error.strerror or error}") from error
    for request, plan in plans.items():
        path = output if len(requests) == 1 else output / plan_file_name(request)
        plan.save(path)
        print_line(path)
