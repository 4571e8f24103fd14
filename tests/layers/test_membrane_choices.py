"""`[choices] membrane_bits`: every layer's membranes get one of several widths, together with its bits."""

import math

import pytest
import torch
from cost_problems import layer, make_target
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount, predicted_loss
from bitsearch.allocation.sensitivity.measure import finest_bits, measure_sensitivities
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.allocation.solvers.projection import project
from bitsearch.allocation.solvers.uniform_grid import uniform_front, uniform_plans
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.quant.membrane_width import membrane_width
from bitsearch.quant.recurrence import mean_spikes
from bitsearch.train.tasks import CLASSIFICATION

WIDTHS = Span.model_validate([8, 12, 16])
CHOICES = Choices(membrane_bits=WIDTHS)
START = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def inputs(seed=0):
    return torch.rand(32, 12, generator=torch.Generator().manual_seed(seed))


def quantized(**options):
    torch.manual_seed(0)
    return bitsearch.quantize(Network(), inputs(), **({"start": START, "choices": CHOICES} | options))


def memory(count, spike_bits, time_steps, membrane):
    """Working memory of a layer, counted by hand."""
    return count * membrane / 8 * (2 if time_steps > 1 else 1) + math.ceil(count * time_steps * spike_bits / 8)


def large_and_small(**fields):
    """(costs, rules) of a layer of 300 neurons and one of 30, which may differ in their membranes alone."""
    choices = Choices.model_validate(
        {"weight_bits": [4], "spike_bits": [3], "time_steps": [2], "membrane_bits": [8, 12, 16]} | fields
    )
    model = CostModel([layer("large", 100, 10, 300, 1), layer("small", 100, 10, 30, 1)])
    rules = AllowedBits.make(model, choices, FirstLayer())
    return rules.stepped(model, "step"), rules


def widths(plan):
    return {name: layer.membrane_bits for name, layer in plan.items()}


@pytest.mark.parametrize("solver", ["integer program", "projection", "level counts"])
def test_a_budget_on_working_memory_narrows_the_membranes_that_exceed_it_alone(solver):
    model, rules = large_and_small()
    budget = Budget("working_memory", "drawn", memory(300, 3, 2, 8) + 1)
    start = rules.nearest(model, START, granularity="layer")
    assert widths(start) == {"large": 16, "small": 16}
    assert model.layer_costs("working_memory", start) == {"large": memory(300, 3, 2, 16), "small": memory(30, 3, 2, 16)}
    loss = LevelCount()
    if solver == "integer program":
        plan = solve(start, model, [budget], rules, loss).plan
    else:
        plan = project(start, model, budget, rules, loss=loss if solver == "projection" else None)
    assert widths(plan) == {"large": 8, "small": 16}
    assert model.layer_costs("working_memory", plan) == {"large": memory(300, 3, 2, 8), "small": memory(30, 3, 2, 16)}
    (uniform,) = uniform_plans(model, rules, [budget], 10, weight_tolerance=1.0)
    assert str(uniform) == "w4 s3 T2 m8"
    assert UniformBits.parse(str(uniform)) == uniform
    of_one_width = rules.nearest(model, uniform, granularity="layer")
    assert widths(of_one_width) == {"large": 8, "small": 8}
    assert predicted_loss(loss, plan, rules, EVEN_PRICES) < predicted_loss(loss, of_one_width, rules, EVEN_PRICES)


def test_energy_pays_for_wide_membranes_and_other_budgets_do_not():
    table = {"bit_operation": 0.0, "accumulate": 0.0, "weight_byte": 0.0, "state_byte": 1.0}
    model, rules = large_and_small()
    model = CostModel(model.layers, target=make_target(energy=table))
    model = rules.stepped(model, "step")
    start = rules.nearest(model, START, granularity="layer")
    # Two bytes a state and step, written and read: 2·2·(N·m + N·s)/8.
    least = 4 * 330 * (8 + 3) / 8
    saved = solve(start, model, [Budget("energy", "drawn", least + 4 * 30 * 8 / 8)], rules, LevelCount()).plan
    assert model.cost("energy", saved) == pytest.approx(least + 4 * 30 * 8 / 8)
    assert widths(saved) == {"large": 8, "small": 16}
    free = solve(start, model, [Budget("s_ace", "drawn", 1e9)], rules, LevelCount()).plan
    assert widths(free) == {"large": 16, "small": 16}


