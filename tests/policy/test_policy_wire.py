from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Category, Gate, Method
from myosotis.policy.policies import (
    Enforcement,
    PolicyRevision,
    PromptAction,
    PromptRules,
)
from myosotis.policy.wire import (
    policy_content_to_wire,
    policy_from_wire,
    policy_to_wire,
    revision_to_wire,
)
from myosotis.v1 import policy_pb2

from tests.policy.builders import NOON, a_concept, a_policy


@given(
    category=st.sampled_from(Category),
    method=st.sampled_from(Method),
    enforcement=st.sampled_from(Enforcement),
    rules=st.builds(
        PromptRules, st.sampled_from(PromptAction), st.sampled_from(PromptAction)
    ),
    gate=st.none() | st.builds(Gate, st.floats(0, 1), st.floats(0, 1)),
    title=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200),
)
def test_a_policy_survives_the_wire(  # noqa: PLR0913 - the fields of a policy
    *,
    category: Category,
    method: Method,
    enforcement: Enforcement,
    rules: PromptRules,
    gate: Gate | None,
    title: str,
) -> None:
    concept = a_concept(
        category=category, method=method, gate=gate, anchor="thing", retain=("fork",)
    )
    policy = a_policy(
        "p", concept, title=title, enforcement=enforcement, moderation=rules
    )

    encoded = policy_content_to_wire(policy).SerializeToString()

    assert policy_from_wire(policy_pb2.Policy.FromString(encoded)) == policy


def _message(**concept: Any) -> policy_pb2.Policy:  # noqa: ANN401 - any field
    return policy_pb2.Policy(
        name="policies/p",
        models=["models/petal"],
        concepts=[
            policy_pb2.Concept(
                **{"id": "a", "category": "HARMFUL", "phrases": ["gun"]} | concept
            )
        ],
    )


@pytest.mark.parametrize(
    ("concept", "field"),
    [
        ({"phrases": []}, "policy.concepts[0].phrases"),
        ({"phrases": ["gun", "..."]}, "policy.concepts[0].phrases[1]"),
        ({"phrases": ["gun\x1b[2J"]}, "policy.concepts[0].phrases[0]"),
        ({"category": 0}, "policy.concepts[0].category"),
        ({"category": 77}, "policy.concepts[0].category"),
        ({"id": "A"}, "policy.concepts[0].id"),
        ({"references": ["a.png"]}, "policy.concepts[0].references"),
        (
            {"gate": {"max_detection_rate": float("nan")}},
            "policy.concepts[0].gate.max_detection_rate",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_path(
    concept: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        policy_from_wire(_message(**concept))

    assert refused.value.field == field


def test_unset_fields_get_their_defaults() -> None:
    policy = policy_from_wire(_message())

    assert policy.enforcement is Enforcement.ENFORCED
    assert policy.moderation == PromptRules(PromptAction.BLOCK, PromptAction.FLAG)
    assert policy.concepts[0].method is Method.AUTO
    assert policy.concepts[0].gate is None


def test_half_a_gate_is_filled_from_its_category() -> None:
    policy = policy_from_wire(_message(gate={"max_retained_loss": 0.5}))

    assert policy.concepts[0].gate == Gate(0.10, 0.5)


def test_a_stored_policy_says_where_it_comes_from() -> None:
    policy = a_policy()
    later = NOON.replace(hour=13)
    revision = PolicyRevision(7, policy.name, policy, later, "a.yaml", NOON)

    message = policy_to_wire(revision)

    assert (message.revision, message.source_file) == (7, "a.yaml")
    assert message.etag == policy.etag
    assert message.create_time.seconds == NOON.timestamp()
    assert message.update_time.seconds == later.timestamp()


def test_a_deletion_has_no_snapshot() -> None:
    revision = PolicyRevision(7, "policies/p", a_policy("p"), NOON)

    deleted = revision_to_wire(replace(revision, policy=None))

    assert deleted.deleted
    assert not deleted.HasField("snapshot")
    assert revision_to_wire(revision).snapshot.revision == 7
