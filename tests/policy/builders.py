from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from myosotis.policy.concepts import Category, Concept
from myosotis.policy.policies import Policy, PolicyRevision, Registry

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)

WEAPONS = b"""\
name: policies/weapons
models: [models/petal]
concepts:
  - {id: pistol, category: HARMFUL, phrases: [pistol]}
"""


def a_concept(phrase: str = "pistol", **fields: Any) -> Concept:  # noqa: ANN401 - any field
    usual = Concept(phrase.replace(" ", "-"), Category.HARMFUL, (phrase,))
    return replace(usual, **fields)


def a_policy(name: str = "weapons", *concepts: Concept, **fields: Any) -> Policy:  # noqa: ANN401 - any field
    usual = Policy(f"policies/{name}", ("models/petal",), concepts or (a_concept(),))
    return replace(usual, **fields)


def a_registry(*policies: Policy, file: str = "") -> Registry:
    revisions = [
        PolicyRevision(number, policy.name, policy, NOON, file)
        for number, policy in enumerate(policies, start=1)
    ]
    return Registry(len(revisions), tuple(revisions))
