"""A run on event data, through the real command."""

import json

import pytest
from c_compiler import C_COMPILER
from learning import guessed

from bitsearch.plan import BitPlan

pytestmark = pytest.mark.training

FRAMES = 8


@pytest.fixture(scope="module")
def run(call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    settings = {
        "training.full_precision_epochs": 8,
        "training.epochs": 6,
        "search.trials": 1,
        "search.uniform_trials": 1,
        "network_options.width": 8,
        # Time steps are all that is left to choose.
        "choices.weight_bits": "[4]",
        "choices.spike_bits": "[2]",
        "allocation.start.spike_bits": 2,
    }
    overrides = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    budgets = ["--budget", "8x", "--out", "run", "--json"]
    done = call("run", "--space", "digits_events", *budgets, *overrides, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_events_are_learned_within_the_budget(run):
    folder, found = run
    chosen = BitPlan.load(folder / "run" / "plan.json")
    assert chosen.met
    assert chosen.costs["bit_budget"] <= 8 * 4 * FRAMES / 8
    assert {layer.frames for layer in chosen.layers.values()} == {FRAMES}
    assert found["full_precision"]["accuracy"]["validation"] > guessed(360, 10)
    assert chosen.accuracy.validation > guessed(360, 10)


def test_a_learned_plan_of_an_event_network_gives_layers_time_steps_of_their_own(run):
    folder, _ = run
    plans = [BitPlan.load(file) for file in (folder / "run" / "plans").glob("*.json")]
    adaptive = next(plan for plan in plans if plan.provenance.method == "adaptive")
    assert all(1 <= layer.time_steps <= FRAMES for layer in adaptive.layers.values())
    assert adaptive.met
    # The first layer sees every frame as it came; the budget makes others bin them.
    assert adaptive.layers["conv1"].time_steps == FRAMES
    assert min(layer.time_steps for layer in adaptive.layers.values()) < FRAMES


def test_a_plan_with_time_steps_of_its_own_is_deployed_and_verified(run, call):
    folder, _ = run
    plans = {file: BitPlan.load(file) for file in (folder / "run" / "plans").glob("*.json")}
    file = next(file for file, plan in plans.items() if plan.provenance.method == "adaptive")
    deployed = call("deploy", file, "-o", "run/events.safetensors", cwd=folder)
    assert deployed.returncode == 0, deployed.stderr
    assert f" {plans[file].costs['weight_memory']:.0f} bytes" in deployed.stdout
    verified = call("verify", "run/events.safetensors", *(["--with", "c"] if C_COMPILER else []), cwd=folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "360 test samples; outputs equal" in " ".join(verified.stdout.split())
    assert not C_COMPILER or "360 of 360 samples have the outputs of the integer replay" in verified.stdout


def test_the_plan_rebuilds_its_network_from_events(run, call):
    folder, _ = run
    chosen = BitPlan.load(folder / "run" / "plan.json")
    measured = call("evaluate", "run/plan.json", cwd=folder)
    assert measured.returncode == 0, measured.stderr
    assert measured.stdout.splitlines()[0].split()[-1] == f"{chosen.accuracy.validation:.4f}"
