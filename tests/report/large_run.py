"""A run folder as large as the report has to take: many trials of a deep network, two seeds, three methods."""

import json
from pathlib import Path

import numpy as np

from bitsearch.cost import Budget, Target
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.run_settings import RunSettings
from bitsearch.score import Accuracy
from bitsearch.space import SearchSpace

BUDGET = Budget(metric="bit_budget", requested="4x", limit=16.0)


def make_large_run(path: Path, trials: int = 2000, layers: int = 100, seed: int = 0) -> RunFolder:
    """Plans whose accuracy follows their bits with noise; of every 20th, epochs, shares and firing rates are logged."""
    random = np.random.default_rng(seed)
    folder = RunFolder(path)
    folder.make()
    names = [f"stage{index // 25}.block{index % 25}.conv" for index in range(layers)]
    macs = random.integers(1, 40, layers) * 1e5
    depth = np.linspace(2.5, -1.5, layers)
    every = np.ones(layers)
    baseline = costs_of(macs, 8 * every, 4 * every, 2 * every)
    folder.write_settings(
        RunSettings(
            metric="bit_budget",
            budgets=(BUDGET,),
            seed=seed,
            device="cpu",
            threads=1,
            command=f"bitsearch run --budget {BUDGET.requested}",
            bitsearch="0.1.0",
            torch="2.11.0",
            full_precision=Accuracy(validation=0.76, test=0.755),
            baseline_costs=baseline,
            space=SearchSpace.load("digits"),
            target=Target.load("generic"),
        )
    )
    for trial in range(trials):
        method = ("adaptive", "uniform", "random")[trial % 3]
        richness = random.uniform(1.2, 7)
        spread = 0.0 if method == "uniform" else 1.5
        weights = np.clip(
            np.round(richness + depth * (method == "adaptive") + spread * random.normal(size=layers)), 1, 8
        )
        spikes = np.clip(np.round(richness + spread * random.normal(size=(layers, 4))), 1, 8)
        steps = np.clip(np.round(richness / 2 + 0.3 * spread * random.normal(size=layers)), 1, 4).astype(int)
        means = np.array([s[:t].mean() for s, t in zip(spikes, steps, strict=True)])
        costs = costs_of(macs, weights, means, steps)
        accuracy = 0.75 - 0.5 / (1 + richness) + 0.02 * (method == "adaptive") + 0.01 * random.normal()
        achieved = costs["bit_budget"]
        plan = {
            "schema_version": 1,
            "space": "digits",
            "network": "digits_cnn",
            "target": "generic",
            "budget": [
                {"metric": "bit_budget", "requested": "4x", "limit": 16.0}
                | {"achieved": achieved, "met": achieved <= 16.0}
            ],
            "baseline": {"weight_bits": 8, "spike_bits": 4, "time_steps": 2, "costs": baseline},
            "layers": {
                name: {"weight_bits": int(w), "spike_bits": [int(bits) for bits in s[:t]], "time_steps": int(t)}
                for name, w, s, t in zip(names, weights, spikes, steps, strict=True)
            },
            "costs": costs,
            "accuracy": {"validation": round(float(np.clip(accuracy, 0, 1)), 4)},
            "provenance": {
                "bitsearch": "0.1.0",
                "torch": "2.11.0",
                "seed": trial % 2,
                "command": f"bitsearch run --budget {BUDGET.requested}",
                "trial": trial,
                "method": method,
            },
        }
        # Not saved one by one: two thousand times waiting for the disk is not what is tested.
        folder.plan_file(trial).write_text(json.dumps(plan), encoding="utf-8")
        if trial % 20 == 0:
            rates = dict(zip(names, random.uniform(0.05, 0.6, layers).round(4).tolist(), strict=True))
            own = {"s_ace": dict(zip(names, (macs * weights * means * steps).tolist(), strict=True))}
            folder.append_log({"trial": trial, "phase": "measured", "firing_rates": rates, "layer_costs": own})
            bits = [[int(w), s[:t].astype(int).tolist()] for w, s, t in zip(weights, spikes, steps, strict=True)]
            for epoch in range(1, 11):
                measures = {"mean_weight_bits": float(weights.mean()) + 3 / epoch, "renewals": 4.0 * epoch}
                own_epoch = {"epoch": epoch, "loss": 2 / epoch, "validation_accuracy": accuracy - 0.1 / epoch}
                folder.append_log({"trial": trial, "phase": "search", **own_epoch, "measures": measures, "bits": bits})
    return folder


def costs_of(macs: np.ndarray, weights: np.ndarray, spikes: np.ndarray, steps: np.ndarray) -> dict[str, float]:
    """Of bits by layer, in the metrics that need no more than these."""
    operations = float((macs * weights * spikes * steps).sum())
    return {
        "bit_budget": float(weights.mean() * spikes.mean() * steps.mean()),
        "s_ace": operations,
        "ns_ace": 0.2 * operations,
        "weight_memory": float(1e4 * weights.sum() / 8),
        "energy": 0.01 * operations,
    }
