"""What must survive an erasure: chosen from card and policy, without tensors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import fold

if TYPE_CHECKING:
    from myosotis.policy.plans import ErasurePlan
    from myosotis.unlearning.models import ModelCard, Vocable


@dataclass(frozen=True, slots=True)
class Retained:
    """The phrases that must survive.

    Attributes:
        automatic: from the card's vocabulary; empty where it has none.
        named: from the policies' ``retain`` lists, in order, distinct.
    """

    automatic: tuple[str, ...]
    named: tuple[str, ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.named, *self.automatic)))


def retained_phrases(card: "ModelCard", plan: "ErasurePlan") -> Retained:
    """What *plan* leaves: the vocabulary without what is banned, and its retain lists.

    A thing goes with all its words as soon as one of them is banned, from the retain
    lists too: who bans the dog cannot keep the puppy.

    Raises:
        InvalidArgumentError: naming the concept that retains a banned phrase.
    """
    banned = plan.phrases
    for planned in plan.concepts:
        for phrase in planned.concept.retain:
            if fold(phrase) in banned:
                raise InvalidArgumentError(
                    planned.name, f"retains {phrase!r}, which is banned"
                )
    free = [v for v in card.vocabulary if not _words(v) & banned]
    gone = {w for v in card.vocabulary if _words(v) & banned for w in _words(v)}
    named = dict.fromkeys(
        phrase
        for planned in plan.concepts
        for phrase in planned.concept.retain
        if fold(phrase) not in gone
    )
    automatic = tuple(word for v in free for word in (v.noun, *v.synonyms))
    return Retained(automatic, tuple(named))


def _words(vocable: "Vocable") -> frozenset[str]:
    return frozenset(fold(word) for word in (vocable.noun, *vocable.synonyms))
