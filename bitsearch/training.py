"""How networks are trained: a search space's ``[training]``."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bitsearch.errors import suggestion
from bitsearch.validation import Count, Frozen, Name, Positive

Precision = Literal["float32", "bfloat16", "float16"]
Schedule = Literal["cosine", "one_cycle", "multi_step", "constant"]

OPTIMIZERS = ("adam", "adamw", "sgd")
"""By name; any other is a factory of the user's."""
_OLD_PRECISIONS: dict[object, Precision] = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""As they were called before; run folders keep the names that they were written with."""
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_Part = Annotated[float, Field(gt=0, lt=1)]


class Distillation(Frozen):
    """Fine-tuning learns from the full-precision network as well as from labels (Hinton et al. 2015)."""

    weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that follows the full-precision network; 0 turns it off."""
    temperature: Positive = 4.0
    """What both networks' logits are divided by: the higher, the more the small ones count."""
    features: tuple[Name, ...] = ()
    """Paths of modules whose outputs are to come near to the full-precision network's, too (Romero et al. 2015)."""


class Training(Frozen):
    """How networks are trained."""

    batch_size: Count = 64
    """Samples a step, those of all processes together."""
    micro_batch: Count | None = None
    """A process passes at most this many samples through the network at once: less memory, the same gradient."""
    full_precision_epochs: int = Field(default=30, ge=0)
    """Of the network that every trial starts from; 0 takes given weights as they are."""
    early_stopping: Count | None = None
    """Full precision ends once validation has not improved for so many epochs, with the weights of the best one."""
    epochs: Count = 20
    """Epochs of every quantized trial, search phase included; uniform baselines get the same number."""
    optimizer: Name = "adam"
    """``adam``, ``adamw``, ``sgd``, or a ``package.module:factory`` of a torch optimizer."""
    optimizer_options: dict[str, Any] = {}
    """Further keywords of the optimizer, such as ``betas``."""
    learning_rate: Positive = 2e-3
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """``sgd``: 0.9 by default."""
    nesterov: bool = False
    """``sgd``: Nesterov's momentum."""
    schedule: Schedule = "cosine"
    """Of the learning rate, over every training but the search phase, in which it stays as it is."""
    warm_up: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Epochs in which the rate rises to its full height first, at most half of a training."""
    milestones: tuple[_Part, ...] = ()
    """``multi_step``: after which shares of a training the rate falls; 0.5 and 0.75 by default."""
    gamma: _Part | None = None
    """``multi_step``: what the rate is multiplied by there; 0.1 by default."""
    gradient_clipping: Positive | None = None
    """Largest norm of all gradients together, those of the bits' latents left out."""
    mixup: Positive | None = None
    """Train on mixtures of two samples (Zhang et al. 2018), whose shares have the distribution Beta(this, this)."""
    ema: _Part | None = None
    """Decay of an exponential moving average of the weights, which is measured and kept in place of the last ones."""
    distillation: Distillation | None = None
    """Of the full-precision network's outputs, in the fine-tuning of every method and in baselines."""
    precision: Precision = "float32"
    """Of the products in training steps; what is learned, quantizers, neurons, losses and all measures are float32."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Train with compiled quantizers; ``auto`` where the run is long enough to win the compilation back."""
    membrane_gradient: Literal["cut", "through_time"] = "cut"
    """Whether gradients go back through what a time step leaves on the membrane, or stop there, as published."""
    recompute: bool = False
    """Compute spikes and quantized weights again in backward: a third less memory, a few percent more time."""

    @property
    def at_once(self) -> int:
        """Samples that a measurement passes through the network at once."""
        return min(self.batch_size, self.micro_batch or self.batch_size)

    @field_validator("precision", mode="before")
    @classmethod
    def _by_name_of_today(cls, name: object) -> object:
        return _OLD_PRECISIONS.get(name, name) if isinstance(name, str) else name

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        if name not in OPTIMIZERS and not _FACTORY.fullmatch(name):
            raise ValueError(
                f"no such optimizer; known: {', '.join(OPTIMIZERS)}; or give your own as package.module:factory"
                f"{suggestion(name, OPTIMIZERS)}"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.optimizer != "sgd" and (self.momentum is not None or self.nesterov):
            raise ValueError(
                f"momentum and nesterov are for optimizer sgd, not {self.optimizer}; leave them out, or set optimizer "
                '= "sgd"'
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        if self.schedule != "multi_step" and (self.milestones or self.gamma is not None):
            raise ValueError(
                f"milestones and gamma are for schedule multi_step, not {self.schedule}; leave them out, or set "
                'schedule = "multi_step"'
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones are {list(self.milestones)}; give shares of a training in rising order")
        if self.schedule == "one_cycle" and self.warm_up:
            raise ValueError("schedule one_cycle warms up by itself; leave out warm_up")
        return self
