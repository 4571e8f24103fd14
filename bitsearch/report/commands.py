"""What to type to take a plan on from its page."""

import shlex

from bitsearch.plan import BitPlan
from bitsearch.registry import is_import_path
from bitsearch.runs.folder import RunFolder


def commands(folder: RunFolder, plan: BitPlan) -> list[tuple[str, str]]:
    """(what for, command line) to export, measure, train on, deploy and verify a plan, and to run the search again.

    They write beside the plan's run, where its search space and weights are found. A plan without a trial, or whose
    weights are gone, only has those that can work.
    """
    space, trial = folder.settings.space, plan.provenance.trial
    again = [("Run the whole search again", plan.provenance.command)]
    if trial is None:
        return again
    file, weights, stem = folder.plan_file(trial), folder.weights_file(trial), f"trial-{trial:04d}"
    packed, trained = folder.path / f"{stem}.packed.safetensors", folder.path / f"{stem}.trained.json"
    # What the plan's network or data are made by is no part of bitsearch; it runs only if the user says so.
    trust = ["--trust"] if is_import_path(space.network) or is_import_path(space.data) else []
    epochs = ["--epochs", space.training.epochs, "-o", trained, *trust]
    found: list[tuple[str, list[object]]] = [
        ("Write its plan", ["export", folder.path, "--trial", trial, "-o", "plan.json"]),
    ]
    if weights.is_file():
        found += [
            ("Measure it on the test split", ["evaluate", file, "--split", "test", *trust]),
            ("Train it on", ["train", file, "--from", weights, *epochs]),
            ("Deploy it as packed integers", ["deploy", file, "-o", packed, *trust]),
            ("Check the packed integers, spike by spike", ["verify", packed, *trust]),
        ]
    else:
        found.append(("Train it", ["train", file, *epochs]))
    return [(title, shlex.join(["bitsearch", *map(str, words)])) for title, words in found] + again
