"""A folder to hand a trained plan on: model card, plan, weights, search space, packed file and report.

Its ``README.md`` starts with the YAML block that model hubs read. Uploading is left to people, and so is the licence.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import nn

from bitsearch.cost import Target
from bitsearch.data.splits import Splits
from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.formats.new_folder import new_folder
from bitsearch.deploy.integer.packed_file import RunWidths, read
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.deploy.pack import pack
from bitsearch.errors import InputError, printable
from bitsearch.files import write_whole
from bitsearch.layers.weights import save_weights
from bitsearch.network_inputs import Inputs
from bitsearch.plan import BitPlan
from bitsearch.registry import is_import_path
from bitsearch.space import SearchSpace
from bitsearch.text import cost, score_text, title
from bitsearch.validation import to_toml

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


def export(request: ExportRequest) -> ExportResult:
    """Make the folder ``request.output``; InputError as :func:`export_hub_folder`."""
    unpacked = export_hub_folder(
        request.network,
        request.task.examples,
        request.output,
        request.plan,
        request.task.space,
        request.report,
        request.verdict,
        request.task.splits,
    )
    lines = (f"{request.output}: choose a licence in {CARD}, in place of {LICENCE}",)
    return ExportResult(lines if unpacked is None else (*lines, f"no packed file: {unpacked}"))


def export_hub_folder(
    network: nn.Module,
    example_input: Inputs,
    path: Path,
    plan: BitPlan,
    space: SearchSpace,
    report: Path | None = None,
    verdict: str | None = None,
    splits: Splits | None = None,
) -> str | None:
    """Make the folder ``path``, whole or not at all.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: as for :func:`bitsearch.pack`.
        path: a folder that is not there yet, or empty.
        plan: the network's.
        space: the plan's; a data folder and the path of a target file are left out of the copy.
        report: page of the run, to copy if there is one.
        verdict: what the run says of the plan beside uniform bits, for the card.
        splits: the data, as for :func:`bitsearch.pack`.

    Returns:
        Why there is no packed file; None if there is one.

    Raises:
        InputError: a folder with something in it, or one that cannot be written.
    """
    trained_layers(network)
    with new_folder(path) as draft:
        plan.save(draft / PLAN)
        save_weights(network, draft / WEIGHTS)
        write_whole(draft / SPACE, to_toml(portable(space)))
        unpacked, widths = None, None
        try:
            pack(network, example_input, draft / PACKED, plan, splits)
            widths = read(draft / PACKED).widths
        except InputError as error:
            unpacked = str(error)
        if report is not None:
            shutil.copyfile(report, draft / REPORT)
        write_whole(draft / CARD, card(plan, space, unpacked, widths, report=report is not None, verdict=verdict))
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
    verdict: str | None = None,
) -> str:
    """The model card, Markdown behind a block of YAML; every name in it is text, never markup.

    ``unpacked`` says why there is no packed file; ``widths`` are those of the packed file; ``verdict`` sets the plan
    beside uniform bits.
    """
    return (
        _environment()
        .get_template("model_card.md.jinja")
        .render(
            plan=plan,
            space=space,
            licence=LICENCE,
            budget=_budget(plan),
            widths=widths,
            unpacked=unpacked,
            report=report,
            verdict=verdict,
            files={"plan": PLAN, "weights": WEIGHTS, "space": SPACE, "packed": PACKED, "report": REPORT},
            factories=[name for name in (space.network, space.data, *(space.neurons or ())) if is_import_path(name)],
            needs_root="root" in space.data_options,
        )
    )


def _environment() -> Environment:
    """Where the template is read; what it shows is text, unless the template says that it is Markdown."""
    # Markdown's escapes are others than HTML's, which autoescape would write.
    environment = Environment(  # nosec B701
        loader=PackageLoader("bitsearch.deploy", "formats"),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"score_text": score_text, "cost": cost, "title": title}
    return environment


def escape(text: str) -> str:
    """``text`` as Markdown that shows it, whatever it holds, on one line."""
    return _PUNCTUATION.sub(r"\\\1", printable(text))


def _budget(plan: BitPlan) -> str:
    budgets = [f"{title(outcome.metric)} {outcome.requested}" for outcome in plan.budget]
    return ", ".join(budgets) or "no budget"
