"""The text encoder, learned together with a first image tower by contrast.

Shapes: B batch, S caption tokens, D width.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from myosotis.embedded.recipe import tokenizer as tokens
from myosotis.embedded.recipe.augmentation import damaged
from myosotis.embedded.recipe.autoencoder import to_tensor
from myosotis.embedded.recipe.average import Average, clip
from myosotis.embedded.recipe.captions import caption, say
from myosotis.embedded.recipe.checkpoints import Checkpoint
from myosotis.embedded.recipe.concepts import COLORS, CONCEPTS, STYLES
from myosotis.embedded.recipe.optimiser import MuonAdamW, Rates, warmup_stable_decay
from myosotis.embedded.recipe.pictures import WHITE, Placement, compose
from myosotis.embedded.recipe.progress import Progress
from myosotis.embedded.recipe.rasters import Rasters, shared_names
from myosotis.embedded.recipe.settings import Settings
from myosotis.embedded.tower import ImageTower

WIDTH = 256
STABLE_STEPS, DECAY_STEPS = 300, 200
SPREAD_STEPS = 140
STEPS = STABLE_STEPS + DECAY_STEPS + SPREAD_STEPS
BATCH = 96
_RATE = 1e-3
# A small scale makes the contrast hard, so that embeddings of concepts must spread
# over many directions. Edits of single concepts need that room.
_LARGEST_SCALE = 16.0
_SPREAD_WEIGHT = 1.0
_SPREAD_RATE = 0.5
_SHARPNESS = 10.0


def build(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """The text tower, untrained, with the projection that aligns it to pictures."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokens.LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=WIDTH,
        hidden_act="quick_gelu",
    )
    return CLIPTextModelWithProjection(config)


class Towers(torch.nn.Module):
    """What trains together: both towers and the logarithm of the cosines' scale."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text = build(tokenizer)
        self.image = ImageTower(WIDTH)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))


@dataclass(frozen=True, slots=True)
class Shown:
    """What a picture shows, and what its caption tells of it."""

    thing: int
    style: int
    color: int
    style_told: bool
    color_told: bool


class Pairs:
    """Pictures with captions: Petal's concepts, and other icons by their names."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self._sources = [Rasters(settings.rasters, style) for style in STYLES]
        own = {concept.icon for concept in CONCEPTS}
        names = shared_names(self._sources)
        self._others = [name for name in names if name not in own]

    def batch(self, count: int) -> tuple[torch.Tensor, list[str], torch.Tensor]:
        """Pictures, captions, and which caption fits which picture (B x B)."""
        rng = self._rng
        pictures, texts, shown = [], [], []
        for _ in range(count):
            style = rng.randrange(len(STYLES))
            if rng.random() < 0.75:  # noqa: PLR2004
                thing = rng.randrange(len(CONCEPTS))
                icon, phrase = CONCEPTS[thing].icon, say(CONCEPTS[thing], rng)
            else:
                thing = len(CONCEPTS) + rng.randrange(len(self._others))
                icon = self._others[thing - len(CONCEPTS)]
                phrase = icon.replace("-", " ")
            color = rng.randrange(len(COLORS)) if rng.random() < 0.3 else -1  # noqa: PLR2004
            told = color >= 0 and rng.random() < 0.8  # noqa: PLR2004
            named = rng.random() < 0.8  # noqa: PLR2004
            background = WHITE if color < 0 else list(COLORS.values())[color]
            place = Placement.draw(rng, 0.75, 1.0, mirrored=0.3)
            pictures.append(compose(self._sources[style][icon], place, background))
            texts.append(
                caption(
                    phrase,
                    STYLES[style] if named else None,
                    rng,
                    list(COLORS)[color] if told else None,
                )
            )
            shown.append(Shown(thing, style, color, named, told))
        return damaged(to_tensor(pictures), rng), texts, _fits(shown)


def _fits(shown: list[Shown]) -> torch.Tensor:
    thing, style, color = (
        torch.tensor([getattr(item, name) for item in shown])
        for name in ("thing", "style", "color")
    )
    style_told = torch.tensor([item.style_told for item in shown])
    color_told = torch.tensor([item.color_told for item in shown])
    same = thing[:, None] == thing
    same &= (style[:, None] == style) | ~style_told
    same &= (color[:, None] == color) | ~color_told
    return same


