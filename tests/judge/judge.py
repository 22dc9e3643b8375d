"""The independent judge: what concept and style a picture shows, if it is clear.

It takes no part in making, choosing or tuning pictures, so it can mark them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from tests.judge.network import JudgeNetwork

FOLDER = Path(__file__).parent
_BATCH = 128
_SIDE = 64


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one picture shows.

    *confidence* is the probability of *concept*. A picture that is not *clear* shows
    nothing that the judge would vouch for: its concept and style are guesses.
    """

    concept: str
    style: str
    confidence: float
    clear: bool


class Judge:
    """Judges pictures with weights that were fixed on icons alone."""

    def __init__(
        self,
        network: JudgeNetwork,
        concepts: Sequence[str],
        styles: Sequence[str],
        threshold: float,
        temperature: float,
    ) -> None:
        self._network = network.eval()
        self.concepts = tuple(concepts)
        self.styles = tuple(styles)
        self.threshold = threshold
        self._temperature = temperature

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Self:
        """The committed judge."""
        facts = json.loads((folder / "judge.json").read_text())
        network = JudgeNetwork(len(facts["concepts"]), len(facts["styles"]))
        weights = load_file(folder / "judge.safetensors")
        network.load_state_dict({n: value.float() for n, value in weights.items()})
        return cls(
            network,
            facts["concepts"],
            facts["styles"],
            facts["threshold"],
            facts["temperature"],
        )

    def judge(self, pictures: NDArray[np.uint8]) -> list[Judgement]:
        """Judge RGB pictures [N, H, W, 3]; other sizes than 64 x 64 are resized."""
        concept_chances, style_chances = self.chances(pictures)
        best = concept_chances.argmax(1)
        return [
            Judgement(
                concept=self.concepts[concept],
                style=self.styles[style],
                confidence=float(chance),
                clear=bool(chance >= self.threshold),
            )
            for concept, style, chance in zip(
                best, style_chances.argmax(1), concept_chances.max(1), strict=True
            )
        ]

    @torch.inference_mode()
    def chances(
        self, pictures: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The probability of each concept and of each style, for each picture."""
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise ValueError(f"not uint8 [N, H, W, 3]: {pictures.shape}")
        concepts, styles = [], []
        for start in range(0, len(pictures), _BATCH):
            part = [_sized(picture) for picture in pictures[start : start + _BATCH]]
            pixels = torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2).float() / 255
            concept, style = self._network(pixels)
            concepts.append((concept / self._temperature).softmax(1))
            styles.append(style.softmax(1))
        return torch.cat(concepts).numpy(), torch.cat(styles).numpy()


def _sized(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.shape[:2] == (_SIDE, _SIDE):
        return picture
    image = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
