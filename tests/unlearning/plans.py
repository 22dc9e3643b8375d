"""Plans, in one line each."""

import re

from myosotis.policy.concepts import Category, Concept, Method
from myosotis.policy.plans import ErasurePlan, PlannedConcept


def banned(
    *phrases: str,
    method: Method = Method.AUTO,
    anchor: str = "",
    retain: tuple[str, ...] = (),
    policy: str = "p",
    category: Category = Category.OBJECT,
) -> PlannedConcept:
    slug = re.sub("[^a-z]+", "-", phrases[0])[:60].strip("-")
    concept = Concept(
        slug, category, phrases, method=method, anchor=anchor, retain=retain
    )
    return PlannedConcept(f"policies/{policy}/concepts/{slug}", concept)


def plan_of(*concepts: PlannedConcept, model: str = "models/tiny") -> ErasurePlan:
    return ErasurePlan(model, tuple(sorted(concepts, key=lambda c: c.name)))
