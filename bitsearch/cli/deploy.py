"""Commands on deployed networks: ``deploy``, ``verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.cli.options import SetOption, SplitOption, TrustOption
from bitsearch.cli.plans import PlanArgument, SpaceOption
from bitsearch.cli.terminal.completion import complete_dialect, complete_format
from bitsearch.cli.terminal.console import Console, print_line
from bitsearch.deploy.formats import (
    DEFAULT,
    FORMATS,
    ConsumerRequest,
    ExportRequest,
    formats_with,
    request_options,
)
from bitsearch.deploy.formats.nir.dialects import DIALECTS, PLAIN
from bitsearch.errors import InputError, suggestion

if TYPE_CHECKING:
    from bitsearch.deploy.integer.packed_file import PackedNetwork
    from bitsearch.deploy.verify import Verification

_HELP = "\n\n".join(f"{name}: {entry.summary}" for name, entry in FORMATS.items())
_CONSUMERS = {name: entry for entry in FORMATS.values() for name in entry.consumers}


def deploy(
    plan: PlanArgument,
    weights: Annotated[
        Path | None, typer.Argument(help="Weights file; found in the plan's run folder by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write; beside PLAN, and named after it.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", autocompletion=complete_format, help=_HELP)] = DEFAULT,
    share_steps: Annotated[
        bool,
        typer.Option(
            "--share-steps",
            help=f"{formats_with('share_steps')}: give each layer one threshold, the mean of its steps'.",
        ),
    ] = False,
    thresholds: Annotated[
        bool,
        typer.Option(
            "--thresholds",
            help=f"{formats_with('thresholds')}: integers and MultiThreshold nodes in the place of quantizers.",
        ),
    ] = False,
    dialect: Annotated[
        str | None,
        typer.Option(
            "--dialect",
            autocompletion=complete_dialect,
            help=f"{formats_with('dialect')}: whose importer is to read the file: {', '.join(DIALECTS)}; by default, "
            f"{PLAIN}.",
        ),
    ] = None,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a plan's trained network for use elsewhere, in the format that --format names."""
    options = request_options(kind, share_steps=share_steps, thresholds=thresholds, dialect=dialect)
    from bitsearch.plan import BitPlan
    from bitsearch.runs.rebuild import restore, run_folder_of
    from bitsearch.runs.test_split import verdict_of

    bits = BitPlan.load(plan)
    network, task = restore(
        bits, plan, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu"
    )
    run = run_folder_of(plan)
    report = run.report_file if run is not None and run.report_file.is_file() else None
    output = output or plan.with_name(plan.stem + FORMATS[kind].suffix)
    verdict = verdict_of(run).text if run is not None and run.chosen() == bits else None
    result = FORMATS[kind].export(ExportRequest(network, bits, task, output, report, verdict, **options))
    for line in result.lines:
        print_line(line)
    if not result.equal:
        raise typer.Exit(1)


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Packed file that `bitsearch deploy` wrote.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights it was made from; found in the file's run folder by default.")
    ] = None,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
    split: SplitOption = "test",
    consumer: Annotated[
        str | None,
        typer.Option(
            "--with", help=f"Let this run the network too, and compare with the replay: {', '.join(_CONSUMERS)}."
        ),
    ] = None,
) -> None:
    """Replay a packed file on integers and compare every spike with its network's; exits 1 where one differs."""
    if consumer is not None and consumer not in _CONSUMERS:
        raise InputError(f"--with is {consumer!r}; allowed: {', '.join(_CONSUMERS)}{suggestion(consumer, _CONSUMERS)}")
    from bitsearch.deploy.integer.packed_file import read
    from bitsearch.deploy.verify import verify as compare
    from bitsearch.runs.rebuild import restore

    packed = read(file)
    if packed.plan is None:
        raise InputError(f"{file} holds no plan to rebuild its network from; write it with bitsearch deploy")
    network, task = restore(
        packed.plan, file, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu"
    )
    samples, batch_size = task.splits.split(split), task.space.training.batch_size
    # First, since it is refused where it cannot run.
    consumed = None
    if consumer is not None:
        request = ConsumerRequest(consumer, packed, network, packed.plan, task.examples, samples, batch_size)
        consumed = _CONSUMERS[consumer].consume(request)
    verification = compare(packed, network, task.examples, samples, batch_size, task.learning_task)
    console = Console()
    console.print(_table(packed, verification))
    for line in _summary(verification, split, task.learning_task.score.name):
        console.print(line, highlight=False, soft_wrap=True)
    for line in () if consumed is None else consumed.lines:
        print_line(line)
    if not verification.equal or (consumed is not None and not consumed.equal):
        raise typer.Exit(1)


def _table(packed: "PackedNetwork", verification: "Verification") -> Table:
    table = Table(title="Integer replay against the network", title_justify="left")
    for column, justify in (
        ("layer", "left"),
        ("spikes", "left"),
        ("unequal by step", "right"),
        ("unlike float32", "right"),
        ("accumulator bits: seen, bound", "right"),
        ("membrane bits: seen, bound", "right"),
    ):
        # A long name goes on in the next line.
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]  # one of rich's words
    for layer in verification.layers:
        widths = packed.widths[layer.name]
        table.add_row(
            Text(layer.name),
            "" if not layer.spikes else "equal" if layer.equal else "UNEQUAL",
            " ".join(map(str, layer.unequal)),
            f"{sum(layer.unequal_to_float) / sum(layer.spikes):.2%}" if layer.spikes else "—",
            "—" if widths.accumulator is None else f"{layer.accumulator_bits}, {widths.accumulator}",
            "—" if widths.membrane is None else f"{layer.membrane_bits}, {widths.membrane}",
            style="" if layer.equal else "bold red",
        )
    return table


def _summary(verification: "Verification", split: str, score: str) -> list[str]:
    words = "equal" if verification.equal else "UNEQUAL"
    outputs = "equal" if verification.outputs_equal else "UNEQUAL"
    spikes = sum(sum(layer.spikes) for layer in verification.layers)
    unlike = sum(sum(layer.unequal_to_float) for layer in verification.layers)
    return [
        f"{words}: {spikes} spikes of {verification.samples} {split} samples; outputs {outputs}",
        f"ordinary float32 network: unlike in {unlike} of these spikes ({unlike / spikes:.3%}), "
        f"{score} {verification.float_score:.4f}; packed {verification.score:.4f}",
    ]
