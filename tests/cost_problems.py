"""Networks, hardware targets and budgets for the tests of costs and of projection: made by hand, and drawn."""

from hypothesis import strategies as st

from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, LayerGeometry, SpikeStatistics, Target
from bitsearch.cost.budget import target_limits
from bitsearch.cost.figures import FIGURES
from bitsearch.plan import LayerPlan, UniformBits

NUMBERS = ("weight_bits", "spike_bits", "time_steps")
EVERY_WIDTH = tuple(range(1, 9))


def layer(name, macs, weights, inputs, outputs, *, first=False, fixed=None):
    return LayerGeometry(name, macs, weights, inputs, outputs, signed_input=first, first=first, fixed_reason=fixed)


def make_target(name="drawn", **fields):
    """A target of the given fields; its tables are dictionaries, and every figure's source is an assumption."""
    fields = {"weight_bits": EVERY_WIDTH, "spike_bits": EVERY_WIDTH, "max_time_steps": 8} | fields
    fields = {key: value for key, value in fields.items() if value is not None}
    sources = {}
    for key in FIGURES:
        table, _, entry = key.rpartition(".")
        if entry in (fields.get(table, {}) if table else fields):
            sources[key] = "assumption: a test"
    return Target.model_validate({"name": name, "sources": sources} | fields)


ENERGY = {"bit_operation": 0.5, "accumulate": 0.25, "weight_byte": 2.0, "state_byte": 3.0}
LATENCY = {"clock": 1000.0, "bit_operations_per_cycle": 64.0, "layer_overhead_cycles": 5}
HARDWARE = make_target("hand", membrane_bits=24, energy=ENERGY, latency=LATENCY, cores={"count": 9, "bytes_each": 100})
"""Has every table but ``memory``."""
EVENT_DRIVEN = make_target("events", membrane_bits=24, energy=ENERGY | {"event_driven": True})

LAYERS = (
    layer("conv1", 288, 18, 16, 2, first=True),
    layer("conv2", 288, 72, 32, 4),
    layer("fc", 48, 48, 16, 3),
    layer("attention", 10, 5, 6, 2, fixed="matrix products outside of layers"),
)
"""A 3×3 convolution 1→2 on 4×4, one 2→4 with stride 2, a linear layer 16→3, and something that keeps 32 bits."""
PLAN = {
    "conv1": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1),
    "conv2": LayerPlan(weight_bits=3, spike_bits=(3, 2), time_steps=2),
    "fc": LayerPlan(weight_bits=2, spike_bits=(4,), time_steps=1),
}
ACTIVITY = SpikeStatistics(
    firing_rate={"conv1": 1.0, "conv2": 0.25, "fc": 0.5}, synaptic_rate={"conv1": 0.75, "conv2": 0.125, "fc": 0.5}
)

COUNTS = st.integers(1, 3000) | st.sampled_from([8, 64])
"""Equal counts are as likely as different ones, so that layers tie."""
SHARES = st.sampled_from([0.0, 0.5, 1.0]) | st.integers(0, 10_000).map(lambda spikes: spikes / 10_000)
WIDTHS = st.sets(st.integers(1, 8), min_size=1).map(sorted) | st.just([1, 2, 4, 8])


@st.composite
def geometries(draw, most=4):
    """Layers of a network: one to ``most`` that can be given bits, and up to two that cannot."""
    size = draw(st.integers(1, most))
    has_first = draw(st.booleans())
    layers = [
        layer(f"layer{i}", draw(st.integers(1, 10**6)), *(draw(COUNTS) for _ in range(3)), first=has_first and i == 0)
        for i in range(size)
    ]
    for i in range(draw(st.integers(0, 2))):
        called = draw(st.booleans())
        fixed = layer(
            f"fixed{i}",
            called * draw(st.integers(1, 10**5)),
            draw(st.integers(0, 500)) if called else draw(st.integers(1, 500)),
            called * draw(st.integers(1, 500)),
            draw(st.integers(0, 50)),
            fixed="a test",
        )
        layers.insert(draw(st.integers(0, len(layers))), fixed)
    return layers


def layer_rules():
    """What a target may require of its first or last layer; None as often as not."""
    rule = st.fixed_dictionaries(
        {},
        optional={"weight_bits": st.integers(1, 8), "spike_bits": st.integers(1, 8), "time_steps": st.integers(1, 3)},
    )
    return st.none() | rule.filter(bool)


