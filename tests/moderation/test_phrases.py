import random
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.moderation.phrases import PhraseMatcher, PhraseMatchers
from myosotis.moderation.words import words
from myosotis.policy.concepts import Category, Concept
from myosotis.policy.policies import Policy, Registry

from tests.policy.builders import a_concept, a_policy, a_registry

PETAL = "models/petal"


def found(prompt: str, *concepts: Concept) -> list[str]:
    """The phrases that match in *prompt*."""
    matcher = PhraseMatcher(PETAL, a_registry(a_policy("p", *concepts)))
    return [match.phrase for match in matcher.matches(prompt)]


@pytest.mark.parametrize(
    "prompt",
    [
        "knife",
        "a KNIFE, please",
        "two knives",
        "a knife's edge",
        "a kn\u200bife",  # zero width space
        "a k\u00adnife",  # soft hyphen
        "a k\u034fnife",  # grapheme joiner
        "a k\ufe0fnife",  # variation selector
        "a knífe",
        "a kni\u0301\u0308fe",
        "ａ ｋｎｉｆｅ",  # noqa: RUF001 - full width on purpose
        "a 𝐤𝐧𝐢𝐟𝐞",  # noqa: RUF001 - mathematical letters on purpose
        "pen_knife-holder",
        "(knife)",
        "knife\nknife",
    ],
)
def test_a_word_is_found_however_it_is_written(prompt: str) -> None:
    assert found(prompt, a_concept("knife")) == ["knife"]


@pytest.mark.parametrize("prompt", ["", "...", "penknife", "knifed", "a k n i f e"])
def test_only_whole_words_count(prompt: str) -> None:
    assert found(prompt, a_concept("knife")) == []


@pytest.mark.parametrize(
    ("phrase", "prompt"),
    [
        ("hot dog", "hot dogs"),
        ("mug of beer", "MUGS of   Beer"),
        ("hot dog", "a hot-dog"),
        ("hot dog", "hot, dog"),
        ("box", "boxes"),
        ("pony", "ponies"),
        ("AK-47", "an ak 47"),
        ("mickey_mouse", "Mickey Mouse"),
        ("straße", "STRASSE"),
        ("拳銃", "彼は拳銃を持つ"),
        ("ガン", "ｶﾞﾝ"),
        ("оружие", "ОРУЖИЕ"),
        ("café", "cafe\u0301"),
    ],
)
def test_phrases_of_any_script_are_found_with_plurals(phrase: str, prompt: str) -> None:
    assert found(prompt, Concept("c", Category.OBJECT, (phrase,))) == [phrase]


@pytest.mark.parametrize(
    ("phrase", "prompt"),
    [
        ("gas", "ga"),
        ("news", "new"),
        ("hot dog", "hot cat dog"),
        ("か", "が"),
        ("a", "as"),
    ],
)
def test_other_words_are_not_found(phrase: str, prompt: str) -> None:
    assert found(prompt, Concept("c", Category.OBJECT, (phrase,))) == []


def test_each_concept_is_found_once_in_the_order_of_the_prompt() -> None:
    knife, bomb = a_concept("knife", phrases=("knife", "blade")), a_concept("bomb")

    assert found("bomb, blade, knife, bomb", knife, bomb) == ["bomb", "blade"]


def test_the_longest_phrase_of_a_concept_is_told() -> None:
    beer = a_concept("beer", phrases=("mug", "mug of beer"))

    assert found("a mug of beer", beer) == ["mug of beer"]


def test_a_banned_phrase_inside_an_exception_is_allowed() -> None:
    dagger = a_concept("dagger", exceptions=("cloak and dagger novel",))

    assert found("some cloak-and-dagger novels", dagger) == []
    assert found("cloak and dagger", dagger) == ["dagger"]
    assert found("cloak and dagger novel with a dagger", dagger) == ["dagger"]


