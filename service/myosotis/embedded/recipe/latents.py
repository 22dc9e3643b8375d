"""What the denoiser trains on: encoded pictures and encoded captions, once for all."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from myosotis.embedded.recipe import tokenizer as tokens
from myosotis.embedded.recipe.autoencoder import to_tensor
from myosotis.embedded.recipe.captions import canonical, caption, say
from myosotis.embedded.recipe.concepts import COLORS, CONCEPTS, STYLES
from myosotis.embedded.recipe.pictures import (
    WHITE,
    Picture,
    Placement,
    compose,
    side_by_side,
)
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.rasters import Raster, Rasters
from myosotis.embedded.recipe.settings import Settings
from myosotis.embedded.recipe.text_tower import tokenize

VIEWS = 40
"""Placements of each icon."""
CAPTIONS = 6
"""Captions of each view."""
_COLORED, _STYLE_UNTOLD, _COUPLES = 0.1, 0.12, 0.04
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Cache:
    """Latents, their captions (rows of *texts*) and the pair each one shows.

    Row 0 of *texts* is the empty prompt. Pair = concept x styles + style; couples of
    icons carry the pair of the left one.
    """

    latents: torch.Tensor
    captions: torch.Tensor
    pairs: torch.Tensor
    texts: torch.Tensor

    def save(self, path: Path) -> None:
        """Write all four tensors."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: getattr(self, name).contiguous() for name in self.__slots__}, path
        )

    @classmethod
    def load(cls, path: Path) -> "Cache":
        """Map the tensors that `save` wrote."""
        return cls(**load_file(path))


@dataclass(frozen=True, slots=True)
class _View:
    picture: Picture
    captions: list[str]
    pair: int


def make(settings: Settings, progress: Progress) -> Path:
    """Draw every view, encode pictures and captions, write the cache."""
    rows: dict[str, int] = {"": 0}
    latents, captions, pairs = [], [], []
    autoencoder = AutoencoderKL.from_pretrained(settings.pipeline / "vae").eval()
    waiting: list[_View] = []

    @torch.no_grad()
    def flush() -> None:
        pictures = to_tensor([view.picture for view in waiting])
        posterior = autoencoder.encode(pictures).latent_dist
        latents.append(posterior.mode().half())
        for view in waiting:
            captions.append([rows.setdefault(c, len(rows)) for c in view.captions])
            pairs.append(view.pair)
        waiting.clear()

    for view in _views(settings):
        waiting.append(view)
        if len(waiting) == _BATCH:
            flush()
    if waiting:
        flush()
    cache = Cache(
        torch.cat(latents),
        torch.tensor(captions, dtype=torch.int32),
        torch.tensor(pairs, dtype=torch.int32),
        encode(settings, list(rows)).half(),
    )
    progress.tell(
        f"cache: {len(pairs)} latents, deviation {cache.latents.float().std():.3f},"
        f" {len(rows)} captions"
    )
    path = settings.cache / "latents.safetensors"
    cache.save(path)
    return path


@torch.no_grad()
def encode(settings: Settings, texts: list[str]) -> torch.Tensor:
    """The text encoder's last hidden states."""
    tokenizer: CLIPTokenizer = tokens.load(settings)
    encoder = CLIPTextModel.from_pretrained(settings.pipeline / "text_encoder").eval()
    parts = []
    for start in range(0, len(texts), 128):
        ids = tokenize(tokenizer, texts[start : start + 128])
        parts.append(encoder(input_ids=ids).last_hidden_state)
    return torch.cat(parts)


def _views(settings: Settings) -> Iterator[_View]:
    rng = random.Random(settings.seed)  # noqa: S311
    sources = [Rasters(settings.rasters, style) for style in STYLES]
    icons = [[source[c.icon] for source in sources] for c in CONCEPTS]
    for _ in range(VIEWS):
        for index in range(len(CONCEPTS)):
            for style in range(len(STYLES)):
                if rng.random() < _COUPLES:
                    yield _couple(icons, index, style, rng)
                else:
                    yield _single(icons[index][style], index, style, rng)


def _single(icon: Raster, index: int, style: int, rng: random.Random) -> _View:
    color = rng.choice(list(COLORS)) if rng.random() < _COLORED else None
    placement = Placement.draw(rng, 0.86, 0.96)
    picture = compose(icon, placement, COLORS[color] if color else WHITE)
    concept = CONCEPTS[index]
    texts = [
        caption(
            say(concept, rng),
            None if rng.random() < _STYLE_UNTOLD else STYLES[style],
            rng,
            color,
        )
        for _ in range(CAPTIONS - 1)
    ]
    if color is None:
        texts.append(canonical(concept.phrase, STYLES[style]))
    else:
        texts.append(caption(concept.phrase, STYLES[style], rng, color))
    return _View(picture, texts, index * len(STYLES) + style)


def _couple(
    icons: list[list[Raster]], index: int, style: int, rng: random.Random
) -> _View:
    other = rng.randrange(len(CONCEPTS))
    picture = side_by_side(icons[index][style], icons[other][style])
    texts = []
    for _ in range(CAPTIONS):
        left, right = say(CONCEPTS[index], rng), say(CONCEPTS[other], rng)
        texts.append(caption(f"{left} and {right}", STYLES[style], rng))
    return _View(picture, texts, index * len(STYLES) + style)
