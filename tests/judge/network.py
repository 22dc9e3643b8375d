"""The judge's network: patches mixed by large kernels, nothing like the detector's."""

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (64, 128, 224)


class Mix(nn.Module):
    """Mixes positions by a large depthwise kernel, then channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.positions = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.channels = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.channels(self.norm(self.positions(x)))


class JudgeNetwork(nn.Module):
    """Float pictures [N, 3, 64, 64] in [0, 1] to concept and style logits."""

    def __init__(self, concepts: int, styles: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.body = nn.Sequential(
            nn.Conv2d(3, first, 4, stride=4),
            Mix(first),
            Mix(first),
            nn.GroupNorm(1, first),
            nn.Conv2d(first, second, 2, stride=2),
            Mix(second),
            Mix(second),
            Mix(second),
            nn.GroupNorm(1, second),
            nn.Conv2d(second, third, 2, stride=2),
            Mix(third),
            Mix(third),
            nn.GroupNorm(1, third),
        )
        self.concept = nn.Linear(4 * third, concepts)
        self.style = nn.Linear(4 * third, styles)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(pictures * 2 - 1)
        # Quarters, so that where a part sits counts.
        pooled = functional.adaptive_avg_pool2d(features, 2).flatten(1)
        pooled = functional.gelu(pooled)
        return self.concept(pooled), self.style(pooled)
