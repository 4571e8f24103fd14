"""Options that several commands take."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from bitsearch.allocation_settings import MethodName
from bitsearch.cli.terminal.completion import (
    complete_data,
    complete_device,
    complete_method,
    complete_metric,
    complete_network,
    complete_space,
    complete_split,
    complete_target,
)
from bitsearch.errors import InputError

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the search space, such as training.epochs=3 or data_options.root=DIR; several times if you like.",
    ),
]

LayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="GLOB:KEY=VALUE",
        help="What layers may get whose names match, such as 'layer3.*:weight_bits=8' or 'conv*:spike_bits=[1, 2]'; "
        "several times if you like, the last one wins.",
    ),
]

TieOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tie",
        metavar="GLOBS:NUMBERS",
        help="Layers that share numbers, such as 'layer3.*:spike_bits,time_steps' or 'query,key:weight_bits'; or "
        "streams: those that read the same neurons share spikes and time steps. Several times if you like.",
    ),
]

ModelOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_network,
        help="Network: a shipped one, or package.module:factory of your own. The space's by default.",
    ),
]
ModelArgOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Option of the network, such as width=8; several times if you like."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_data,
        help="Data: a shipped data set, or package.module:factory of your own. The space's by default.",
    ),
]
DataArgOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Option of the data, such as root=photos; several times if you like."),
]
TrainedWeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="Trained weights of the network, which are then not trained first: safetensors, or a checkpoint of "
        "torch's; --set training.full_precision_epochs=N trains them further.",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust", help="Run the code that a plan's or a study's own package.module:factory names; read it before."
    ),
]

StorageOption = Annotated[
    str | None,
    typer.Option(
        envvar="BITSEARCH_STORAGE",
        show_envvar=True,
        help="Database of a study that several machines work on: postgresql://user@host/database. Its password is "
        "better left to ~/.pgpass or PGPASSWORD.",
    ),
]
ArtifactsOption = Annotated[
    str | None,
    typer.Option(help="Folder that all machines see, or s3://bucket, for plans and weights of a study in --storage."),
]
LoggerOption = Annotated[
    str | None,
    typer.Option(help="Tell a tracker as well: tensorboard, mlflow or wandb. Trials are its runs, epochs their steps."),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Processes on this machine that train every network together, each on a GPU of its own."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print every epoch, and what libraries log.")]

SpikesOption = Annotated[
    str | None,
    typer.Option(
        help="Spike bits that a layer may get: binary for one bit everywhere, or 2, or 1..4; choices, start and "
        "baseline follow. The first layer reads the data itself, at first_layer.spike_bits.",
    ),
]
TimeStepsOption = Annotated[
    str | None,
    typer.Option(
        help="Time steps that a layer may get: 4, or 2..8; choices follow, start and baseline have the most of them."
    ),
]

StepSizesOption = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Step sizes of weights and spikes: free, or power_of_two, by which hardware shifts; the space's by "
        "default.",
    ),
]

DeviceOption = Annotated[str, typer.Option(autocompletion=complete_device, help="auto, cpu, cuda, cuda:N or mps.")]


def _known_split(split: str) -> str:
    if split not in ("train", "validation", "test"):
        raise InputError(f"split is {split!r}; allowed: train, validation, test")
    return split


SplitOption = Annotated[
    str,
    typer.Option(callback=_known_split, autocompletion=complete_split, help="validation, test or train."),
]
SpaceChoice = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_space,
        help="Name of a shipped search space, or path of a TOML file; digits by default.",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_metric, help="Cost metric of a budget that names none; the space's by default."
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_method,
        help=f"How bits are found: {', '.join(get_args(MethodName))}; the space's by default.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_target,
        help="Hardware target, by name (see `bitsearch targets list`) or path; the space's by default.",
    ),
]
