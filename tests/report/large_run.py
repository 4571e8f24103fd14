"""A run folder as large as the report has to take: many trials of a deep network, two seeds, three methods."""

import json
from pathlib import Path

import numpy as np

from bitsearch.search.run_folder import RunFolder


def make_large_run(path: Path, like: RunFolder, trials: int = 2000, layers: int = 100) -> RunFolder:
    """Plans whose accuracy follows their bits with noise; ``like`` gives the settings and the first plan's form."""
    random = np.random.default_rng(0)
    folder = RunFolder(path)
    folder.make()
    folder.write_settings(like.settings)
    plan = json.loads(like.plans()[0].to_json())
    names = [f"stage{index // 25}.block{index % 25}.conv" for index in range(layers)]
    macs = random.integers(1, 40, layers) * 1e5
    depth = np.linspace(2.5, -1.5, layers)
    for trial in range(trials):
        method = ("adaptive", "uniform", "random")[trial % 3]
        richness = random.uniform(1.2, 7)
        spread = 0.0 if method == "uniform" else 1.5
        weights = np.clip(
            np.round(richness + depth * (method == "adaptive") + spread * random.normal(size=layers)), 1, 8
        )
        spikes = np.clip(np.round(richness + spread * random.normal(size=(layers, 4))), 1, 8)
        steps = np.clip(np.round(richness / 2 + 0.3 * spread * random.normal(size=layers)), 1, 4).astype(int)
        plan["layers"] = {
            name: {"weight_bits": int(w), "spike_bits": [int(bits) for bits in s[:t]], "time_steps": int(t)}
            for name, w, s, t in zip(names, weights, spikes, steps, strict=True)
        }
        means = np.array([s[:t].mean() for s, t in zip(spikes, steps, strict=True)])
        operations = macs * weights * means * steps
        budget = float(weights.mean() * means.mean() * steps.mean())
        accuracy = 0.75 - 0.5 / (1 + richness) + 0.02 * (method == "adaptive") + 0.01 * random.normal()
        plan["costs"] = {
            "bit_budget": budget,
            "s_ace": float(operations.sum()),
            "ns_ace": float(0.2 * operations.sum()),
            "weight_memory": float(1e4 * weights.sum() / 8),
            "energy": float(operations.sum() * 0.01),
        }
        plan["budget"][0] |= {"achieved": budget, "met": bool(budget <= plan["budget"][0]["limit"])}
        plan["accuracy"] = {"validation": round(float(np.clip(accuracy, 0, 1)), 4)}
        plan["provenance"] |= {"trial": trial, "method": method, "seed": trial % 2}
        # Not saved one by one: two thousand times waiting for the disk is not what is tested.
        folder.plan_file(trial).write_text(json.dumps(plan), encoding="utf-8")
        if trial % 20 == 0:
            rates = dict(zip(names, random.uniform(0.05, 0.6, layers).round(4).tolist(), strict=True))
            costs = {"s_ace": dict(zip(names, operations.tolist(), strict=True))}
            folder.append_log({"trial": trial, "phase": "measured", "firing_rates": rates, "layer_costs": costs})
    return folder
