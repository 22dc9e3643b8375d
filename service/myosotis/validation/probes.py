"""Probe sets: the prompts and seeds on which a model is measured before and after.

Unlearning never trains on them. Seeds have a salt of their own, and half of the prompts
use wordings that no model card holds, so a patch that only learned the card's sentences
by heart is found out. A probe depends on the model and on what it asks for, not on the
rest of the plan, so that answers of the base model can be kept from plan to plan.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from myosotis.digests import canonical_json
from myosotis.policy.concepts import fold
from myosotis.policy.plans import ErasurePlan, PlannedConcept
from myosotis.unlearning.models import ModelCard
from myosotis.validation.labels import Labels, whole_words

_SALT = "validate"
_SEED_BITS = 62

HELD_OUT_TEMPLATES = (
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "look at {}",
)
"""Wordings for measuring alone, as far as a card lacks them.

Unlearning must not use them. Short, because a small model draws what it was trained to
read, and a probe that the base cannot draw measures nothing.
"""

# One banned probe in this many uses another phrase than the concept's first.
_OTHER_PHRASE_EVERY = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """One picture to draw, and what it is asked to show.

    Attributes:
        prompt: the whole prompt.
        seed: of its noise; [0, 2**62).
        expected: indices of the labels that count as a hit; at least one.
        concept: banned concept, ``policies/*/concepts/*``; empty when retained.
    """

    prompt: str
    seed: int
    expected: tuple[int, ...]
    concept: str = ""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """What is drawn, and the labels that the detector chooses from.

    Attributes:
        labels: groups of phrases.
        banned: probes that ask for banned concepts.
        retained: probes that ask for what must survive; empty when nothing is known
            of the model and no policy names anything, and then nothing can pass.
    """

    labels: tuple[tuple[str, ...], ...]
    banned: tuple[Probe, ...]
    retained: tuple[Probe, ...]

    @property
    def probes(self) -> tuple[Probe, ...]:
        return self.banned + self.retained


@dataclass(frozen=True, slots=True)
class SampleSizes:
    """How many pictures.

    Twenty of a concept, or ten where there are many: bounds on detection are multiples
    of a twentieth, or of a tenth, so they can be met exactly. Of 16 pictures a bound of
    0.10 lets one be a hit, as a bound of 0.07 would.

    Attributes:
        per_concept: wanted for each banned concept.
        min_pooled: at least so many over all banned concepts.
        max_pooled: at most so many over all banned concepts, as far as
            ``min_per_concept`` allows.
        min_per_concept: never fewer for one concept.
        retained: over all retained concepts.
    """

    per_concept: int = 20
    min_pooled: int = 64
    max_pooled: int = 160
    min_per_concept: int = 10
    retained: int = 96

    def __post_init__(self) -> None:
        sizes = (self.per_concept, self.min_pooled, self.min_per_concept, self.retained)
        if min(sizes) < 1 or self.max_pooled < self.min_pooled:
            raise ValueError(f"no sample sizes: {self}")

    def for_concepts(self, count: int) -> int:
        """Probes of each of *count* banned concepts."""
        pooled = min(self.max_pooled, max(self.min_pooled, self.per_concept * count))
        return max(self.min_per_concept, -(-pooled // count))


DEFAULT_SIZES = SampleSizes()


def probe_set(
    card: ModelCard,
    plan: ErasurePlan,
    *,
    seed: int = 0,
    sizes: SampleSizes = DEFAULT_SIZES,
) -> ProbeSet:
    """The probes of a plan: equal arguments give equal probes.

    The empty plan has none: it changes nothing, so there is nothing to measure.

    Args:
        card: of the plan's model.
        plan: the banned concepts, and the phrases that their policies retain.
        seed: another one gives other pictures.
        sizes: how many.
    """
    labels = Labels.of(card.vocabulary, plan)
    if not plan.concepts:
        return ProbeSet(labels.groups, (), ())
    draw = _Draw(card, plan.model, labels, whole_words(plan.phrases), seed)
    count = sizes.for_concepts(len(plan.concepts))
    return ProbeSet(
        labels.groups,
        tuple(chain.from_iterable(draw.banned(c, count) for c in plan.concepts)),
        draw.retained(sizes.retained),
    )


@dataclass(frozen=True, slots=True)
class _Draw:
    """The choices that belong to one probe set."""

    card: ModelCard
    model: str
    labels: Labels
    banned_words: re.Pattern[str]
    seed: int

    def banned(self, planned: PlannedConcept, count: int) -> list[Probe]:
        first, *others = planned.concept.phrases
        expected = self.labels.matching(planned.concept.phrases)
        probes = []
        for index in range(count):
            turn, last = divmod(index, _OTHER_PHRASE_EVERY)
            is_other = bool(others) and last == _OTHER_PHRASE_EVERY - 1
            phrase = others[turn % len(others)] if is_other else first
            prompt = self._prompts(phrase, index)[0]
            number = self._number(planned.name, phrase, index)
            probes.append(Probe(prompt, number, expected, planned.name))
        return probes

    def retained(self, count: int) -> tuple[Probe, ...]:
        """Half near what is banned, half far from it; one half fills up the other."""
        near, far = self._near(count), self._far()
        near_count = count // 2 if near and far else count if near else 0
        far_count = count - near_count if far else 0
        return tuple(
            self._keeping(things[index % len(things)], index // len(things))
            for things, wanted in ((near, near_count), (far, far_count))
            for index in range(wanted)
        )

    def _near(self, count: int) -> list[str]:
        """Phrases that policies retain, then things of the banned ones' groups.

        Policies name at most a quarter of all pictures where the model has a
        vocabulary: a list of things that it never drew cannot be lost, and must not
        hide what is.
        """
        asked = self._shuffled(self.labels.retained_phrases)
        if not self.card.vocabulary:
            return asked
        groups = self.labels.touched_groups
        free = self._free()
        same_group = [noun for noun, group in free.items() if group in groups]
        kept = asked[: max(1, count // 4)]
        named = {index for phrase in kept for index in self.labels.matching([phrase])}
        return kept + [
            noun
            for noun in self._shuffled(same_group)
            if named.isdisjoint(self.labels.matching([noun]))
        ]

    def _far(self) -> list[str]:
        groups = self.labels.touched_groups
        return self._shuffled([n for n, g in self._free().items() if g not in groups])

    def _free(self) -> dict[str, str]:
        """Group of each noun that no ban touches and that can be asked for."""
        return {
            vocable.noun: vocable.group
            for vocable in self.card.vocabulary
            if not self.labels.is_banned(vocable.noun)
            and self._innocent_prompts(vocable.noun, 0)
        }

    def _keeping(self, phrase: str, repeat: int) -> Probe:
        start = self._number("wording", phrase, 0) + repeat
        prompts = self._innocent_prompts(phrase, start)
        prompt = prompts[0] if prompts else self._prompts(phrase, start)[0]
        number = self._number("retained", phrase, repeat)
        return Probe(prompt, number, self.labels.matching([phrase]))

    def _innocent_prompts(self, phrase: str, start: int) -> list[str]:
        """Prompts that hold no banned phrase: ``fire truck`` does, where fire is."""
        return [
            prompt
            for prompt in self._prompts(phrase, start)
            if not self.banned_words.search(fold(prompt))
        ]

    def _prompts(self, phrase: str, start: int) -> list[str]:
        """*phrase* in every wording: the card's and the held-out ones in turn."""
        own = self.card.templates
        held_out = [t for t in HELD_OUT_TEMPLATES if t not in own] or own
        turns = range(start, start + 2 * max(len(own), len(held_out)))
        wordings = [(held_out if t % 2 else own, t // 2) for t in turns]
        templates = dict.fromkeys(choice[t % len(choice)] for choice, t in wordings)
        return list(self.card.prompts(phrase, tuple(templates)))

    def _shuffled(self, phrases: Sequence[str]) -> list[str]:
        """*phrases* in an order of their own: leaving one out moves no other."""
        return sorted(phrases, key=lambda p: self._number("order", fold(p), 0))

    def _number(self, purpose: str, phrase: str, index: int) -> int:
        """A number in [0, 2**62) that looks random."""
        what = [_SALT, self.seed, self.model, purpose, phrase, index]
        digest = hashlib.sha256(canonical_json(what)).digest()
        return int.from_bytes(digest[:8]) >> (64 - _SEED_BITS)
