"""``bitsearch targets``: the hardware targets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.cli.terminal.completion import complete_target
from bitsearch.cli.terminal.console import Console, print_json, print_line
from bitsearch.errors import InputError
from bitsearch.plug_ins import plug_ins
from bitsearch.validation import MAX_TIME_STEPS

if TYPE_CHECKING:
    from bitsearch.cost.target import Target
    from bitsearch.cost.target_tables import RequiredBits
    from bitsearch.layer_rules import LayerRule

app = typer.Typer(
    help="Hardware targets: what a chip allows, what it has room for, what its operations cost.", no_args_is_help=True
)


@app.command("list")
def list_targets(
    as_json: Annotated[bool, typer.Option("--json", help="Print the targets as JSON, whole.")] = False,
) -> None:
    """List the hardware targets that come with bitsearch, and those of installed packages."""
    from bitsearch.cost.target import Target

    names = dict.fromkeys([*Target.names(), *plug_ins("hardware target")])
    if as_json:
        print_json(json.dumps([json.loads(Target.load(name).to_json()) for name in names], indent=2))
        return
    table = Table()
    for column in ("target", "weight bits", "spike bits", "time steps"):
        table.add_column(column, no_wrap=column == "target")
    table.add_column("what it is", overflow="fold")
    for name in names:
        try:
            target = Target.load(name)
        except InputError as error:
            # One package's fault hides no other target.
            table.add_row(Text(name, style="bold"), "", "", "", Text(str(error)))
            continue
        most = "any" if target.max_time_steps == MAX_TIME_STEPS else f"≤ {target.max_time_steps}"
        widths = (figure_text(target.weight_bits), figure_text(target.spike_bits), most)
        table.add_row(Text(name, style="bold"), *widths, Text(target.description))
    Console().print(table)


@app.command()
def show(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", autocompletion=complete_target, help="Name of a shipped target, or path of a .toml file."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the target as JSON.")] = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help="Print the target as TOML, to start one of your own from it.")
    ] = False,
) -> None:
    """Show everything about a target, with units and sources."""
    from bitsearch.cost.target import Target

    loaded_target = Target.load(target)
    if as_json and as_toml:
        raise InputError("--json and --toml were both given; give one of them")
    if as_toml:
        for line in loaded_target.to_toml().splitlines():
            print_line(line)
        return
    if as_json:
        print_json(loaded_target.to_json())
        return
    for line in _lines(loaded_target):
        Console().print(line, highlight=False, soft_wrap=True)


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="TOML file to write; its name is the target's.")],
) -> None:
    """Write a commented target to start one of your own from: every key, with what it means."""
    from bitsearch.cost.target import Target
    from bitsearch.files import write_whole

    if path.suffix != ".toml":
        raise InputError(f"{path} does not end in .toml, by which targets are known as files; give such a name")
    if path.exists():
        raise InputError(f"{path} is there already; give another name, or remove it")
    text = Target.template(path.stem)
    write_whole(path, text)
    print_line(path)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="TOML file of a target of your own.")],
) -> None:
    """Check a target of your own: one line says that it is valid, or what is wrong."""
    from bitsearch.cost.target import Target

    Target.load(path)
    print_line(f"{path}: a valid target")


def figure_text(value: Any) -> str:
    """A figure as text: ``1–8`` or ``1, 2, 4`` for widths, names, large numbers with separated thousands."""
    if value == ():
        return "none"
    if isinstance(value, tuple) and isinstance(value[0], str):
        return ", ".join(value)
    if isinstance(value, tuple):
        is_range = len(value) > 2 and value == tuple(range(value[0], value[-1] + 1))
        return f"{value[0]}–{value[-1]}" if is_range else ", ".join(str(width) for width in value)
    return f"{int(value):,}" if value == int(value) else f"{value:.10g}"


def _lines(target: "Target") -> list[str]:
    from bitsearch.cost.figures import FIGURES

    lines = [f"{target.name}: {target.description}" if target.description else target.name, ""]
    lines.append(f"granularity: {' or '.join(target.granularity)}")
    lines += ["one stream of spikes: layers that read the same neurons share it"] if target.one_spike_stream else []
    if target.cores is not None and target.cores.whole_layers:
        lines.append("cores: a layer has to fit one")
    lines += [f"first layer: {_rule(target.first_layer)}"] if target.first_layer else []
    lines += [f"last layer: {_rule(target.last_layer)}"] if target.last_layer else []
    lines += [f"layers {rule}: {_layer_rule(rule)}" for rule in target.layers]
    if target.energy:
        counting_text = (
            "only non-zero spikes cost operations" if target.energy.event_driven else "every spike costs operations"
        )
        lines.append(f"energy: an estimate; {counting_text}")
    lines.append("")
    for key, value in target.figures.items():
        lines += [f"{key} ({FIGURES[key]}): {figure_text(value)}", f"    {target.sources.get(key, 'by default')}"]
    return lines


def _rule(rule: "RequiredBits") -> str:
    numbers = [f"{name.replace('_', ' ')} {value}" for name, value in rule if value is not None]
    return ", ".join(numbers)


def _layer_rule(rule: "LayerRule") -> str:
    values = {name: value for name, value in rule if name != "match" and value is not None}
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else figure_text(value.values)}"
        for name, value in values.items()
    )
