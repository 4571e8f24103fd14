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
    from torch import nn

    from bitsearch.deploy import PackedNetwork, Verification
    from bitsearch.plan import BitPlan
    from bitsearch.train.task import Task

ENDINGS = {"packed": ".packed.safetensors", "nir": ".nir", "onnx": ".onnx", "hub-folder": ".hub"}
"""What the name of a file or folder of each format ends in by default."""


def deploy(
    plan: PlanArgument,
    weights: Annotated[
        Path | None, typer.Argument(help="Weights file; found in the plan's run folder by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder to write; beside PLAN, and named after it.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="packed: integers at exactly their bit widths; onnx; nir: spiking event networks; "
            "hub-folder: model card and all files.",
        ),
    ] = "packed",
    share_steps: Annotated[
        bool, typer.Option("--share-steps", help="nir: give each layer one threshold, the mean of its steps'.")
    ] = False,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Write a plan's trained network for use elsewhere: as packed integers, ONNX, NIR, or a folder to publish."""
    if kind not in ENDINGS:
        raise InputError(f"--format is {kind!r}; allowed: {', '.join(ENDINGS)}")
    if share_steps and kind != "nir":
        raise InputError(f"--share-steps is for --format nir, not {kind}")
    from bitsearch.plan import BitPlan
    from bitsearch.runs.rebuild import restore

    output = output or plan.with_name(plan.stem + ENDINGS[kind])
    found = BitPlan.load(plan)
    network, task = restore(
        found, plan, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu"
    )
    if kind == "onnx":
        _deploy_onnx(network, task, found, output)
    elif kind == "nir":
        _deploy_nir(network, task, found, output, share=share_steps)
    elif kind == "hub-folder":
        _deploy_hub_folder(network, task, found, output, plan)
    else:
        from bitsearch.deploy import pack

        size = pack(network, task.examples, output, found)
        print(f"{output}: {size} bytes of packed weights and parameters")


def _deploy_onnx(network: "nn.Module", task: "Task", plan: "BitPlan", output: Path) -> None:
    from bitsearch.deploy.formats.extras import require
    from bitsearch.deploy.formats.onnx import check_onnx, export_onnx

    # Before the export, which takes a while.
    require("onnx", "onnx", "onnxscript", "onnxruntime")
    export_onnx(network, task.examples, output, plan)
    found = check_onnx(output, network, task.splits.test, task.space.training.at_once)
    print(
        f"{output}: {found.same} of {found.samples} test samples are predicted as by the network; "
        f"logits differ by at most {found.difference:.1e} of the largest"
    )
    if found.same < found.samples:
        raise typer.Exit(1)


def _deploy_nir(network: "nn.Module", task: "Task", plan: "BitPlan", output: Path, *, share: bool) -> None:
    from bitsearch.deploy.formats.nir import export_nir
    from bitsearch.deploy.formats.nir import share_steps as share_all
    from bitsearch.train.evaluate import evaluate

    batch_size = task.space.training.at_once
    before = evaluate(network, task.splits.test, batch_size) if share else None
    if share:
        share_all(network)
    export_nir(network, task.examples, output, plan)
    line = f"{output}: as NIR"
    if before is not None:
        after = evaluate(network, task.splits.test, batch_size)
        line += f"; test accuracy {before:.4f}, with shared steps {after:.4f}"
    print(line)


def _deploy_hub_folder(network: "nn.Module", task: "Task", plan: "BitPlan", output: Path, source: Path) -> None:
    from bitsearch.deploy.formats.hub_folder import CARD, LICENCE, export_hub_folder
    from bitsearch.runs.rebuild import run_folder_of

    run = run_folder_of(source)
    report = run.report_file if run is not None and run.report_file.is_file() else None
    unpacked = export_hub_folder(network, task.examples, output, plan, task.space, report)
    print(f"{output}: choose a licence in {CARD}, in place of {LICENCE}")
    if unpacked is not None:
        print(f"no packed file: {unpacked}")


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
    from bitsearch.runs.rebuild import restore

    packed = read(file)
    if packed.plan is None:
        raise InputError(f"{file} holds no plan to rebuild its network from; write it with bitsearch deploy")
    network, task = restore(
        packed.plan, file, weights=weights, space=space, overrides=overrides or (), trust=trust, device="cpu"
    )
    found = compare(packed, network, task.examples, task.splits.split(split), task.space.training.batch_size)
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
        # A long name goes on in the next line.
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for layer in found.layers:
        widths = packed.widths[layer.name]
        table.add_row(
            Text(layer.name),
            "equal" if layer.equal else "UNEQUAL",
            " ".join(map(str, layer.unequal)),
            f"{sum(layer.unequal_to_float) / sum(layer.spikes):.2%}",
            "—" if widths.accumulator is None else f"{layer.accumulator_bits}, {widths.accumulator}",
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
