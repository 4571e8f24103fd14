"""What a user says of a spiking neuron of their own class, in a search space's ``[neurons]`` or in Python."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bitsearch.validation import Frozen, Name, Positive, Share

ClassPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""``package.module:Class``."""


class DeclaredNeuron(Frozen):
    """Where a neuron class has its numbers, and what its calls take and return.

    A number may be given, or the name of the attribute that has it; a tensor there has to be one number, but for the
    threshold, and a parameter is read again after training.

    >>> bitsearch.DeclaredNeuron(decay="beta", threshold="v_th", states={"v": 0.0}).reset
    'subtract'
    """

    decay: Share | Name = 1.0
    """Share of the membrane that is left after a step, λ."""
    tau: Positive | Name | None = None
    """Instead of the decay: λ = 1 − 1/τ."""
    input_decays: bool = False
    """True if the input is multiplied by 1 − λ, as what is left of the membrane is by λ."""
    threshold: Positive | Name = 1.0
    """Above a membrane at rest, which is zero."""
    reset: Literal["subtract", "zero", "delayed"] = "subtract"
    """What a spike takes from the membrane: the threshold, before that decays; everything; or the threshold a step
    later, when it has decayed."""
    strict: bool = False
    """True if it fires above its threshold only, and not at it."""
    sequences: bool = False
    """True if a call takes the whole sequence, ``[T, N, ...]``, and not a step of it."""
    states: dict[Name, float | Literal["None"]] = {}
    """Attributes that it keeps between its calls, its membrane for one, and what each of them starts as."""
    returns: Literal["spikes", "spikes, membrane"] = "spikes"
    """A tensor, or a pair of tensors; the membrane is then an argument of the next call."""

    @model_validator(mode="after")
    def _one_decay(self) -> "DeclaredNeuron":
        if self.tau is not None and self.decay != 1:
            raise ValueError("decay and tau were both given; give one of them")
        return self
