from collections.abc import Collection
from pathlib import Path

import pytest
from myosotis.errors import PolicySyntaxError
from myosotis.policy.files import PolicyFile, PolicyFolder
from myosotis.policy.policies import Policy, Registry
from myosotis.policy.ports import PolicyChange
from myosotis.policy.sync import plan_sync

from tests.policy.builders import a_concept, a_policy, a_registry

EMPTY = Registry(0, ())


def a_file(name: str, policy: Policy) -> PolicyFile:
    return PolicyFile(Path(name), policy, {})


def a_folder(*files: PolicyFile, broken: Collection[str] = ()) -> PolicyFolder:
    errors = [PolicySyntaxError("", "broken", Path(name), 1, 1) for name in broken]
    return PolicyFolder(files, tuple(errors))


def test_a_new_file_is_stored() -> None:
    policy = a_policy()

    plan = plan_sync(EMPTY, a_folder(a_file("a.yaml", policy)))

    assert plan.changes == (PolicyChange(policy.name, policy, "a.yaml"),)
    assert plan.errors == ()


def test_a_file_that_says_the_same_changes_nothing() -> None:
    policy = a_policy()

    plan = plan_sync(
        a_registry(policy, file="a.yaml"), a_folder(a_file("a.yaml", policy))
    )

    assert plan.changes == ()


def test_an_edited_file_is_stored() -> None:
    edited = a_policy("weapons", a_concept("knife"))

    plan = plan_sync(
        a_registry(a_policy(), file="a.yaml"), a_folder(a_file("a.yaml", edited))
    )

    assert plan.changes == (PolicyChange(edited.name, edited, "a.yaml"),)


def test_the_policy_of_a_file_that_is_gone_is_deleted() -> None:
    plan = plan_sync(a_registry(a_policy(), file="a.yaml"), a_folder())

    assert plan.changes == (PolicyChange("policies/weapons", None, "a.yaml"),)


def test_a_policy_of_the_api_is_left_alone() -> None:
    assert plan_sync(a_registry(a_policy()), a_folder()).changes == ()


def test_a_broken_file_keeps_its_policy() -> None:
    plan = plan_sync(a_registry(a_policy(), file="a.yaml"), a_folder(broken=["a.yaml"]))

    assert plan.changes == ()
    assert [error.path.name for error in plan.errors] == ["a.yaml"]


@pytest.mark.parametrize(
    ("keeper", "broken"), [("", ()), ("b.yaml", ("b.yaml",))], ids=["api", "file"]
)
def test_a_policy_that_somebody_else_keeps_is_not_taken_over(
    keeper: str, broken: tuple[str, ...]
) -> None:
    mine = a_policy("weapons", a_concept("knife"))

    plan = plan_sync(
        a_registry(a_policy(), file=keeper),
        a_folder(a_file("a.yaml", mine), broken=broken),
    )

    assert plan.changes == ()
    assert [error.path.name for error in plan.errors] == ["a.yaml", *broken]


def test_a_renamed_file_takes_its_policy_along() -> None:
    policy = a_policy()

    plan = plan_sync(
        a_registry(policy, file="a.yaml"), a_folder(a_file("b.yaml", policy))
    )

    assert plan.changes == (PolicyChange(policy.name, policy, "b.yaml"),)


def test_two_files_can_swap_their_policies() -> None:
    one, two = a_policy("one"), a_policy("two")
    stored = plan_sync(EMPTY, a_folder(a_file("a.yaml", one), a_file("b.yaml", two)))
    registry = a_registry(one, file="a.yaml")
    other = a_registry(two, file="b.yaml")
    both = Registry(2, registry.policies + other.policies)

    plan = plan_sync(both, a_folder(a_file("a.yaml", two), a_file("b.yaml", one)))

    assert len(stored.changes) == 2
    assert plan.changes == (
        PolicyChange("policies/one", one, "b.yaml"),
        PolicyChange("policies/two", two, "a.yaml"),
    )


def test_a_file_that_gets_another_policy_name_replaces_one_by_the_other() -> None:
    renamed = a_policy("other")

    plan = plan_sync(
        a_registry(a_policy(), file="a.yaml"), a_folder(a_file("a.yaml", renamed))
    )

    assert plan.changes == (
        PolicyChange("policies/other", renamed, "a.yaml"),
        PolicyChange("policies/weapons", None, "a.yaml"),
    )
