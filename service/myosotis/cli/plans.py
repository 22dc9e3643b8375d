"""Plans from the words of a command line."""

import re
from collections.abc import Sequence

from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Category, Concept, Method
from myosotis.policy.plans import ErasurePlan, PlannedConcept
from myosotis.policy.policies import Policy

POLICY = "policies/command-line"


def plan_of_words(
    model: str,
    concepts: Sequence[str],
    *,
    retain: Sequence[str] = (),
    method: Method = Method.AUTO,
) -> ErasurePlan:
    """The plan that bans *concepts*, held to the rules of any policy.

    Args:
        model: ``models/{model}``.
        concepts: one concept each, its phrases parted by commas, the usual one first.
        retain: phrases that must survive.
        method: of every concept.

    Raises:
        InvalidArgumentError: no concept, a concept without words, or one that is also
            retained.
    """
    if not concepts:
        raise InvalidArgumentError("concept", "name at least one, as --concept WORDS")
    kept = tuple(dict.fromkeys(retain))
    named: dict[str, Concept] = {}
    for number, text in enumerate(concepts, start=1):
        phrases = tuple(part.strip() for part in text.split(","))
        identity = _identity(phrases[0], number)
        if identity in named:
            raise InvalidArgumentError("concept", f"{phrases[0]!r} is named twice")
        named[identity] = Concept(
            identity, Category.OBJECT, phrases, retain=kept, method=method
        )
    policy = Policy(POLICY, (model,), tuple(named.values()))
    planned = (PlannedConcept(policy.concept_name(c), c) for c in policy.concepts)
    return ErasurePlan(model, tuple(sorted(planned, key=lambda item: item.name)))


def _identity(phrase: str, number: int) -> str:
    """An id that people recognise, or a number where the words give none."""
    words = re.findall(r"[a-z0-9]+", phrase.casefold())
    identity = "-".join(words)[:63].strip("-")
    return identity if identity[:1].isalpha() else f"concept-{number}"
