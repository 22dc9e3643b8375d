"""Prompts that describe a picture: many phrasings of the same few facts."""

import random

from myosotis.embedded.recipe.concepts import Concept

_WITH_STYLE = (
    "{thing}, {style} style",
    "{thing} in {style} style",
    "{style} style emoji of {thing}",
    "an emoji of {thing}, {style} style",
    "a picture of {thing}, {style} style",
    "{thing}, {style}",
    "a {style} drawing of {thing}",
)
_WITHOUT_STYLE = (
    "{thing}",
    "an emoji of {thing}",
    "a picture of {thing}",
    "an image of {thing}",
    "a drawing of {thing}",
)
_BACKGROUNDS = (
    "{text} on a {color} background",
    "{text}, {color} background",
    "{text} with a {color} background",
)


def canonical(phrase: str, style: str | None = None) -> str:
    """The plain prompt that reports and examples use."""
    return phrase if style is None else f"{phrase}, {style} style"


def caption(
    phrase: str, style: str | None, rng: random.Random, color: str | None = None
) -> str:
    """One phrasing of a thing, its style and its background, if they are told."""
    if style is None:
        text = rng.choice(_WITHOUT_STYLE).format(thing=phrase)
    elif rng.random() < 0.3:  # noqa: PLR2004  (the share of plain prompts)
        text = canonical(phrase, style)
    else:
        text = rng.choice(_WITH_STYLE).format(thing=phrase, style=style)
    if color is not None:
        text = rng.choice(_BACKGROUNDS).format(text=text, color=color)
    return text


def say(concept: Concept, rng: random.Random) -> str:
    """The concept's phrase, now and then a synonym or the name without its article."""
    choice = rng.random()
    if choice < 0.1:  # noqa: PLR2004
        return concept.noun
    if choice < 0.35 and concept.synonyms:  # noqa: PLR2004
        return rng.choice(concept.synonyms)
    return concept.phrase
