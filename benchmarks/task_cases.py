"""Small networks that learn numbers and maps, on made data: what is measured of other tasks than classification."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

Parts = tuple[TensorDataset, TensorDataset, TensorDataset]
SOUND, BANDS = 64, 16
SIDE = 12
BORDER = 255
"""Label that counts as nothing."""


def tones(count: int, seed: int) -> TensorDataset:
    """Spectra ``[16]`` of sounds of 64 samples, and their pitch in octaves from 0 to 2: a vowel at its simplest."""
    generator = torch.Generator().manual_seed(seed)
    pitch = 2 * torch.rand(count, generator=generator)
    phase = 6.28 * torch.rand(count, 1, generator=generator)
    time = torch.arange(SOUND) / SOUND
    sounds = torch.sin(phase + 6.28 * 2 * 2 ** pitch.unsqueeze(1) * time)
    return TensorDataset(torch.fft.rfft(sounds).abs()[:, :BANDS] / BANDS, pitch)


def shapes(count: int, seed: int) -> TensorDataset:
    """Images of a bright square and a dark one in noise, and maps of them, upper and lower border left out."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.2 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    maps = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    for index in range(count):
        for label, brightness in ((1, 1.0), (2, -1.0)):
            top, left = torch.randint(1, SIDE - 4, (2,), generator=generator).tolist()
            images[index, 0, top : top + 4, left : left + 4] += brightness
            maps[index, top : top + 4, left : left + 4] = label
    maps[:, 0], maps[:, -1] = BORDER, BORDER
    return TensorDataset(images, maps)


def pitch_data(split_seed: int = 0) -> Parts:
    """1,024 sounds to train on, and 256 for validation and test each."""
    return tones(1024, 3 * split_seed), tones(256, 3 * split_seed + 1), tones(256, 3 * split_seed + 2)


def shape_data(split_seed: int = 0) -> Parts:
    """1,024 images to train on, and 128 for validation and test each."""
    return shapes(1024, 3 * split_seed), shapes(128, 3 * split_seed + 1), shapes(128, 3 * split_seed + 2)


class Listener(nn.Sequential):
    """Hears the pitch of a spectrum."""

    def __init__(self, classes: int = 1, hidden: int = 32) -> None:
        super().__init__(
            *(nn.Linear(BANDS, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)),
        )


class UNet(nn.Module):
    """Down once, up once, and the fine map beside the coarse one."""

    def __init__(self, classes: int = 3, channels: int = 6) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.middle = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.head = nn.Conv2d(2 * channels, classes, 3, padding=1)
        self.relu, self.pool, self.up = nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes, H, W]``."""
        fine = self.relu(self.down(x))
        coarse = self.up(self.relu(self.deep(self.pool(fine))))
        return self.head(self.relu(self.middle(torch.cat([fine, coarse], 1))))  # type: ignore[no-any-return]
