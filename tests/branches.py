"""A network with two layers that read the same neurons."""

import torch
from torch import nn


class Branches(nn.Module):
    """Two linear layers read the same eight ReLUs, and a third what they add up to."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.left, self.right = nn.Linear(8, 6), nn.Linear(8, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.left(x) + self.right(x.view(-1, 2, 4).flatten(1))))


def branches():
    torch.manual_seed(0)
    return Branches()


def images():
    return torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
