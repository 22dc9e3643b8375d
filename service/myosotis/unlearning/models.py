"""A text-to-image model, loaded: what the stages that touch tensors work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass(frozen=True, slots=True)
class Vocable:
    """A thing that a model is known to draw.

    Attributes:
        noun: the usual word for it.
        synonyms: other words for it.
        group: what kind of thing it is, for example ``animal``.
    """

    noun: str
    synonyms: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model beside its weights.

    Attributes:
        version: of the weights.
        step_count: denoising steps that give good pictures.
        guidance_scale: classifier-free guidance that gives good pictures.
        image_size: edge of a picture in pixels.
        templates: prompts with ``{}`` in place of the phrase.
        articles: whether phrases take an article in the templates.
        bare_nouns: phrases that take none all the same.
        vocabulary: what it is known to draw, the source of retained concepts and of
            the detector's alternatives; empty when not known.
    """

    version: str = ""
    step_count: int = 30
    guidance_scale: float = 7.5
    image_size: int = 512
    templates: tuple[str, ...] = (
        "{}",
        "a photo of {}",
        "a picture of {}",
        "an illustration of {}",
    )
    articles: bool = False
    bare_nouns: tuple[str, ...] = ()
    vocabulary: tuple[Vocable, ...] = ()

    def prompts(
        self, phrase: str, templates: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """*phrase* in each of *templates*, by default all of the card's."""
        words = self.with_article(phrase)
        return tuple(t.format(words) for t in templates or self.templates)

    def with_article(self, phrase: str) -> str:
        if not self.articles or phrase in self.bare_nouns:
            return phrase
        return ("an " if phrase[0] in "aeiou" else "a ") + phrase


@dataclass(frozen=True, slots=True)
class TextToImageModel:
    """A model in memory.

    Attributes:
        name: ``models/{model}``.
        pipeline: the diffusers pipeline, in evaluation mode; its UNet holds the base
            weights and is never written to.
        card: what is known of it.
    """

    name: str
    pipeline: "StableDiffusionPipeline"
    card: ModelCard