@st.composite
def target_fields(draw):
    """Fields for :func:`make_target`, without limits on memory; the number of cores is free."""
    positive = st.floats(1e-3, 10) | st.just(0.0)
    energy = st.fixed_dictionaries(
        {"bit_operation": positive, "accumulate": st.floats(1e-3, 10), "weight_byte": positive, "state_byte": positive},
        optional={"event_driven": st.booleans()},
    )
    speed = st.sampled_from(["bit_operations_per_cycle", "macs_per_cycle"])
    latency = st.builds(
        lambda key, rate, overhead: {"clock": 1e6, key: rate, "layer_overhead_cycles": overhead},
        speed,
        st.floats(1, 1e4),
        st.integers(0, 100),
    )
    sizes = st.integers(1, 5000)
    cores = st.fixed_dictionaries(
        {"count": st.just(10**6), "bytes_each": sizes},
        optional={"neurons_each": sizes, "synapses_each": sizes},
    )
    return {
        "weight_bits": draw(WIDTHS),
        "spike_bits": draw(WIDTHS),
        "max_time_steps": draw(st.integers(1, 5)),
        "membrane_bits": draw(st.integers(8, 32)),
        "first_layer": draw(layer_rules()),
        "last_layer": draw(layer_rules()),
        "energy": draw(st.none() | energy),
        "latency": draw(st.none() | latency),
        "cores": draw(st.none() | cores),
    }


@st.composite
def some_choices(draw, target):
    """Choices that have something in common with the target."""

    def span(allowed, most):
        shared = draw(st.sampled_from(list(allowed)))
        if draw(st.booleans()):
            others = draw(st.sets(st.integers(1, most)))
            return Span.model_validate(sorted({shared, *others}))
        return Span(low=draw(st.integers(1, shared)), high=draw(st.integers(shared, most)))

    return Choices(
        weight_bits=span(target.weight_bits, 8),
        spike_bits=span([bits for bits in target.spike_bits if bits < target.membrane_bits], 8),
        time_steps=span(range(1, target.max_time_steps + 1), 6),
    )


@st.composite
def plans(draw, names):
    """Any plan, whatever the rules."""
    plan = {}
    for name in names:
        spike_bits = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
        plan[name] = LayerPlan(
            weight_bits=draw(st.integers(1, 8)), spike_bits=tuple(spike_bits), time_steps=len(spike_bits)
        )
    return plan


@st.composite
def activities(draw, names):
    """Any shares of non-zero spikes."""
    return SpikeStatistics(*({name: draw(SHARES) for name in names} for _ in range(2)))


def largest(model, rules):
    """The dearest plan that the rules allow."""
    return {
        name: LayerPlan(
            weight_bits=choices.weight_bits.high,
            spike_bits=(choices.spike_bits.high,) * choices.time_steps.high,
            time_steps=choices.time_steps.high,
        )
        for name, choices in rules.choices.items()
    }


@st.composite
def projection_problems(draw, infeasible=False):
    """(model, rules, budgets, activity, start plan); with ``infeasible``, some budget may be too small."""
    layers, fields = draw(geometries()), draw(target_fields())
    learnable = [entry for entry in layers if entry.fixed_reason is None]
    counted = draw(st.booleans()) or learnable[0].first is False or len(learnable) == 1
    target = make_target(**fields)
    choices = draw(some_choices(target))
    own = FirstLayer(weight_bits=draw(st.integers(1, 8)), spike_bits=draw(st.integers(1, 8)), counted=counted)

    def of(target):
        model = CostModel(layers, first_layer_counted=counted, target=target)
        return model, AllowedBits.make(model, choices, own)

    model, rules = of(target)
    activity = draw(activities([entry.name for entry in learnable]))
    start = draw(plans([entry.name for entry in learnable]))

    def limit(metric):
        least, most = (model.cost(metric, plan, activity) for plan in (rules.smallest(model), largest(model, rules)))
        # Often exactly a plan's cost, so that limits are met without a rest.
        share = draw(SHARES)
        if infeasible and not model.needs_activity(metric) and draw(st.integers(0, 3)) == 0:
            return least * draw(st.floats(0.1, 0.999))
        return max(least + share * (most - least), least, 1e-9)

    if draw(st.booleans()):
        fields["memory"] = {f"{kind}_bytes": max(1, round(limit(f"{kind}_memory"))) for kind in ("weight", "working")}
        if not infeasible:
            least = {kind: model.cost(f"{kind}_memory", rules.smallest(model)) for kind in ("weight", "working")}
            fields["memory"] = {
                f"{kind}_bytes": max(fields["memory"][f"{kind}_bytes"], int(-(-value // 1)))
                for kind, value in least.items()
            }
    if fields["cores"] is not None:
        fields["cores"] = fields["cores"] | {"count": max(1, int(limit("cores")))}
    target = make_target(**fields)
    model, rules = of(target)
    names = sorted(model.metrics)
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    budgets = [Budget(metric, "drawn", limit(metric)) for metric in chosen] + target_limits(target)
    if not budgets:
        budgets = [Budget("s_ace", "drawn", limit("s_ace"))]
    return model, rules, budgets, activity, start


def uniform(weight_bits, spike_bits, time_steps):
    return UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
