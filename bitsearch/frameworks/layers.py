"""The layers that can be given bits, in torch and in the libraries that people write spiking networks with."""

from torch import nn

from bitsearch.frameworks import spikingjelly

QUANTIZABLE: dict[type[nn.Module], type[nn.Module]] = {
    **{kind: kind for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)},
    **{kind: kind for kind in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)},
    **spikingjelly.LAYERS,
}
"""What each of them is in torch. Other subclasses compute something else, so they are left as they are."""

DROPOUTS: tuple[type[nn.Module], ...] = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    *spikingjelly.DROPOUTS,
)
"""Modules that change what they get in training alone, with probability ``p``."""

PASSED_ON: tuple[type[nn.Module], ...] = (nn.Identity, *DROPOUTS)
"""Modules that give back what they get in evaluation mode."""
