"""Command lines for a plan, which its page shows."""

import shlex

from bitsearch.plan import BitPlan
from bitsearch.registry import OBJECT, is_import_path
from bitsearch.runs.folder import RunFolder


def commands(folder: RunFolder, plan: BitPlan) -> list[tuple[str, str]]:
    """(purpose, command line) to export, measure, train, deploy and verify a plan, and to run the search again.

    The commands write to the plan's run folder, where its search space and weights are. A plan without a trial, of a
    network that was an object, or without a weights file, has only the commands that work without them.
    """
    space, trial = folder.settings.space, plan.provenance.trial
    search_command = [("Run the whole search again", plan.provenance.command)]
    if trial is None or space.network.endswith(OBJECT):
        # What was an object of a program is made again by that program alone.
        return search_command
    file, weights, stem = folder.plan_file(trial), folder.weights_file(trial), f"trial-{trial:04d}"
    packed_file, trained_file = folder.path / f"{stem}.packed.safetensors", folder.path / f"{stem}.trained.json"
    # A factory of the user's own runs only with the user's consent.
    own = (
        space.network,
        space.data,
        *(space.neurons or ()),
        *(metric.function for metric in (space.metrics or {}).values()),
    )
    trust_option = ["--trust"] if any(map(is_import_path, own)) else []
    training_options = ["--epochs", space.training.epochs, "-o", trained_file, *trust_option]
    command_lines: list[tuple[str, list[object]]] = [
        ("Write its plan", ["export", folder.path, "--trial", trial, "-o", "plan.json"]),
    ]
    if weights.is_file():
        command_lines += [
            ("Measure it on the test split", ["evaluate", file, "--split", "test", *trust_option]),
            ("Train it on", ["train", file, "--from", weights, *training_options]),
            ("Deploy it as packed integers", ["deploy", file, "-o", packed_file, *trust_option]),
            ("Check the packed integers, spike by spike", ["verify", packed_file, *trust_option]),
        ]
    else:
        command_lines.append(("Train it", ["train", file, *training_options]))
    return [
        (purpose, shlex.join(["bitsearch", *map(str, arguments)])) for purpose, arguments in command_lines
    ] + search_command
