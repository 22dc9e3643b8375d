"""Petal's zero-shot detector: an image tower aligned to a CLIP text tower."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.f(x))


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ImageTower(nn.Module):
    """Pictures [n, 3, 64, 64] in [-1, 1] to vectors [n, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
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

    def forward(self, pictures: Tensor) -> Tensor:
        h = self.f(pictures)
        return cast("Tensor", self.p(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)))


class ZeroShotDetector:
    """Implements :class:`myosotis.validation.ports.Detector`.

    A picture shows the label whose text vectors, averaged over its phrases and
    templates, are nearest to the picture's vector by cosine.
    """

    def __init__(self, folder: Path, templates: Sequence[str]) -> None:
        """Load the towers.

        Args:
            folder: ``config.json``, ``image_tower.safetensors``, ``text_encoder/`` and
                ``tokenizer/``.
            templates: prompts with ``{}`` in place of a phrase.
        """
        config = json.loads((folder / "config.json").read_text())
        self._size = int(config["image_size"])
        self._templates = tuple(templates)
        self._images = ImageTower(int(config["width"])).eval()
        weights = folder / "image_tower.safetensors"
        # Batch norms count batches; the count is no weight and is not stored.
        missing = self._images.load_state_dict(load_file(weights), strict=False)
        if missing.unexpected_keys or any(
            not key.endswith("num_batches_tracked") for key in missing.missing_keys
        ):
            raise ValueError(f"{weights} does not hold this image tower: {missing}")
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self._text = CLIPTextModelWithProjection.from_pretrained(
            folder / "text_encoder", dtype=torch.float32
        ).eval()
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.profile = f"zero-shot;weights={digest[:16]};size={self._size};rule=top-1"
        self._vectors: dict[str, Tensor] = {}

    def classify(
        self, pictures: "NDArray[np.uint8]", labels: Sequence[Sequence[str]]
    ) -> list[int]:
        if not labels or not all(labels):
            raise ValueError("no labels to choose from")
        similarity = (
            self.encode(pictures)
            @ torch.stack([self._label(phrases) for phrases in labels]).mT
        )
        if not bool(torch.isfinite(similarity).all()):
            raise ValueError("the detector computed values that are not finite")
        return cast("list[int]", similarity.argmax(1).tolist())

    @torch.inference_mode()
    def encode(self, pictures: "NDArray[np.uint8]") -> Tensor:
        """Unit vectors [n, width] of uint8 RGB pictures [n, height, width, 3]."""
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or not len(pictures):  # noqa: PLR2004 - [n, h, w, 3]
            raise ValueError(f"not uint8 [n, h, w, 3]: {pictures.shape}")
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
        x = x.float() / 127.5 - 1
        if x.shape[-2:] != (self._size, self._size):
            x = functional.interpolate(
                x, (self._size, self._size), mode="bilinear", antialias=True
            )
        vectors = torch.cat([self._images(part) for part in x.split(64)])
        return functional.normalize(vectors, dim=-1)

    @torch.inference_mode()
    def _label(self, phrases: Sequence[str]) -> Tensor:
        """One unit vector for a group of phrases."""
        vectors = torch.stack([self._phrase(phrase) for phrase in phrases])
        return functional.normalize(vectors.mean(0), dim=-1)

    def _phrase(self, phrase: str) -> Tensor:
        if phrase not in self._vectors:
            tokens = self._tokenizer(
                [template.format(phrase) for template in self._templates],
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            )
            vectors = functional.normalize(self._text(**tokens).text_embeds, dim=-1)
            self._vectors[phrase] = functional.normalize(vectors.mean(0), dim=-1)
        return self._vectors[phrase]
