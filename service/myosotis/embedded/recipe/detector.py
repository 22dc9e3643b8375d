"""The detector's image tower: pictures of many vendors, aligned to the locked text.

Shapes: B batch, T texts, D width.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPTextModelWithProjection

from myosotis.embedded.recipe import tokenizer as tokens
from myosotis.embedded.recipe.augmentation import damaged
from myosotis.embedded.recipe.autoencoder import to_tensor
from myosotis.embedded.recipe.average import Average, clip
from myosotis.embedded.recipe.captions import canonical
from myosotis.embedded.recipe.checkpoints import Checkpoint
from myosotis.embedded.recipe.concepts import COLORS, CONCEPTS, STYLES
from myosotis.embedded.recipe.optimiser import MuonAdamW, Rates, warmup_stable_decay
from myosotis.embedded.recipe.pictures import WHITE, Picture, Placement, compose
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.rasters import Rasters, shared_names
from myosotis.embedded.recipe.settings import Settings
from myosotis.embedded.recipe.text_tower import tokenize
from myosotis.embedded.tower import ImageTower

VENDORS = ("noto-v1", "fluent-flat")
"""Seen in training beside Petal's styles."""
UNSEEN = "emojione"
"""Never seen: the honest test."""
SCALE = 20.0
_STEPS, _DECAY = 700, 350
_BATCH = 64
_RATE = 8e-4


@dataclass(frozen=True, slots=True)
class TextBank:
    """Unit vectors of what a picture may show."""

    things: torch.Tensor
    """One vector for each concept, then one for each other icon."""
    styled: torch.Tensor
    """Concept x style x D."""

    @classmethod
    @torch.no_grad()
    def encode(cls, settings: Settings, others: list[str]) -> "TextBank":
        """The locked text tower's vectors."""
        tokenizer = tokens.load(settings)
        tower = CLIPTextModelWithProjection.from_pretrained(
            settings.pipeline / "text_tower"
        ).eval()

        def vectors(texts: list[str]) -> torch.Tensor:
            parts = [
                tower(input_ids=tokenize(tokenizer, texts[start : start + 256]))
                for start in range(0, len(texts), 256)
            ]
            return F.normalize(torch.cat([p.text_embeds for p in parts]), dim=-1)

        styled = vectors(
            [canonical(c.phrase, style) for c in CONCEPTS for style in STYLES]
        ).view(len(CONCEPTS), len(STYLES), -1)
        plain = vectors([canonical(c.phrase) for c in CONCEPTS])
        own = F.normalize(styled.sum(1) + plain, dim=-1)
        if not others:
            return cls(own, styled)
        rest = vectors([name.replace("-", " ") for name in others])
        return cls(torch.cat([own, rest]), styled)


class Pictures:
    """An endless stream of damaged pictures with what they show."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self._styles = [Rasters(settings.rasters, style) for style in STYLES]
        self._vendors = [Rasters(settings.rasters, vendor) for vendor in VENDORS]
        own = {concept.icon for concept in CONCEPTS}
        names = shared_names(self._styles)
        self.others = [name for name in names if name not in own]

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures, things, and styles (-1 for a vendor that is no style of Petal)."""
        rng = self._rng
        pictures: list[Picture] = []
        things: list[int] = []
        styles: list[int] = []
        while len(pictures) < count:
            thing = rng.randrange(len(CONCEPTS))
            if rng.random() < 0.15:  # noqa: PLR2004
                thing = len(CONCEPTS) + rng.randrange(len(self.others))
            style = rng.randrange(len(STYLES)) if rng.random() < 0.75 else -1  # noqa: PLR2004
            source = self._styles[style] if style >= 0 else rng.choice(self._vendors)
            own = thing < len(CONCEPTS)
            icon = CONCEPTS[thing].icon if own else self.others[thing - len(CONCEPTS)]
            if icon not in source:
                continue
            plain = rng.random() < 0.75  # noqa: PLR2004
            background = WHITE if plain else rng.choice(list(COLORS.values()))
            place = Placement.draw(rng, 0.72, 1.0, mirrored=0.2)
            pictures.append(compose(source[icon], place, background))
            things.append(thing)
            styles.append(style)
        return (
            damaged(to_tensor(pictures), rng),
            torch.tensor(things),
            torch.tensor(styles),
        )


