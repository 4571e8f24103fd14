"""What a packed file was made from: class names, how its inputs are scaled, and a checksum of its weights."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from bitsearch.validation import Frozen, Positive

Text = Annotated[str, Field(max_length=1000)]


class Source(Frozen):
    """Where inputs and labels of a packed network come from; all of it may be unknown."""

    weights: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """:func:`bitsearch.layers.weights.weights_checksum` of the network."""
    classes: tuple[Text, ...] | None = Field(default=None, max_length=1 << 20)
    """Names by label."""
    mean: tuple[float, ...] | None = Field(default=None, max_length=1 << 16)
    """By channel: an input is (x − mean) / deviation of what x the data hold, such as pixels from 0 to 255."""
    deviation: tuple[Positive, ...] | None = Field(default=None, max_length=1 << 16)

    @model_validator(mode="after")
    def _same_channels(self) -> Self:
        if len(self.mean or ()) != len(self.deviation or ()):
            raise ValueError("mean and deviation have one number a channel")
        return self
