"""Commands on deployed networks: ``deploy``, ``verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitsearch.cli.options import SetOption, TrustOption
from bitsearch.cli.plans import PlanArgument, SpaceOption
from bitsearch.errors import InputError

if TYPE_CHECKING:
    from bitsearch.deploy import PackedNetwork, Verification

FORMATS = ("packed",)


def deploy(
    plan: PlanArgument,
    weights: Annotated[
        Path | None, typer.Argument(help="Weights file; found in the plan's run folder by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default PLAN.packed.safetensors beside it.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="packed: integer weights at exactly their bit widths.")] = (
        "packed"
    ),
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a plan's trained network as packed integers: all that is needed to run it without a float."""
    if kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; allowed: {', '.join(FORMATS)}")
    from bitsearch.deploy import pack
    from bitsearch.plan import BitPlan
    from bitsearch.search.evaluate import rebuild

    output = output or plan.with_name(f"{plan.stem}.packed.safetensors")
    network, setting = rebuild(plan, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu")
    size = pack(network, setting.examples, output, BitPlan.load(plan))
    print(f"{output}: {size} bytes of packed weights and parameters")


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Packed file that `bitsearch deploy` wrote.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights it was made from; found in the file's run folder by default.")
    ] = None,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
    split: Annotated[str, typer.Option(help="validation, test or train.")] = "test",
) -> None:
    """Replay a packed file on integers and compare every spike with its network's; exits 1 where one differs."""
    if split not in ("train", "validation", "test"):
        raise InputError(f"split is {split!r}; allowed: train, validation, test")
    from bitsearch.deploy import read
    from bitsearch.deploy import verify as compare
    from bitsearch.search.evaluate import restore

    packed = read(file)
    if packed.plan is None:
        raise InputError(f"{file} holds no plan to rebuild its network from; write it with bitsearch deploy")
    network, setting = restore(
        packed.plan, file, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu"
    )
    found = compare(packed, network, setting.examples, setting.splits.split(split), setting.space.training.batch_size)
    console = Console()
    console.print(_table(packed, found))
    for line in _summary(found, split):
        console.print(line, highlight=False, soft_wrap=True)
    if not found.equal:
        raise typer.Exit(1)


def _table(packed: "PackedNetwork", found: "Verification") -> Table:
    table = Table(title="Integer replay against the network", title_justify="left")
    for column, justify in (
        ("layer", "left"),
        ("spikes", "left"),
        ("unequal by step", "right"),
        ("unlike float32", "right"),
        ("accumulator bits: seen, bound", "right"),
        ("membrane bits: seen, bound", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for layer in found.layers:
        widths = packed.widths[layer.name]
        table.add_row(
            Text(layer.name),
            "equal" if layer.equal else "UNEQUAL",
            " ".join(map(str, layer.unequal)),
            f"{sum(layer.unequal_to_float) / sum(layer.spikes):.2%}",
            f"{layer.accumulator_bits}, {widths.accumulator}",
            f"{layer.membrane_bits}, {widths.membrane}",
            style="" if layer.equal else "bold red",
        )
    return table


def _summary(found: "Verification", split: str) -> list[str]:
    words = "equal" if found.equal else "UNEQUAL"
    outputs = "equal" if found.outputs_equal else "UNEQUAL"
    spikes = sum(sum(layer.spikes) for layer in found.layers)
    unlike = sum(sum(layer.unequal_to_float) for layer in found.layers)
    return [
        f"{words}: {spikes} spikes of {found.samples} {split} samples; outputs {outputs}",
        f"ordinary float32 network: {unlike} of these spikes differ ({unlike / spikes:.3%}), "
        f"accuracy {found.float_accuracy:.4f}; packed {found.accuracy:.4f}",
    ]
