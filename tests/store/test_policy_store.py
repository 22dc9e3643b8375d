from dataclasses import replace

import pytest
from myosotis.errors import ConflictError, IntegrityError
from myosotis.policy.concepts import Gate
from myosotis.policy.policies import Enforcement, PromptAction, PromptRules, Registry
from myosotis.policy.ports import PolicyChange, PolicyStore
from myosotis.store.memory import InMemoryPolicyStore
from myosotis.store.policies import SqlPolicyStore
from sqlalchemy import Engine, text

from tests.policy.builders import NOON, a_concept, a_policy

LATER = NOON.replace(hour=13, microsecond=123456)


@pytest.fixture(params=["memory", "sql"])
def policies(request: pytest.FixtureRequest) -> PolicyStore:
    if request.param == "memory":
        return InMemoryPolicyStore()
    return SqlPolicyStore(request.getfixturevalue("engine"))


def keep(policies: PolicyStore, *changes: PolicyChange, at: int = 0) -> Registry:
    return policies.change(changes, expected_revision=at, now=NOON)


def kept(name: str, file: str = "") -> PolicyChange:
    return PolicyChange(f"policies/{name}", a_policy(name), file)


def gone(name: str) -> PolicyChange:
    return PolicyChange(f"policies/{name}", None)


def test_a_new_registry_is_empty_and_at_revision_zero(policies: PolicyStore) -> None:
    assert policies.registry() == Registry(0, ())


def test_every_field_of_a_policy_is_kept(policies: PolicyStore) -> None:
    concept = a_concept(
        phrases=("pistol", "água 拳銃 🔫x"),
        exceptions=("glue pistol",),
        anchor="a thing",
        retain=("fork",),
        gate=Gate(0.125, 0.1 + 0.2),
    )
    policy = a_policy(
        "whole",
        concept,
        title="A title",
        enforcement=Enforcement.DRY_RUN,
        moderation=PromptRules(PromptAction.FLAG, PromptAction.ALLOW),
    )
    changed = policies.change(
        [PolicyChange(policy.name, policy, "a.yaml")], expected_revision=0, now=LATER
    )

    assert policies.registry() == changed
    (revision,) = changed.policies
    assert revision.policy == policy
    assert revision.source_file == "a.yaml"
    assert revision.create_time == LATER


def test_each_change_gets_its_own_revision(policies: PolicyStore) -> None:
    registry = keep(policies, kept("b"), kept("a"))

    assert registry.revision == 2
    numbers = {r.policy_name: r.number for r in registry.policies}
    assert numbers == {"policies/a": 2, "policies/b": 1}
    assert [p.name for p in registry] == ["policies/a", "policies/b"]


def test_a_stale_change_is_refused_and_stores_nothing(policies: PolicyStore) -> None:
    before = keep(policies, kept("a"))

    with pytest.raises(ConflictError):
        keep(policies, kept("b"), at=0)

    assert policies.registry() == before


def test_a_deleted_policy_keeps_its_history(policies: PolicyStore) -> None:
    keep(policies, kept("a", "a.yaml"))

    registry = keep(policies, gone("a"), at=1)

    assert registry == Registry(2, ())
    assert policies.registry() == registry
    deleted, first = policies.revisions("policies/a", limit=9)
    assert (deleted.number, deleted.policy) == (2, None)
    assert (first.number, first.source_file) == (1, "a.yaml")


def test_the_time_of_creation_survives_edits_and_not_deletion(
    policies: PolicyStore,
) -> None:
    keep(policies, kept("a"))
    edit = policies.change([kept("a")], expected_revision=1, now=LATER)
    keep(policies, gone("a"), at=2)
    again = policies.change([kept("a")], expected_revision=3, now=LATER)

    assert edit.policies[0].first_create_time == NOON
    assert edit.policies[0].create_time == LATER
    assert again.policies[0].first_create_time == LATER


def test_revisions_come_newest_first_and_in_pages(policies: PolicyStore) -> None:
    keep(policies, kept("a"), kept("b"), kept("a"), kept("a"))

    numbers = [r.number for r in policies.revisions("policies/a", limit=2)]
    assert numbers == [4, 3]
    older = policies.revisions("policies/a", limit=2, before=3)
    assert [r.number for r in older] == [1]
    assert policies.revisions("policies/never", limit=2) == ()


def test_no_changes_are_no_revision(policies: PolicyStore) -> None:
    assert keep(policies).revision == 0


def test_the_etag_of_a_stored_policy_is_that_of_the_policy(engine: Engine) -> None:
    policy = a_policy("a", a_concept(gate=Gate(0.1, 1 / 3)))
    SqlPolicyStore(engine).change(
        [PolicyChange(policy.name, policy)], expected_revision=0, now=NOON
    )

    (stored,) = SqlPolicyStore(engine).registry()

    assert stored.etag == policy.etag
    assert replace(policy, title="x").etag != policy.etag


@pytest.mark.parametrize(
    "damage",
    [
        "document = '{}'",
        "document = substr(document, 1, 40)",
        "document = replace(document, 'HARMFUL', 'HARMLESS')",
        "document = replace(document, 'models/petal', 'petal')",
        "create_time = 'yesterday'",
        "first_create_time = x'ff'",
    ],
)
def test_a_policy_that_does_not_parse_is_corrupt(engine: Engine, damage: str) -> None:
    store = SqlPolicyStore(engine)
    keep(store, kept("a"))
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE policy_revisions SET {damage}"))  # noqa: S608 - from above

    with pytest.raises(IntegrityError) as corrupt:
        store.registry()

    assert corrupt.value.name == "policies/a/revisions/1"