def test_a_single_time_step_has_the_narrowest_membranes():
    model, rules = large_and_small(time_steps=[1, 2])
    start = rules.nearest(model, START, granularity="layer")
    budget = Budget("working_memory", "drawn", memory(300, 3, 1, 8))
    for plan in (solve(start, model, [budget], rules, LevelCount()).plan, project(start, model, budget, rules)):
        assert (plan["large"].time_steps, plan["large"].membrane_bits) == (1, 8)
        assert plan["small"].membrane_bits == 16
    front = [str(bits) for bits, _ in uniform_front(model, rules, [], "working_memory", weight_tolerance=1.0)]
    assert front == ["w4 s3 T1", "w4 s3 T2 m8", "w4 s3 T2 m12", "w4 s3 T2 m16"]
    # One that has one step for ever has no choice.
    assert not large_and_small(time_steps=[1])[1].searched


def test_choices_are_cut_by_the_target_and_by_the_layers_spikes_and_rules_come_first():
    rules = quantized(
        target=make_target("narrow", membrane_bits=12), layers=["last:membrane_bits=9", "second:membrane_bits=[10, 11]"]
    ).rules
    # The first layer's unsigned spikes have eight bits, and one time step.
    assert {name: choices.membrane_bits.values for name, choices in rules.choices.items()} == {
        "first": (12,),
        "second": (10, 11),
        "last": (9,),
    }
    assert quantized().rules.choices["second"].spike_bits.high == 7
    assert quantized().rules.origins["second"]["membrane_bits"] == "choices"


def test_a_space_starts_at_the_widest_membranes_or_as_it_says(recwarn):
    space = bitsearch.SearchSpace.load("digits")
    table = space.model_dump(mode="json", exclude_none=True)
    table["choices"]["membrane_bits"] = [8, 12]
    assert bitsearch.SearchSpace.model_validate(table).allocation.start.membrane_bits is None
    table["allocation"]["start"]["membrane_bits"] = 12
    assert str(bitsearch.SearchSpace.model_validate(table).allocation.start) == "w4 s4 T2 m12"
    assert not recwarn
    # What an earlier version wrote has none.
    assert space.choices.membrane_bits is None
    assert "membrane_bits" not in str(space.model_dump(exclude_none=True))


