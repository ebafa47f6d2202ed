"""Networks whose best picture is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Planted(nn.Module):
    """Channel 0 sees an oriented grating, 1 red, 2 a bright blob, 3 nothing ever.

    Channel 4 sees a grating, and no random picture switches it on.
    """

    def __init__(self, side: int = 9) -> None:
        super().__init__()
        self.eyes = nn.Conv2d(3, 5, side, padding=side // 2)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 2)
        with torch.no_grad():
            self.eyes.weight[:] = filters(side)
            self.eyes.bias[:] = torch.tensor([0.0, 0.0, 0.0, -1e4, -2.0])
            self.head.weight[:] = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, -1, 0, 0]])
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.eyes(x)).mean((2, 3)))


def filters(side: int) -> Tensor:
    """Weights of one size, ±: so the best picture, black and white, is the filter itself."""
    y, x = torch.meshgrid(*[torch.arange(side) - side // 2] * 2, indexing="ij")
    grating = torch.where((x + y) % 6 < 3, 1.0, -1.0)
    blob = torch.where(x**2 + y**2 <= 8, 1.0, -1.0)
    flat = torch.ones_like(grating)
    red = torch.stack([flat, -flat, -flat])
    every = torch.stack(
        [
            grating.expand(3, -1, -1),
            red,
            blob.expand(3, -1, -1),
            flat.expand(3, -1, -1),
            grating.mT.flip(0).expand(3, -1, -1),
        ]
    )
    return every / side**2
