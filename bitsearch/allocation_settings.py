"""The settings of the inner loop: the method that allocates bits, its quantizers, and what each method takes alone."""

from typing import Any, Literal

from pydantic import Field

from bitsearch.plan import UniformBits
from bitsearch.validation import Count, Frozen, Positive

MethodName = Literal["adaptive", "local_binary", "sensitivity", "ramp", "refine", "uniform", "random"]


class AllocationPart(Frozen):
    """Settings that one part of the inner loop has to itself: a table in ``[allocation]``."""


class QuantizerSettings(AllocationPart):
    """The quantizers of weights and spikes."""

    form: Literal["uniform", "sigmoid"] = "uniform"
    """Once bits are frozen: straight-through rounding, or a sum of sigmoids that sharpen into steps."""
    granularity: Literal["layer", "channel"] = "layer"
    """One weight step size for the whole layer, or one per output channel."""
    spike_granularity: Literal["step", "layer"] | None = None
    """One spike step size for each time step, or one for all of a layer's: for narrow sums. None: the latter where the
    target's membranes or accumulators have a width, whose unit it is."""
    step_sizes: Literal["free", "power_of_two"] = "free"
    """Any step sizes, or powers of two, by which hardware shifts instead of multiplying and dividing."""
    temperature_rate: Positive = 10.0
    """``sigmoid``: by how much the temperature rises an epoch; 5 to 20 in the literature."""
    max_level: int | None = Field(default=None, ge=2)
    """``sigmoid``: no weight levels beyond ±this from three bits on, such as 2 or 4; the whole grid by default."""

    @property
    def of_layers(self) -> dict[str, str]:
        """What a layer's plan says of its step sizes, as :meth:`bitsearch.cost.AllowedBits.nearest` takes it.

        How many there are is the cost model's (:meth:`bitsearch.cost.CostModel.with_one_step`).
        """
        return {"granularity": self.granularity, "step_sizes": self.step_sizes}


class RenewalSettings(AllocationPart):
    """Renewing a quantizer's step size at the moment its bit width changes."""

    enabled: bool = True
    epochs: Count = 2
    """Least number of epochs before it may stop."""


class SensitivitySettings(AllocationPart):
    """The method ``sensitivity``."""

    metric: Literal["fisher", "hessian"] = "fisher"
    """What weights a quantization error: the true Fisher, or the trace of the Hessian."""


class RampSettings(AllocationPart):
    """The method ``ramp``."""

    steps: Count = 4
    """Plans that it leaves, at budgets in equal ratios from the start's cost to the limit."""


class RefineSettings(AllocationPart):
    """The method ``refine``."""

    tries: Count = 8
    """Exchanges of bits that are tried between the uniform plan's training and that of the end."""
    epochs: Count = 1
    """That each of them is trained, and what it is compared with."""


class Allocation(Frozen):
    """The settings of the inner loop. Each may be fixed here, or varied by the outer loop: ``[search.parameters]``."""

    method: MethodName = "adaptive"
    """How bits are found; see :data:`bitsearch.allocation.methods.METHODS`."""
    budget_share: float = Field(default=1.0, gt=0, le=1)
    """The inner loop aims at this share of the budget's limit."""
    weight_price: Positive = 1.0
    """Regularizer weight of the weight bits, relative to the other two."""
    spike_price: Positive = 1.0
    """Regularizer weight of the spike bits."""
    time_price: Positive = 1.0
    """Regularizer weight of the time steps."""
    depth_preference: float = Field(default=0.0, ge=-4, le=4)
    """Layers' sensitivities are multiplied by exp(this × depth), depth from −½ (first layer) to ½ (last)."""
    weight_tolerance: float = Field(default=0.25, ge=0, le=1)
    """Factor on the predicted loss of weight quantization; fine-tuning recovers the rest, for weights only."""
    time_tolerance: float = Field(default=0.02, ge=0, le=1)
    """Share of the loss measured for binning a recording's frames that counts: training wins the rest back."""
    regularizer: Literal["metric", "means"] = "metric"
    """``metric`` binds the budget's own metric, ``means`` is the published |mean − target| form."""
    estimator: Literal["curvature", "probed", "straight_through"] = "curvature"
    """The task's gradient with respect to the bits: Fisher-weighted quantization error, the same corrected by probes of
    single layers, or the published form."""
    start: UniformBits = UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    """Where the latents start."""
    headroom: float = Field(default=1.5, ge=1)
    """``adaptive``: where ``start`` costs more than this many times the budget, the best uniform plan that does not is
    started from."""
    bits_learning_rate: Positive = 0.1
    time_learning_rate: Positive = 0.05
    search_share: float = Field(default=0.25, gt=0, lt=1)
    """Share of a trial's epochs in which the bits move; the rest fine-tunes with bits frozen."""
    probe_every: Count = 8
    """Training steps between two curvature measurements."""
    decay: float | None = Field(default=None, ge=0, le=1)
    """Membrane decay; by default that of the network's own spiking neurons, or 1, which keeps the whole residual."""
    quantizer: QuantizerSettings = QuantizerSettings()
    renewal: RenewalSettings = RenewalSettings()
    sensitivity: SensitivitySettings = SensitivitySettings()
    ramp: RampSettings = RampSettings()
    refine: RefineSettings = RefineSettings()

    @property
    def prices(self) -> dict[str, float]:
        """Regularizer weights by the kind of number that they make dear."""
        return {"weight": self.weight_price, "spike": self.spike_price, "time": self.time_price}

    @classmethod
    def types(cls) -> dict[str, Any]:
        """The type of every setting by its name, that of a table's as ``ramp.steps``."""
        types: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            part = field.annotation
            if isinstance(part, type) and issubclass(part, AllocationPart):
                types |= {f"{name}.{key}": inner.annotation for key, inner in part.model_fields.items()}
            else:
                types[name] = part
        return types