def train(settings: Settings, progress: Progress) -> Path:
    """Train the tower from the one that the text tower grew up with; write it."""
    torch.manual_seed(settings.seed)
    stream = Pictures(settings, settings.seed)
    bank = TextBank.encode(settings, stream.others)
    tower = ImageTower.load(settings.pipeline / "first_image_tower").train()
    average = Average(tower, decay=0.99)
    optimiser = MuonAdamW.of(tower, Rates(_RATE, _RATE, decay=0.05))
    place = settings.checkpoints / "detector"
    start = 0
    if saved := Checkpoint.load(place):
        start = saved.restore(tower, average, optimiser)
        stream = Pictures(settings, settings.seed + start)
    grid = bank.styled.flatten(0, 1)
    for step in range(start, _STEPS):
        pictures, things, styles = stream.batch(_BATCH)
        vectors = tower(pictures)
        loss = F.cross_entropy(
            SCALE * vectors @ bank.things.T, things, label_smoothing=0.05
        )
        styled = (styles >= 0) & (things < len(CONCEPTS))
        cell = things * len(STYLES) + styles
        loss = loss + F.cross_entropy(
            SCALE * vectors[styled] @ grid.T, cell[styled], label_smoothing=0.05
        )
        tower.zero_grad()
        loss.backward()
        clip(list(tower.parameters()), 1.0)
        optimiser.step(
            warmup_stable_decay(step, warmup=50, stable=_STEPS - _DECAY, decay=_DECAY)
        )
        average.update(step)
        hit = ((vectors @ bank.things.T).argmax(1) == things).float().mean()
        progress.note(step + 1, _STEPS, loss=loss.item(), hit=hit.item())
        if (step + 1) % 100 == 0:
            Checkpoint.of(step + 1, tower, average, optimiser).save(place)
    average.load_into(tower)
    _settle(tower, stream)
    folder = settings.pipeline / "detector"
    tower.save(folder, SCALE)
    progress.tell(f"detector: {measure(settings)}")
    return folder


@torch.no_grad()
def _settle(tower: ImageTower, stream: Pictures) -> None:
    """Let the batch norms see the averaged weights."""
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    tower.train()
    for _ in range(20):
        tower(stream.batch(_BATCH)[0])
    tower.eval()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the detector tells of pictures: concept, style and the concept's chance."""

    concepts: NDArray[np.int64]
    styles: NDArray[np.int64]
    chances: NDArray[np.float32]


class Detector:
    """The trained tower beside the text vectors of Petal's concepts."""

    def __init__(self, settings: Settings) -> None:
        self._tower = ImageTower.load(settings.pipeline / "detector")
        bank = TextBank.encode(settings, [])
        self._things = bank.things.numpy()
        self._styled = bank.styled.numpy()

    def read(self, pictures: NDArray[np.uint8]) -> Reading:
        """Judge RGB pictures [N, 64, 64, 3]."""
        vectors = self._tower.encode_images(pictures)
        logits = SCALE * vectors @ self._things.T
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(1, keepdims=True)
        grid = np.einsum("nd,csd->ncs", vectors, self._styled)
        return Reading(shares.argmax(1), grid.max(1).argmax(1), shares)


def measure(settings: Settings) -> dict[str, float]:
    """Accuracy on icons under fresh placement, by source."""
    rng = random.Random(settings.seed + 1)  # noqa: S311
    detector = Detector(settings)
    figures = {}
    for source in (*STYLES, *VENDORS, UNSEEN):
        rasters = Rasters(settings.rasters, source)
        shown = [i for i, c in enumerate(CONCEPTS) if c.icon in rasters]
        pictures = np.stack(
            [
                compose(rasters[CONCEPTS[i].icon], Placement.draw(rng, 0.78, 0.97))
                for i in shown
            ]
        )
        reading = detector.read(pictures)
        figures[source] = float((reading.concepts == np.array(shown)).mean())
        if source in STYLES:
            right = reading.styles == STYLES.index(source)
            figures[f"{source} style"] = float(right.mean())
    return {name: round(value, 3) for name, value in figures.items()}
