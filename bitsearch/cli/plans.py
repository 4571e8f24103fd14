"""Commands on runs and plans: ``export``, ``evaluate``, ``spaces``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from bitsearch.cli.options import DeviceOption, SetOption, SplitOption, TrustOption
from bitsearch.cli.report import RunArgument
from bitsearch.cli.terminal.completion import complete_space
from bitsearch.cli.terminal.console import Console, print_json, print_line
from bitsearch.errors import InputError


def export(
    run: RunArgument,
    trial: Annotated[int | None, typer.Option(min=0, help="Export this trial's plan.")] = None,
    budget: Annotated[str | None, typer.Option(help="Export the best plan within this budget, such as 8x.")] = None,
    one_se: Annotated[
        bool, typer.Option("--one-se", help="Export the cheapest plan within one standard error of the chosen one.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; stdout by default.")] = None,
) -> None:
    """Write a plan of a run as JSON: the chosen one, or one trial's, within another budget, or the cheapest as good."""
    from bitsearch.runs.folder import RunFolder
    from bitsearch.runs.select import select_plan

    plan = select_plan(RunFolder.open(run), trial=trial, budget=budget, one_standard_error=one_se)
    if output is None:
        print_json(plan.to_json())
    else:
        plan.save(output)
        print_line(output)


def plan_file(path: Path | None) -> Path | None:
    """The plan that a path stands for: itself, or the chosen one of a run folder; InputError for another folder."""
    if path is None or not path.is_dir():
        return path
    if not (path / "run.toml").is_file():
        raise InputError(
            f"{path} is a folder without a run; give a plan.json, or the folder that `bitsearch run` wrote"
        )
    return path / "plan.json"


PlanArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PLAN",
        callback=plan_file,
        help="plan.json, or one of plans/ of a run; a run folder for its chosen plan.",
    ),
]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights file; found in the plan's run folder by default.")]
SpaceOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_space,
        help="Search space of the plan, or a run folder with it; the plan's own run folder by default.",
    ),
]


def evaluate(
    plan: PlanArgument,
    weights: WeightsOption = None,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
    split: SplitOption = "validation",
    device: DeviceOption = "auto",
) -> None:
    """Rebuild a plan's network, load its weights and measure its score, such as accuracy."""
    from bitsearch.runs.rebuild import measure, rebuild
    from bitsearch.text import largest_class

    network, task = rebuild(plan, weights=weights, space=space, overrides=overrides or (), trust=trust, device=device)
    measured = measure(network, task, split)
    print(f"{split} {task.learning_task.score.name} {measured.score:.4f}")
    largest = f"; largest class: {largest_class(measured.classes)}" if measured.classes else ""
    print_line(f"{measured.samples:,} samples{largest}")


def spaces() -> None:
    """List the search spaces that come with bitsearch."""
    from bitsearch.space import SearchSpace, shipped_spaces

    console = Console()
    for name in sorted(shipped_spaces()):
        space = SearchSpace.load(name)
        console.print(Text.assemble((name, "bold"), f"  {space.network} on {space.data}"), highlight=False)
        console.print(f"  {space.description}", highlight=False)