def contrast(
    images_BD: torch.Tensor,  # noqa: N803
    texts_BD: torch.Tensor,  # noqa: N803
    fits_BB: torch.Tensor,  # noqa: N803
    scale: torch.Tensor,
) -> torch.Tensor:
    """The symmetric contrastive loss where several captions may fit a picture."""
    logits = scale * images_BD @ texts_BD.T
    loss = logits.new_zeros(())
    for scores, wanted in ((logits, fits_BB), (logits.T, fits_BB.T)):
        share = wanted / wanted.sum(1, keepdim=True)
        loss = loss - (share * scores.log_softmax(1)).sum(1).mean() / 2
    return loss


def spread(
    states_BSD: torch.Tensor,  # noqa: N803
    ids_BS: torch.Tensor,  # noqa: N803
    end: int,
) -> torch.Tensor:
    """How many directions the captions' states fill: the rate to code them.

    Contrast alone leaves them in a few directions, where an edit of one concept's keys
    and values has no room to leave the others alone.
    """
    last = (ids_BS == end).int().argmax(1)
    valid = torch.arange(ids_BS.size(1)) <= last[:, None]
    at_end = states_BSD[torch.arange(len(last)), last]
    means = (states_BSD * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
    rate = states_BSD.new_zeros(())
    for group in (at_end, means):
        centered = group - group.mean(0)
        centered = centered / states_BSD.size(-1) ** 0.5
        gram = torch.eye(len(group)) + _SHARPNESS * centered @ centered.T
        rate = rate + torch.logdet(gram) / len(group)
    return rate


def _rate(step: int) -> float:
    contrasted = STABLE_STEPS + DECAY_STEPS
    if step < contrasted:
        return warmup_stable_decay(
            step, warmup=50, stable=STABLE_STEPS, decay=DECAY_STEPS
        )
    return _SPREAD_RATE * (1 - (step - contrasted) / SPREAD_STEPS)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids, padded to the fixed length."""
    ids: torch.Tensor = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=tokens.LENGTH,
        return_tensors="pt",
    ).input_ids
    return ids


def trimmed(ids_BS: torch.Tensor, end: int) -> torch.Tensor:  # noqa: N803
    """Without the padding that no caption of the batch needs: attention is causal."""
    longest = int((ids_BS == end).int().argmax(1).max()) + 1
    return ids_BS[:, :longest]


def train(settings: Settings, progress: Progress) -> Path:
    """Train both towers; write the text encoder, the aligned tower, the image tower."""
    torch.manual_seed(settings.seed)
    tokenizer = tokens.load(settings)
    network = Towers(tokenizer)
    average = Average(network, decay=0.99)
    optimiser = MuonAdamW.of(network, Rates(_RATE, _RATE, decay=0.05))
    place = settings.checkpoints / "text"
    start = 0
    if saved := Checkpoint.load(place):
        start = saved.restore(network, average, optimiser)
    pairs = Pairs(settings, settings.seed + start)
    for step in range(start, STEPS):
        pictures, texts, fits = pairs.batch(BATCH)
        ids = trimmed(tokenize(tokenizer, texts), tokenizer.eos_token_id)
        images = network.image(pictures)
        told = network.text(input_ids=ids)
        aligned = F.normalize(told.text_embeds, dim=-1)
        scale = network.scale.exp().clamp(max=_LARGEST_SCALE)
        loss = contrast(images, aligned, fits, scale)
        room = spread(told.last_hidden_state, ids, tokenizer.eos_token_id)
        if step >= STABLE_STEPS + DECAY_STEPS:
            loss = loss - _SPREAD_WEIGHT * room
        network.zero_grad()
        loss.backward()
        clip(list(network.parameters()), 1.0)
        optimiser.step(_rate(step))
        average.update(step)
        best = (images @ aligned.T).argmax(1, keepdim=True)
        hit = fits.gather(1, best).float().mean()
        progress.note(
            step + 1,
            STEPS,
            loss=loss.item(),
            hit=hit.item(),
            scale=scale.item(),
            room=room.item(),
        )
        if (step + 1) % 100 == 0 or step + 1 == STEPS:
            Checkpoint.of(step + 1, network, average, optimiser).save(place)
    average.load_into(network)
    folder = settings.pipeline / "text_encoder"
    network.text.text_model.save_pretrained(folder)
    network.text.save_pretrained(settings.pipeline / "text_tower")
    network.image.save(
        settings.pipeline / "first_image_tower", float(network.scale.exp())
    )
    return folder
