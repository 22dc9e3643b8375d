"""Erasure plans: the whole list of concepts that a model is to forget."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from myosotis.digests import fingerprint
from myosotis.policy.concepts import Concept, fold
from myosotis.policy.policies import Enforcement, Policy


@dataclass(frozen=True, slots=True)
class PlannedConcept:
    """A concept with its resource name, ``policies/*/concepts/*``."""

    name: str
    concept: Concept


@dataclass(frozen=True)
class ErasurePlan:
    """Everything that decides what a patch contains.

    Attributes:
        model: ``models/{model}``.
        concepts: sorted by name, so that the order of edits does not matter. Empty
            is a plan too: the base itself.
        enforcement: DRY_RUN plans are measured and never rolled out.
    """

    model: str
    concepts: tuple[PlannedConcept, ...]
    enforcement: Enforcement = Enforcement.ENFORCED

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal; two equal plans need one run."""
        return fingerprint(asdict(self))

    @property
    def phrases(self) -> frozenset[str]:
        """Every banned phrase, folded."""
        return frozenset(
            fold(phrase) for c in self.concepts for phrase in c.concept.phrases
        )


def desired_plans(model: str, policies: Iterable[Policy]) -> tuple[ErasurePlan, ...]:
    """What *policies* ask of *model*: the enforced plan, and the dry run if any.

    The dry run measures what the model would be with the dry-run policies in force
    beside the enforced ones.
    """
    mine = [policy for policy in policies if policy.holds_for(model)]
    enforced = [p for p in mine if p.enforcement is Enforcement.ENFORCED]
    plans = [ErasurePlan(model, _concepts(enforced))]
    if len(enforced) < len(mine):
        plans.append(ErasurePlan(model, _concepts(mine), Enforcement.DRY_RUN))
    return tuple(plans)


def _concepts(policies: list[Policy]) -> tuple[PlannedConcept, ...]:
    """All concepts; one that retains what another policy bans does not retain it.

    Two teams may disagree; the ban wins, since it is what keeps pictures from harm.
    """
    planned = sorted(
        (PlannedConcept(p.concept_name(c), c) for p in policies for c in p.concepts),
        key=lambda item: item.name,
    )
    banned = {fold(phrase) for item in planned for phrase in item.concept.phrases}
    return tuple(
        replace(
            item,
            concept=replace(
                item.concept,
                retain=tuple(r for r in item.concept.retain if fold(r) not in banned),
            ),
        )
        for item in planned
    )
