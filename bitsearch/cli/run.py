"""``bitsearch run``."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitsearch.cli.options import (
    ArtifactsOption,
    DataArgOption,
    DataOption,
    DeviceOption,
    LayerOption,
    LoggerOption,
    MethodOption,
    MetricOption,
    ModelArgOption,
    ModelOption,
    ProcessesOption,
    QuietOption,
    SetOption,
    SpaceChoice,
    SpikesOption,
    StepSizesOption,
    StorageOption,
    TargetOption,
    TieOption,
    TimeStepsOption,
    TrainedWeightsOption,
    VerboseOption,
)
from bitsearch.cli.space_options import space_from_options
from bitsearch.cli.terminal.completion import complete_metric
from bitsearch.cli.terminal.console import Console, make_console, print_json, train_together
from bitsearch.cli.terminal.progress import Bars
from bitsearch.launch import is_rank_zero
from bitsearch.validation import MAX_SEEDS

if TYPE_CHECKING:
    from bitsearch.study.result import SearchResult


def run(
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="4x for a quarter of the baseline's cost (the default), or METRIC=AMOUNT such as memory=64KiB or "
            "energy=2uJ; give it several times to meet several at once."
        ),
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
    method: MethodOption = None,
    metric: MetricOption = None,
    objective: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_metric, help="Cost metric set against accuracy; the first budget's by default."
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="In place of a budget or beside it: find the cheapest plan that loses at most so many points of "
            "validation accuracy against full precision, 0.5, or 2% of it; 0.5+1se adds a standard error to the loss. "
            "Of a score that is no share, in its own unit.",
        ),
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(autocompletion=complete_metric, help="Cost metric that --max-drop saves; the space's by default."),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGETS",
            help="Several budgets on one metric in one run, such as 4x,8x,16x,32x: a plan for each, and a table.",
        ),
    ] = None,
    target: TargetOption = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials that search; uniform baselines come on top. The space's by default."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds after which no further trial starts.")] = None,
    confirm: Annotated[
        int | None,
        typer.Option(min=1, help="Train the finalists with so many further seeds, which the verdict is about then."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEEDS - 1, help="Seed of weights, batches and sampler.")] = 0,
    device: DeviceOption = "auto",
    processes: ProcessesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; one with the same search in it goes on. Default: reports/SPACE-DATE-N."),
    ] = None,
    storage: StorageOption = None,
    study: Annotated[str | None, typer.Option(help="Name of the study in --storage; the folder's by default.")] = None,
    artifacts: ArtifactsOption = None,
    logger: LoggerOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Search a space under a budget; write the chosen plan and the Pareto page.

    Several machines for one network: torchrun --nnodes 2 ... -m bitsearch run ...
    """
    train_together(processes)
    # Of several processes, only the first writes and prints.
    is_first_process = is_rank_zero()
    errors = make_console(quiet=quiet or not is_first_process, verbose=verbose and is_first_process)
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
    search_space = search_space if method is None else search_space.with_method(method)
    with errors.status("Loading torch, data and network"):
        from bitsearch.cli.terminal.tables import print_result
        from bitsearch.report import write_report
        from bitsearch.runs.command_line import shell_command
        from bitsearch.runs.tracking import Tracking
        from bitsearch.study.run import search

    bars = Bars(errors, epochs=verbose)
    try:
        with bars:
            result = search(
                search_space,
                budget or (["4x"] if max_drop is None and sweep is None else None),
                metric=metric,
                objective=objective,
                max_drop=max_drop,
                minimize=minimize,
                sweep=sweep,
                target=target,
                trials=trials,
                timeout=timeout,
                confirm=confirm,
                seed=seed,
                device=device,
                out=out,
                storage=storage,
                study=study,
                artifacts=artifacts,
                logger=logger,
                progress=bars,
                command=shell_command(sys.argv[1:]),
            )
    except KeyboardInterrupt:
        errors.print(f"Interrupted. {how_to_go_on(bars.folder)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if not is_first_process:
        return
    page = write_report(result.folder)
    if logger is not None:
        Tracking(logger, result.folder, bars).attach(page)
    if as_json:
        print_json(json.dumps(result_as_json(result, page), indent=2))
    else:
        print_result(result, page, Console())


def how_to_go_on(folder: Path | None) -> str:
    """What to do after Ctrl-C."""
    if folder is None:
        return "Nothing has been run yet."
    return f"To go on, give the same command with --out {shlex.quote(str(folder))}"


def result_as_json(result: "SearchResult", page: Path) -> dict[str, object]:
    """What --json prints."""
    from bitsearch.report.savings import savings
    from bitsearch.runs.drop import drop_text

    within, settings = result.within_one_standard_error, result.folder.settings
    return {
        "run": str(result.folder.path),
        "plan": str(result.folder.chosen_file),
        "report": str(page),
        "chosen": json.loads(result.best.to_json()),
        "one_se_trial": None if within is None else within.provenance.trial,
        "drop": drop_text(result.folder),
        "sweep": json.loads(result.sweep.to_json(orient="records", double_precision=15)),
        "verdict": result.verdict.as_json(),
        "confirmed": [plan.as_json() for plan in result.confirmed],
        "baselines": [json.loads(plan.to_json()) for plan in result.uniform],
        "full_precision": {
            "accuracy" if result.best.score is None else "score": settings.full_precision.model_dump(exclude_none=True),
            "costs": {} if settings.reference is None else settings.reference.costs,
        },
        "savings": {
            "baseline": savings(result.best, settings.baseline_costs),
            "full_precision": {} if settings.reference is None else savings(result.best, settings.reference.costs),
        },
    }
