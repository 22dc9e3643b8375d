import sys
from dataclasses import replace
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.embedded import petal
from myosotis.policy.concepts import fold
from myosotis.unlearning.models import ModelCard
from myosotis.validation.labels import whole_words
from myosotis.validation.probes import (
    Probe,
    ProbeSet,
    SampleSizes,
    probe_set,
)

from tests.validation.builders import a_card, a_name, a_plan

NOUNS = [vocable.noun for vocable in petal.card().vocabulary]


def labels_of(probes: ProbeSet, probe: Probe) -> set[str]:
    return {word for index in probe.expected for word in probes.labels[index]}


def test_equal_arguments_give_equal_probes_and_another_seed_gives_others() -> None:
    plan = a_plan(("dog",))
    first, again = probe_set(a_card(), plan), probe_set(a_card(), plan)
    other = probe_set(a_card(), plan, seed=1)
    assert first == again
    assert {p.seed for p in first.probes}.isdisjoint(p.seed for p in other.probes)


def test_another_model_gets_other_seeds() -> None:
    plan = a_plan(("dog",))
    moved = replace(plan, model="models/other")
    ours, theirs = probe_set(a_card(), plan), probe_set(a_card(), moved)
    assert {p.seed for p in ours.probes}.isdisjoint(p.seed for p in theirs.probes)


def test_every_picture_has_a_seed_of_its_own() -> None:
    probes = probe_set(petal.card(), a_plan(("dog",), ("bomb",)))
    seeds = [probe.seed for probe in probes.probes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**62 for seed in seeds)


def test_a_banned_concept_is_asked_for_in_its_own_words_mostly_the_first() -> None:
    probes = probe_set(a_card(), a_plan(("dog", "puppy", "hound")))
    asked = {
        word: sum(bool(whole_words([word]).search(p.prompt)) for p in probes.banned)
        for word in ("dog", "puppy", "hound")
    }
    assert sum(asked.values()) == len(probes.banned) == 64
    assert asked["dog"] == 48
    assert min(asked.values()) > 0


def test_half_of_the_wordings_are_on_no_card() -> None:
    card = petal.card()
    probes = probe_set(card, a_plan(("bomb",)))
    own = set(card.prompts("bomb"))
    held_out = [probe for probe in probes.banned if probe.prompt not in own]
    assert len(held_out) == len(probes.banned) // 2
    assert len({probe.prompt for probe in held_out}) == 4


def test_a_hit_is_any_label_of_the_concept() -> None:
    probes = probe_set(a_card(), a_plan(("dog", "hound"), ("cat",)))
    of_dog = [p for p in probes.banned if p.concept == a_name("dog")]
    assert {frozenset(labels_of(probes, p)) for p in of_dog} == {
        frozenset({"dog", "puppy", "hound"})
    }


def test_two_policies_that_ban_the_same_word_share_its_label() -> None:
    probes = probe_set(a_card(), a_plan(("gadget", "gizmo"), ("gizmo", "doodad")))
    groups = [frozenset(fold(w) for w in group) for group in probes.labels]
    assert len(groups) == len(set(groups))
    assert all("gizmo" in labels_of(probes, p) for p in probes.banned)


def test_half_of_what_is_retained_is_near_and_half_is_far() -> None:
    card = petal.card()
    probes = probe_set(card, a_plan(("dog",)))
    groups = {vocable.noun: vocable.group for vocable in card.vocabulary}
    near = [
        p
        for p in probes.retained
        if groups[probes.labels[p.expected[0]][0]] == "animal"
    ]
    assert len(probes.retained) == 96
    assert len(near) == 48


def test_what_a_policy_retains_is_among_it() -> None:
    probes = probe_set(a_card(), a_plan(("dog",), retain=("hot dog", "sofa")))
    kept = {word for p in probes.retained for word in labels_of(probes, p)}
    assert {"hot dog", "sofa"} <= kept


def test_a_long_list_of_unknown_things_cannot_hide_a_loss() -> None:
    unknown = tuple(f"thing {number}" for number in range(90))
    probes = probe_set(petal.card(), a_plan(("dog",), retain=unknown))
    named = [p for p in probes.retained if labels_of(probes, p) <= set(unknown)]
    assert len(named) <= len(probes.retained) // 4


def test_a_synonym_of_something_banned_is_not_retained() -> None:
    probes = probe_set(a_card(), a_plan(("puppy",), retain=("dog", "cat")))
    kept = {word for p in probes.retained for word in labels_of(probes, p)}
    assert kept.isdisjoint({"dog", "puppy"})


def test_a_thing_that_is_named_with_a_banned_word_is_not_retained_unasked() -> None:
    probes = probe_set(a_card(), a_plan(("dog",), ("fire",)))
    kept = {word for p in probes.retained for word in labels_of(probes, p)}
    assert kept == {"cat", "kitten", "wolf", "apple", "car"}


def test_a_banned_style_is_in_no_retained_prompt() -> None:
    probes = probe_set(a_card(), a_plan(("ink style",)))
    assert probes.retained
    assert not [p for p in probes.retained if "ink" in p.prompt]


@given(
    st.lists(st.sampled_from(NOUNS), min_size=1, max_size=60, unique=True),
    st.integers(0, 2**31),
)
def test_nothing_banned_is_ever_retained(banned: list[str], seed: int) -> None:
    plan = a_plan(*((noun,) for noun in banned))
    probes = probe_set(petal.card(), plan, seed=seed)
    forbidden = whole_words(banned)
    hits = {index for probe in probes.banned for index in probe.expected}
    for probe in probes.retained:
        assert not forbidden.search(probe.prompt)
        assert hits.isdisjoint(probe.expected)
        assert not probe.concept
    assert {p.concept for p in probes.banned} == {c.name for c in plan.concepts}


def test_another_plan_asks_the_same_of_what_both_retain() -> None:
    """So that answers about the base model can be kept from plan to plan."""
    card = petal.card()
    one = probe_set(card, a_plan(("dog",), ("bomb",)))
    two = probe_set(card, a_plan(("dog",), ("bomb",), ("car",)))
    shared = set(one.retained) & set(two.retained)
    assert len(shared) > 60
    assert one.labels == two.labels


def test_without_vocabulary_only_what_policies_name_is_retained() -> None:
    card = ModelCard()
    named = probe_set(card, a_plan(("dog",), retain=("cat", "sofa")))
    assert len(named.retained) == 96
    assert {p.expected for p in named.retained} == {(1,), (2,)}
    assert probe_set(card, a_plan(("dog",))).retained == ()


def test_the_empty_plan_has_no_probes() -> None:
    assert probe_set(a_card(), a_plan()).probes == ()


@pytest.mark.parametrize(
    ("concepts", "each"), [(1, 64), (3, 22), (5, 20), (8, 20), (16, 10), (52, 10)]
)
def test_sample_sizes(concepts: int, each: int) -> None:
    assert SampleSizes().for_concepts(concepts) == each


@pytest.mark.parametrize("field", ["per_concept", "min_pooled", "retained"])
def test_no_sample_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="sample sizes"):
        replace(SampleSizes(), **{field: 0})


def test_deciding_needs_no_torch() -> None:
    code = (
        "import sys; import myosotis.validation.probes, myosotis.validation.gating,"
        " myosotis.validation.scoring, myosotis.validation.detection,"
        " myosotis.unlearning.cancellation;"
        " sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0
