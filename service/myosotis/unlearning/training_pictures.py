"""What re-steering trains on: pictures that the base model draws of the concept.

A policy so needs only words. Latents and text embeddings are computed once.

Legend: P pictures, L token positions, D text width.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from myosotis.digests import canonical_json
from myosotis.unlearning.concept_tokens import TokenScope, concept_positions
from myosotis.unlearning.drawing import Drawing, draw_batch
from myosotis.unlearning.text import TextEncoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from myosotis.policy.plans import PlannedConcept
    from myosotis.unlearning.models import ModelCard, TextToImageModel

_BATCH = 16


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What is drawn.

    Attributes:
        pictures: of each concept, >= 1.
        step_share: denoising steps, as a share of those for pictures that people look
            at, (0, 1].
        scope: positions that are to lose attention.
    """

    pictures: int = 16
    step_share: float = 0.5
    scope: TokenScope = TokenScope.CONCEPT_AND_AFTER


@dataclass(frozen=True, eq=False, slots=True)
class TrainingSet:
    """Pictures of concepts, as re-steering reads them.

    Attributes:
        latents: scaled, float32 [P, channels, height, width].
        text: embeddings of each picture's prompt, float32 [P, L, D].
        selected: positions that are to lose attention, bool [P, L].
        alphas: cumulative products of the noise schedule, float32 [timesteps].
    """

    latents: Tensor
    text: Tensor
    selected: Tensor
    alphas: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def noised(
        self, rows: Tensor, timesteps: Tensor, random: torch.Generator
    ) -> Tensor:
        """The latents of *rows* with fresh noise, as much as at *timesteps*."""
        latents = self.latents[rows]
        noise = torch.randn(latents.shape, generator=random)
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


@dataclass(frozen=True, slots=True)
class _Example:
    concept: str
    prompt: str
    span: tuple[int, int]
    seed: int


def batch_count(concepts: int, per_concept: int) -> int:
    """How often *on_batch* of :func:`draw_training_set` is called."""
    return -(-concepts * per_concept // _BATCH)


def draw_training_set(  # noqa: PLR0913 - two of them follow the work
    model: "TextToImageModel",
    concepts: "Sequence[PlannedConcept]",
    settings: TrainingSettings,
    *,
    seed: str,
    on_batch: Callable[[], None],
    on_step: Callable[[int], None],
) -> TrainingSet:
    """Draw pictures of each concept, through all its phrases and all templates.

    Args:
        model: draws with its base weights.
        concepts: at least one.
        settings: how many, and how.
        seed: the noise of each picture is derived from it, the concept and a number.
        on_batch: called after each batch.
        on_step: called after each denoising step; what it raises ends the drawing.
    """
    examples = [
        example
        for planned in concepts
        for example in _examples(model, planned, settings.pictures, seed)
    ]
    # Before the drawing: words that cannot be erased must not cost minutes.
    text = TextEncoder(model)
    ids = [text.token_ids([e.prompt], concept=e.concept) for e in examples]
    tokenizer = model.pipeline.tokenizer
    selected = [
        concept_positions(tokenizer, e.prompt, e.span, settings.scope) for e in examples
    ]
    latents = []
    for start in range(0, len(examples), _BATCH):
        pictures = draw_batch(
            model.pipeline,
            [Drawing(e.prompt, e.seed) for e in examples[start : start + _BATCH]],
            step_count=max(1, round(settings.step_share * model.card.step_count)),
            guidance_scale=model.card.guidance_scale,
            on_step=on_step,
        )
        latents.append(_encode(model, pictures))
        on_batch()
    return TrainingSet(
        torch.cat(latents),
        text.encode(torch.cat(ids)),
        torch.stack(selected),
        _alphas(model),
    )


def number(*parts: str | int) -> int:
    """A number in [0, 2**62) that looks random and depends on *parts* alone."""
    digest = hashlib.sha256(canonical_json(["unlearn", *parts])).digest()
    return int.from_bytes(digest[:8]) >> 2


def _examples(
    model: "TextToImageModel", planned: "PlannedConcept", count: int, seed: str
) -> list[_Example]:
    wordings = [
        _placed(model.card, phrase, template)
        for template in model.card.templates
        for phrase in planned.concept.phrases
    ]
    return [
        _Example(
            planned.name,
            *wordings[index % len(wordings)],
            number(seed, planned.name, index),
        )
        for index in range(count)
    ]


def _placed(
    card: "ModelCard", phrase: str, template: str
) -> tuple[str, tuple[int, int]]:
    """*phrase* in *template*, and where it stands there, in characters."""
    (prompt,) = card.prompts(phrase, (template,))
    end = template.index("{}") + len(card.with_article(phrase))
    return prompt, (end - len(phrase), end)


@torch.no_grad()
def _encode(model: "TextToImageModel", pictures: "NDArray[np.uint8]") -> Tensor:
    """Latents of uint8 pictures [P, height, width, 3]: the mode, scaled."""
    vae = model.pipeline.vae
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents: Tensor = vae.encode(x).latent_dist.mode() * vae.config.scaling_factor
    return latents


def _alphas(model: "TextToImageModel") -> Tensor:
    """Those of training, whatever the sampler of the pipeline."""
    training = DDPMScheduler.from_config(model.pipeline.scheduler.config)
    return cast("Tensor", training.alphas_cumprod).float()