@pytest.mark.parametrize(
    ("choices", "options", "message"),
    [
        ([16, 20], {"target": make_target("narrow", membrane_bits=12)}, "'narrow' has membranes of 12"),
        ([8], {}, "they hold its spikes of 8 bits from 9 on"),
        ([9], {"layers": ["last:spike_granularity='step'"]}, "leave one of them out"),
    ],
)
def test_what_cannot_be_is_one_line(choices, options, message):
    with pytest.raises(InputError, match=message) as caught:
        quantized(choices=Choices(membrane_bits=choices), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("widths", [[7, 9], [12, 32], []])
def test_widths_that_no_membrane_has_are_refused(widths):
    with pytest.raises(ValueError, match=r"from 8 to 31|list whole numbers"):
        Choices(membrane_bits=widths)


def test_chosen_widths_reach_plan_training_packed_file_and_replay(tmp_path):
    network = quantized()
    assert widths(network.layer_plans) == {"first": 12, "second": 16, "last": 16}
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    nn.functional.cross_entropy(network(inputs()), torch.arange(32) % 4).backward()
    optimizer.step()
    limit = memory(24, 3, 3, 8) + 1
    project_to = f"working_memory={limit:.0f}B"
    chosen = network.project(project_to)
    assert {layer.membrane_bits for layer in chosen.values()} <= {8, 12, 16}
    assert chosen["last"].time_steps == 1 or chosen["last"].membrane_bits == 8
    counts = {"first": 12, "second": 16, "last": 24}
    for name, layer_plan in chosen.items():
        spikes = sum(layer_plan.spike_bits)
        size = memory(counts[name], spikes / layer_plan.time_steps, layer_plan.time_steps, layer_plan.membrane_bits)
        assert size <= limit
    network.eval()(inputs())
    plan = network.plan(project_to)
    plan.save(tmp_path / "plan.json")
    assert widths(bitsearch.BitPlan.load(tmp_path / "plan.json").layers) == widths(chosen)
    bitsearch.pack(network.network, inputs(), tmp_path / "packed")
    packed = bitsearch.read(tmp_path / "packed")
    several = {name for name, layer in chosen.items() if layer.time_steps > 1}
    assert several
    assert {name: packed.widths[name].membrane for name in several} == {name: widths(chosen)[name] for name in several}
    samples = torch.utils.data.TensorDataset(inputs(9), torch.arange(32) % 4)
    assert bitsearch.verify(packed, network.network, inputs(), samples).equal


def test_while_bits_move_a_width_follows_the_time_steps_and_costs_what_it_is():
    network = quantized(start=UniformBits(weight_bits=4, spike_bits=3, time_steps=3, membrane_bits=8))
    network.train()
    assert widths(network.layer_plans)["last"] == 8
    plan = network.layer_plans
    assert float(network.model.cost_tensor("working_memory", *network.allocation).detach()) == pytest.approx(
        network.model.cost("working_memory", plan)
    )
    other = quantized()
    other.train()
    with torch.no_grad():
        other.layers["last"].time_latent.fill_(1.0)
    other.round_latents()
    assert other.layer_plans["last"].membrane_bits == 8
    with torch.no_grad():
        other.layers["last"].time_latent.fill_(3.0)
    other.round_latents()
    assert other.layer_plans["last"].membrane_bits == 16


@pytest.mark.parametrize("width", [8, 12])
def test_the_predicted_loss_is_that_of_a_neuron_with_such_a_membrane(width):
    network = quantized()
    network.train()
    curvature = FisherLossModel(network, 0)
    curvature.probe(inputs(), targets=[torch.arange(32) % 4])
    state, layer = curvature.states["last"], network.layers["last"]
    for spike_bits in ((3,), (3, 3), (2, 3, 1)):
        measured = curvature.neuron_loss("last", spike_bits, width)
        step = state.spike_steps[0, spike_bits[:1], None]
        steps = step.expand(len(spike_bits))
        bits = torch.tensor(spike_bits, dtype=torch.float32)
        sent = mean_spikes(
            state.inputs[0],
            steps,
            bits,
            time_steps=len(spike_bits),
            decay=layer.decay,
            signed=layer.signed_input,
            neuron=layer.neuron,
            width=membrane_width(width, spike_bits, signed=layer.signed_input),
        )
        expected = 0.5 * (((sent - state.inputs[0]) ** 2) @ state.feature_fisher[0, 0]).sum() / len(sent)
        assert measured == pytest.approx(float(expected), rel=1e-4)
    # Narrow membranes keep less of what spikes leave.
    losses = [curvature.neuron_loss("last", (5, 5, 5), each) for each in (8, 16)]
    assert losses[0] > losses[1]


def test_sensitivities_measure_every_narrower_membrane():
    network = quantized(start=finest_bits(quantized().rules))
    samples = torch.utils.data.TensorDataset(inputs(3), torch.arange(32) % 4)
    measured = measure_sensitivities(network, samples, CLASSIFICATION, count=32, batch_size=32)
    rows = {(row.layer, row.value): row for row in measured.widths if row.number == "membrane_bits"}
    assert set(rows) == {(name, value) for name in ("second", "last") for value in (8, 12)}
    assert {layer.membrane_bits for name, layer in network.layers.items() if name != "first"} == {16}
    network.eval()
    targets = samples.tensors[1]
    for (name, value), row in rows.items():
        with torch.no_grad():
            before = nn.functional.cross_entropy(network(samples.tensors[0]), targets)
            network.layers[name].membrane_bits = value
            after = nn.functional.cross_entropy(network(samples.tensors[0]), targets)
            network.layers[name].membrane_bits = 16
        assert row.increase == pytest.approx(float(after - before), abs=1e-6)
        assert row.predicted is not None
    assert any(abs(row.increase) > 100 * FLOAT64 for row in rows.values())
