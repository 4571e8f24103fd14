"""Whole searches of spiking networks, by this code and by an older checkout, at equal budgets and settings.

    python -m benchmarks.evidence.neurons --old CHECKOUT --out reports/evidence/neurons

CHECKOUT is a folder with the code at 80de789, in which every neuron moved to the input of the layer that read it and
became a refined neuron of its own kind. Both get the same space, network, data, seeds and epochs, and the same Python.
The network is that of docs/your-own-network.md: on images it repeats them, on events it reads the frames. The plan that
a search chose on validation is listed with what it reaches there and on test. ``runs.csv`` in ``--out`` has every run;
started again, those that are in it are not run again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.evidence import figures
from benchmarks.evidence.runs import Ledger, Row
from benchmarks.provenance import machine, made_by

TASKS = {"digits": {"frames": 4, "options": "{ time_steps = 4 }"}, "digits_events": {"frames": 8, "options": "{}"}}
"""Data sets, their time steps, and the network's options."""


def space(data: str, epochs: int) -> str:
    """A search space as both versions read it; nothing follows from a version's own defaults of time steps."""
    frames, options = TASKS[data]["frames"], TASKS[data]["options"]
    return f"""schema_version = 1
name = "neurons"
network = "csnn:CSNN"
network_options = {options}
data = "{data}"
split_seed = 0
baseline = {{ weight_bits = 8, spike_bits = 4, time_steps = {frames} }}

[choices]
weight_bits = {{ low = 1, high = 8 }}
spike_bits = {{ low = 1, high = 8 }}
time_steps = {{ low = 1, high = {frames} }}

[first_layer]
weight_bits = 8
spike_bits = 8
time_steps = {frames if data == "digits_events" else 1}

[training]
batch_size = 64
full_precision_epochs = {2 * epochs}
epochs = {epochs}
learning_rate = 2e-3

[allocation]
start = {{ weight_bits = 4, spike_bits = 4, time_steps = {frames} }}

[search.parameters]
budget_share = {{ low = 0.5, high = 1.0 }}
"""


def search(code: str, data: str, budget: str, seed: int, arguments: argparse.Namespace) -> Row:
    """One run of a checkout's ``bitsearch run`` in a folder of its own; what its plan reaches."""
    checkout = (arguments.old if code == "old" else arguments.new).resolve()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(Path(__file__).with_name("csnn.py"), folder)
        (folder / "neurons.toml").write_text(space(data, arguments.epochs))
        trials = ["--trials", str(arguments.trials), "--set", f"search.uniform_trials={arguments.trials}"]
        # The older code searches at the budget alone.
        trials += ["--set", "search.front_share=0"] if code == "new" else []
        command = [sys.executable, str(checkout / "cli.py"), "run", "--space", "neurons.toml", "--budget", budget]
        done = subprocess.run(
            [*command, *trials, "--seed", str(seed), "--out", "run"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{folder}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{checkout}, {data}, {budget}, seed {seed}: {done.stderr[-2000:]}")
        plan = json.loads((folder / "run" / "plan.json").read_text())
    accuracy = plan["accuracy"]
    layers = " ".join(
        f"{layer['weight_bits']}/{sum(layer['spike_bits']) / len(layer['spike_bits']):.2g}/{layer['time_steps']}"
        for layer in plan["layers"].values()
    )
    row = {"validation": 100 * accuracy["validation"], "test": 100 * accuracy["test"], "plan": layers}
    full = accuracy.get("full_precision_validation", accuracy.get("full_precision"))
    return row | ({"full_precision": 100 * full} if isinstance(full, float) else {})


def page(table: pd.DataFrame) -> str:
    """The tables."""
    rows = []
    for (data, budget), group in table.groupby(["data", "budget"], sort=False):
        cells: list[object] = [data, budget, group["seed"].nunique()]
        for part in ("validation", "test"):
            means = group.groupby("code")[part].agg(["mean", "std"])
            cells += [f"{means['mean'][code]:.2f} ± {means['std'][code]:.2f}" for code in ("old", "new")]
        rows.append(cells)
    heads = ["data", "budget", "seeds", "validation %, old", "new", "test %, old", "new"]
    return f"""# Neurons as they are, against neurons of one kind

Whole searches of one spiking network (docs/your-own-network.md) by the code at 80de789, where every neuron became a
refined neuron at the input of the layer that read it, and by this code, where it keeps its place and its reset: the
same space, budgets, seeds, trials and epochs. Accuracy of the plan that a search chose on validation, mean ± standard
deviation over seeds. Machine: {machine()}.

{figures.table(heads, rows)}

Made by {made_by()}.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="checkout of the older code")
    parser.add_argument("--new", type=Path, default=Path(__file__).resolve().parents[2], help="this code's checkout")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budgets", default="4x,16x")
    parser.add_argument("--trials", type=int, default=2, help="adaptive ones, and as many uniform ones")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.out / "runs.csv", ("data", "budget", "seed", "code"))
    for seed in range(arguments.seeds):
        for data in TASKS:
            for budget in arguments.budgets.split(","):
                for code in ("old", "new"):
                    key: Row = {"data": data, "budget": budget, "seed": seed, "code": code}
                    if key in ledger:
                        continue
                    ledger.add(key, [search(code, data, budget, seed, arguments)])
                    print(ledger.rows[-1], flush=True)
    text = page(ledger.table)
    (arguments.out / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
