"""Petal's detector: pictures and words as unit vectors of one space.

Shapes: N pictures, D dimensions, H height, W width.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the usual name)

_WEIGHTS = "image_tower.safetensors"
_CONFIG = "config.json"
_BATCH = 64


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.f(x))


def _halve(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(wider),
        nn.ReLU(),
    )


class ImageTower(nn.Module):
    """A small residual network from 64 x 64 pictures to unit vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.f = nn.Sequential(
            _halve(3, 32),
            _halve(32, 64),
            _Residual(64),
            _halve(64, 128),
            _Residual(128),
            _halve(128, 192),
            _Residual(192),
        )
        self.p = nn.Linear(2 * 192, width)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Unit vectors [N, D] of float pictures [N, 3, H, W] in [-1, 1]."""
        features = self.f(pictures)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        return F.normalize(self.p(pooled), dim=-1)

    @torch.no_grad()
    def encode_images(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors [N, D] of RGB pictures [N, H, W, 3]."""
        if pictures.ndim != 4 or pictures.shape[-1] != 3:  # noqa: PLR2004
            raise ValueError("pictures must be [N, H, W, 3]")
        self.eval()
        parts = []
        for start in range(0, len(pictures), _BATCH):
            pixels = torch.from_numpy(
                np.ascontiguousarray(pictures[start : start + _BATCH])
            )
            parts.append(self(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1))
        encoded: NDArray[np.float32] = torch.cat(parts).numpy()
        return encoded

    def save(self, folder: Path, scale: float) -> None:
        """Write the weights in half precision and what a reader must know of them.

        *scale* is what cosines are multiplied with before they become probabilities.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Batch norms count batches; the count is no weight.
        weights = {
            name: value.half().contiguous()
            for name, value in self.state_dict().items()
            if value.is_floating_point()
        }
        save_file(weights, folder / _WEIGHTS)
        (folder / _WEIGHTS).chmod(0o644)
        facts = {"logit_scale": math.log(scale), "width": self.width, "image_size": 64}
        (folder / _CONFIG).write_text(json.dumps(facts, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "ImageTower":
        """The tower that `save` wrote, ready to encode."""
        facts = json.loads((folder / _CONFIG).read_text())
        tower = cls(int(facts["width"]))
        weights = {n: v.float() for n, v in load_file(folder / _WEIGHTS).items()}
        missing = tower.load_state_dict(weights, strict=False)
        if missing.unexpected_keys or any(
            not name.endswith("num_batches_tracked") for name in missing.missing_keys
        ):
            raise ValueError(f"{folder} does not hold this image tower: {missing}")
        return tower.eval()


def zero_shot(
    images: NDArray[np.float32], texts: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    """The probability [N, T] of each text [T, D] for each picture [N, D]."""
    logits = scale * images @ texts.T
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    chances: NDArray[np.float32] = shares / shares.sum(axis=1, keepdims=True)
    return chances
