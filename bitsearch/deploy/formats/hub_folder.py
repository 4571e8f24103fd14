"""A folder to hand a trained plan on: model card, plan, weights, search space, packed file and report.

Its ``README.md`` starts with the YAML block that model hubs read. Uploading is left to people, and so is the licence.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tomli_w
from torch import Tensor, nn

from bitsearch.cost import Target
from bitsearch.deploy.integer.packed_file import RunWidths, read
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.deploy.pack import pack
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.layers.weights import save_weights
from bitsearch.plan import BitPlan
from bitsearch.registry import is_import_path
from bitsearch.space import SearchSpace
from bitsearch.text import accuracy, cost, spike_widths, title

LICENCE = "CHOOSE-A-LICENCE"
"""What stands in the card until its owner has chosen."""
CARD, PLAN, WEIGHTS, SPACE, PACKED, REPORT = (
    "README.md",
    "plan.json",
    "weights.safetensors",
    "space.toml",
    "packed.safetensors",
    "report.html",
)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def export_hub_folder(
    network: nn.Module, example_input: Tensor, path: Path, plan: BitPlan, space: SearchSpace, report: Path | None = None
) -> str | None:
    """Make the folder ``path``, whole or not at all.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: as for :func:`bitsearch.deploy.pack`.
        path: a folder that is not there yet, or empty.
        plan: the network's.
        space: the plan's; a data folder and the path of a target file are left out of the copy.
        report: page of the run, to copy if there is one.

    Returns:
        Why there is no packed file; None if there is one.

    Raises:
        InputError: a folder with something in it, or one that cannot be written.
    """
    trained_layers(network)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already, and is never overwritten; give a new folder with --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        # A temporary folder is its owner's alone.
        draft.chmod(0o777 & ~_umask())
        plan.save(draft / PLAN)
        save_weights(network, draft / WEIGHTS)
        write_whole(draft / SPACE, tomli_w.dumps(portable(space).model_dump(mode="json", exclude_none=True)))
        unpacked, widths = None, None
        try:
            pack(network, example_input, draft / PACKED, plan)
            widths = read(draft / PACKED).widths
        except InputError as error:
            unpacked = str(error)
        if report is not None:
            shutil.copyfile(report, draft / REPORT)
        write_whole(draft / CARD, card(plan, space, unpacked, widths, report=report is not None))
        # Fails where another has put something there meanwhile.
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return unpacked


def portable(space: SearchSpace) -> SearchSpace:
    """``space`` without what holds on this machine only: the data's folder, and the path of a target file."""
    options = {key: value for key, value in space.data_options.items() if key != "root"}
    target = space.target if space.target in Target.names() else "generic"
    return space.model_copy(update={"data_options": options, "target": target})


def card(
    plan: BitPlan,
    space: SearchSpace,
    unpacked: str | None = None,
    widths: Mapping[str, RunWidths] | None = None,
    *,
    report: bool = False,
) -> str:
    """The model card, Markdown behind a block of YAML; every name in it is text, never markup.

    ``unpacked`` says why there is no packed file; ``widths`` are those of the packed file.
    """
    files = {
        PLAN: "bits of every layer, costs, accuracies, provenance",
        WEIGHTS: "trained weights and step sizes, float32",
        SPACE: "network, data and training that the plan belongs to",
        PACKED: None if unpacked is not None else "the network as integers at exactly their bit widths",
        REPORT: "the whole search: front, trials, the plan layer by layer" if report else None,
    }
    own = [name for name in (space.network, space.data) if is_import_path(name)]
    options = " --trust" if own else ""
    if "root" in space.data_options:
        options += " --set data_options.root=DIR"
    files_options = f"--weights {WEIGHTS} --space {SPACE}{options}"
    lines = [
        "---",
        f"license: {LICENCE}",
        "library_name: bitsearch",
        f"tags: {json.dumps(['spiking-neural-network', 'quantization', 'mixed-precision', 'bitsearch'])}",
        "---",
        "",
        f"# {escape(plan.network)} on {escape(space.data)}, {escape(_budget(plan))}",
        "",
        f"A spiking neural network whose layers have bit widths and time steps of their own, found by bitsearch "
        f"{escape(plan.provenance.bitsearch)} in the search space {escape(plan.space)}.",
        "",
        f"**Licence: none chosen yet.** Put yours in place of `{LICENCE}` above, and in place of this line.",
        "",
        "## Accuracy",
        "",
        *_table(
            ("split", "correctly classified"),
            [("validation", accuracy(plan.accuracy.validation)), ("test", accuracy(plan.accuracy.test))],
        ),
        "",
        f"Data: {escape(space.data)}, split seed {plan.provenance.split_seed}. The plan was chosen on validation.",
        "",
        "## Costs",
        "",
        f"For one input, on the hardware target {escape(plan.target)}; the baseline has "
        f"{plan.baseline.weight_bits} weight bits, {plan.baseline.spike_bits} spike bits and "
        f"{plan.baseline.time_steps} time steps everywhere.",
        "",
        *_table(
            ("metric", "this plan", "baseline"),
            [
                (escape(title(key)), cost(key, value), cost(key, plan.baseline.costs.get(key)))
                for key, value in plan.costs.items()
            ],
        ),
        "",
        "## Layers",
        "",
        *_table(
            ("layer", "weight bits", "spike bits", "time steps"),
            [
                (escape(name), str(layer.weight_bits), spike_widths(layer), str(layer.time_steps))
                for name, layer in plan.layers.items()
            ],
        ),
        "",
        *_integers(widths),
        "## Files",
        "",
        *_table(("file", "what it is"), [(f"`{name}`", what) for name, what in files.items() if what is not None]),
        "",
        *([f"There is no packed file: {escape(unpacked)}.", ""] if unpacked is not None else []),
        "## Use",
        "",
        "```sh",
        "pip install bitsearch",
        f"bitsearch evaluate {PLAN} {files_options} --split test",
        *([f"bitsearch verify {PACKED} {files_options} --split test"] if unpacked is None else []),
        "```",
        "",
        *([f"It runs code that is not bitsearch's, {escape(', '.join(own))}; read that before.", ""] if own else []),
        "In Python:",
        "",
        "```python",
        "from pathlib import Path",
        "",
        "import bitsearch",
        "",
        f'network, task = bitsearch.rebuild(Path("{PLAN}"), weights=Path("{WEIGHTS}"), space="{SPACE}"'
        f"{', trust=True' if own else ''})",
        "```",
        "",
        "## Provenance",
        "",
        f"Seed {plan.provenance.seed}, torch {escape(plan.provenance.torch)}, method {escape(plan.provenance.method)}, "
        f"command: {escape(plan.provenance.command)}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """``text`` as Markdown that shows it, whatever it holds, on one line."""
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return _PUNCTUATION.sub(r"\\\1", shown)


def _integers(widths: Mapping[str, RunWidths] | None) -> list[str]:
    if widths is None:
        return []
    rows: list[tuple[str, ...]] = [
        (
            escape(name),
            "—" if found.accumulator is None else f"{found.observed_accumulator} of {found.accumulator}",
            f"{found.observed_membrane} of {found.membrane}",
            str(found.output),
        )
        for name, found in widths.items()
    ]
    return [
        "## Integers",
        "",
        "Bits of signed integers in the packed file's replay: seen on a batch, of those that always suffice.",
        "",
        *_table(("layer", "accumulator", "membrane", "output"), rows),
        "",
    ]


def _budget(plan: BitPlan) -> str:
    budgets = [f"{title(outcome.metric)} {outcome.requested}" for outcome in plan.budget]
    return ", ".join(budgets) or "no budget"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found
