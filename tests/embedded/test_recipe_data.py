"""What the recipe makes pictures and captions from."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from myosotis.embedded.recipe.artwork import ArtworkError, locked, verify
from myosotis.embedded.recipe.captions import canonical, caption, say
from myosotis.embedded.recipe.concepts import (
    COLORS,
    CONCEPTS,
    GROUPS,
    STYLES,
    without_article,
)
from myosotis.embedded.recipe.pictures import Placement, compose, side_by_side
from numpy.typing import NDArray


def an_icon(color: tuple[int, int, int] = (200, 30, 30)) -> NDArray[np.uint8]:
    icon = np.zeros((128, 128, 4), dtype=np.uint8)
    icon[32:96, 32:96] = (*color, 255)
    return icon


def test_there_are_concepts_enough_of_every_kind() -> None:
    groups = Counter(concept.group for concept in CONCEPTS)
    assert len(CONCEPTS) >= 150
    assert set(groups) == set(GROUPS)
    assert groups["character"] >= 25
    assert groups["harmful"] >= 8


def test_no_phrase_means_two_concepts() -> None:
    phrases = Counter(
        without_article(phrase)
        for concept in CONCEPTS
        for phrase in {without_article(p): p for p in concept.phrases}.values()
    )
    assert [phrase for phrase, count in phrases.items() if count > 1] == []
    assert len({concept.icon for concept in CONCEPTS}) == len(CONCEPTS)


def test_a_caption_tells_thing_style_and_background() -> None:
    rng = random.Random(0)  # noqa: S311
    for _ in range(50):
        text = caption("a dog", "noto", rng, "blue")
        assert "a dog" in text
        assert "noto" in text
        assert "blue background" in text


def test_the_same_seed_tells_the_same_captions() -> None:
    first, second = (
        [say(concept, rng) for concept in CONCEPTS]
        for rng in (random.Random(3), random.Random(3))  # noqa: S311
    )
    assert first == second


def test_the_plain_prompt_names_the_style_last() -> None:
    assert canonical("a dog", "ink") == "a dog, ink style"


def test_a_background_fills_the_canvas_around_the_icon() -> None:
    picture = compose(an_icon(), Placement(0.9), COLORS["blue"])
    assert picture.shape == (64, 64, 3)
    assert tuple(picture[0, 0]) == COLORS["blue"]
    assert tuple(picture[32, 32]) == (200, 30, 30)


def test_a_drawn_placement_keeps_the_icon_inside() -> None:
    rng = random.Random(1)  # noqa: S311
    whole = np.full((128, 128, 4), 255, dtype=np.uint8)
    whole[..., :3] = 0
    for _ in range(20):
        placement = Placement.draw(rng, 0.7, 0.9)
        dark = (compose(whole, placement) < 128).all(axis=-1).sum()
        assert dark == pytest.approx((64 * placement.scale) ** 2, rel=0.05)


def test_a_couple_stands_left_and_right() -> None:
    picture = side_by_side(an_icon((200, 0, 0)), an_icon((0, 0, 200)))
    assert tuple(picture[32, 16]) == (200, 0, 0)
    assert tuple(picture[32, 48]) == (0, 0, 200)


def test_every_style_has_artwork_under_an_open_licence() -> None:
    sources = {artwork.source: artwork for artwork in locked()}
    assert set(STYLES) <= set(sources)
    licenses = {artwork.license for artwork in sources.values()}
    assert licenses <= {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert all(artwork.attribution for artwork in sources.values())


def test_an_archive_that_differs_from_the_lock_is_refused(tmp_path: Path) -> None:
    artwork = replace(locked()[0], package="somebody/else")
    (tmp_path / artwork.archive_name).write_bytes(b"other icons")
    with pytest.raises(ArtworkError):
        verify(artwork, tmp_path)
