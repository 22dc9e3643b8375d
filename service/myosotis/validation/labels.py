"""Labels: what a detector chooses from when it looks at a probe's picture.

Every concept of the model's vocabulary is one label, and so is every phrase of the plan
that the vocabulary does not hold. A banned concept is detected where the best label is
any of its own: one phrase that the detector does not understand must not blur the ones
that it does, since that would hide what is still drawn.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from myosotis.policy.concepts import fold
from myosotis.policy.plans import ErasurePlan
from myosotis.unlearning.models import Vocable


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one plan.

    Attributes:
        groups: each label as the phrases that mean it.
        indices: of the labels that hold a phrase, by folded phrase.
        banned: indices of the labels that are banned.
        retained_phrases: what policies retain, without what is banned.
        touched_groups: groups of the vocabulary that hold something banned.
    """

    groups: tuple[tuple[str, ...], ...]
    indices: Mapping[str, tuple[int, ...]]
    banned: frozenset[int]
    retained_phrases: tuple[str, ...]
    touched_groups: frozenset[str]

    @classmethod
    def of(cls, vocabulary: Sequence[Vocable], plan: ErasurePlan) -> Self:
        """The labels of *plan* for a model with *vocabulary*, which may be empty."""
        retained = {
            fold(phrase): phrase for c in plan.concepts for phrase in c.concept.retain
        }
        words = [(vocable.noun, *vocable.synonyms) for vocable in vocabulary]
        known = _indices(words)
        own = dict.fromkeys(sorted(plan.phrases) + sorted(retained))
        groups = (*words, *((phrase,) for phrase in own if phrase not in known))
        indices = _indices(groups)
        banned = {index for phrase in plan.phrases for index in indices[phrase]}
        return cls(
            groups,
            indices,
            frozenset(banned),
            # The label of a banned synonym is banned as a whole, so a policy that bans
            # the dog and retains the puppy retains nothing: the ban wins.
            tuple(
                retained[phrase]
                for phrase in sorted(retained)
                if banned.isdisjoint(indices[phrase])
            ),
            frozenset(vocabulary[i].group for i in banned if i < len(vocabulary)),
        )

    def matching(self, phrases: Iterable[str]) -> tuple[int, ...]:
        """Indices of the labels that hold any of *phrases*, sorted."""
        found = {i for phrase in phrases for i in self.indices.get(fold(phrase), ())}
        return tuple(sorted(found))

    def is_banned(self, phrase: str) -> bool:
        """Whether *phrase*, or a synonym of it, is banned."""
        return not self.banned.isdisjoint(self.matching([phrase]))


def whole_words(phrases: Iterable[str]) -> re.Pattern[str]:
    """Finds any of *phrases*, at least one, as whole words in folded text."""
    alternatives = "|".join(re.escape(fold(phrase)) for phrase in sorted(phrases))
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)")


def _indices(groups: Sequence[Sequence[str]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for index, group in enumerate(groups):
        for word in {fold(word) for word in group}:
            found[word] = (*found.get(word, ()), index)
    return found