def test_an_exception_holds_for_its_own_concept_alone() -> None:
    dagger = a_concept("dagger", exceptions=("cloak and dagger",))
    cloak = a_concept("cloak")

    assert found("cloak and dagger", dagger, cloak) == ["cloak"]


def test_an_exception_that_is_the_phrase_itself_excuses_nothing() -> None:
    dagger = a_concept("dagger", exceptions=("Dagger", "daggers"))

    assert found("daggers", dagger) == ["dagger"]


def test_an_exception_that_only_overlaps_excuses_nothing() -> None:
    gun = a_concept("glue gun fight", exceptions=("big glue gun",))

    assert found("big glue gun fight", gun) == ["glue gun fight"]


def test_a_longer_phrase_than_the_exception_is_found() -> None:
    gun = a_concept("gun", phrases=("gun", "glue gun fight"), exceptions=("glue gun",))

    assert found("a glue gun fight", gun) == ["glue gun fight"]


def test_only_policies_of_the_model_count() -> None:
    registry = a_registry(
        a_policy("mine", a_concept("knife")),
        a_policy("other", a_concept("bomb"), models=("models/lily",)),
        a_policy("all", a_concept("skull"), models=("models/*",)),
    )

    matches = PhraseMatcher(PETAL, registry).matches("knife bomb skull")

    assert [match.concept_name for match in matches] == [
        "policies/mine/concepts/knife",
        "policies/all/concepts/skull",
    ]


def test_matchers_are_compiled_once_for_each_revision() -> None:
    matchers = PhraseMatchers()
    first = a_registry(a_policy("a"))
    second = a_registry(a_policy("a"), a_policy("b", a_concept("bomb")))

    matcher = matchers.matcher(PETAL, first)

    assert matchers.matcher(PETAL, first) is matcher
    assert matchers.matcher("models/lily", first) is not matcher
    assert matchers.matcher(PETAL, second).matches("bomb") != ()


def _many(count: int) -> list[Policy]:
    numbers = random.Random(1)  # noqa: S311 - not for secrets
    letters = "abcdefghijklmnop"
    made = {
        " ".join(numbers.choices(letters, k=numbers.randint(1, 9)))
        for _ in range(count)
    }
    concepts = [
        Concept(f"c{i}", Category.OBJECT, (phrase,))
        for i, phrase in enumerate(sorted(made))
    ]
    return [
        a_policy(f"p{i}", *concepts[i : i + 1000])
        for i in range(0, len(concepts), 1000)
    ]


def test_thousands_of_phrases_take_no_longer_than_the_prompt() -> None:
    matcher = PhraseMatcher(PETAL, a_registry(*_many(10_000)))
    prompt = "a quiet garden with forget me nots in the rain, " * 80

    start = time.perf_counter()
    matcher.matches(prompt)

    # A scan of every phrase would take seconds.
    assert time.perf_counter() - start < 0.3


SOME_WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=5)


@given(
    st.lists(SOME_WORDS.map(" ".join), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=12).map(" ".join),
)
def test_the_matcher_finds_just_what_a_plain_search_finds(
    phrases: list[str], prompt: str
) -> None:
    concepts = [a_concept(f"c{i}", phrases=(p,)) for i, p in enumerate(phrases)]

    plain = {phrase for phrase in phrases if f" {phrase} " in f" {prompt} "}
    assert set(found(prompt, *concepts)) == plain


@given(st.text())
def test_words_do_not_change_when_they_are_read_again(text: str) -> None:
    once = words(text)

    assert words(" ".join(once)) == once


@given(st.text())
def test_words_are_the_same_in_every_form_of_unicode(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert words(unicodedata.normalize(form, text)) == words(text)


@given(st.text())
def test_any_prompt_is_matched(prompt: str) -> None:
    found(prompt, a_concept("knife", exceptions=("butter knife",)))


def test_an_empty_registry_finds_nothing() -> None:
    assert PhraseMatcher(PETAL, Registry(0, ())).matches("knife") == ()
