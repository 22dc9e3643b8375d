"""Policies between their values and their protobuf form. Pure and total."""

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

from google.protobuf.message import Message

from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import (
    DEFAULT_GATES,
    Action,
    Category,
    Concept,
    Gate,
    Method,
)
from myosotis.policy.policies import (
    Enforcement,
    Policy,
    PolicyRevision,
    PromptAction,
    PromptRules,
)
from myosotis.v1 import policy_pb2, policy_service_pb2

E = TypeVar("E", bound=StrEnum)

# Control characters and lone surrogates: they break lines, databases and encoders.
_UNWRITABLE = frozenset({"Cc", "Cs"})


def policy_from_wire(message: policy_pb2.Policy, *, path: str = "policy") -> Policy:
    """The policy that *message* describes; its output-only fields are ignored.

    Args:
        message: the message.
        path: dotted path of *message* in the request; empty when it is the whole.

    Raises:
        InvalidArgumentError: naming the field, for example
            ``policy.concepts[0].phrases``.
    """
    with _within(path):
        return Policy(
            name=_text("name", message.name),
            models=_texts("models", message.models),
            concepts=tuple(
                concept_from_wire(concept, path=f"concepts[{index}]")
                for index, concept in enumerate(message.concepts)
            ),
            title=_text("title", message.title),
            enforcement=_enum(
                Enforcement, message, "enforcement", default=Enforcement.ENFORCED
            ),
            moderation=_rules_from_wire(message.moderation),
        )


def concept_from_wire(message: policy_pb2.Concept, *, path: str = "concept") -> Concept:
    """The concept that *message* describes.

    Raises:
        InvalidArgumentError: naming the field below *path*.
    """
    with _within(path):
        if message.references:
            raise InvalidArgumentError(
                "references", "reference pictures are not supported by this version"
            )
        category = _enum(Category, message, "category")
        return Concept(
            id=_text("id", message.id),
            category=category,
            phrases=_texts("phrases", message.phrases),
            action=_enum(Action, message, "action", default=Action.FORGET),
            exceptions=_texts("exceptions", message.exceptions),
            anchor=_text("anchor", message.anchor),
            retain=_texts("retain", message.retain),
            method=_enum(Method, message, "method", default=Method.AUTO),
            gate=_gate_from_wire(message.gate, DEFAULT_GATES[category]),
        )


def policy_to_wire(revision: PolicyRevision) -> policy_pb2.Policy:
    """One form of a policy, with all that is output only; only its name if deleted."""
    message = policy_pb2.Policy(
        name=revision.policy_name,
        revision=revision.number,
        source_file=revision.source_file,
    )
    message.update_time.FromDatetime(revision.create_time)
    message.create_time.FromDatetime(revision.first_create_time or revision.create_time)
    if revision.policy is not None:
        message.MergeFrom(policy_content_to_wire(revision.policy))
        message.etag = revision.policy.etag
    return message


def policy_content_to_wire(policy: Policy) -> policy_pb2.Policy:
    """What people write in a policy, without what is output only."""
    return policy_pb2.Policy(
        name=policy.name,
        title=policy.title,
        enforcement=policy.enforcement,
        models=policy.models,
        concepts=[concept_to_wire(concept) for concept in policy.concepts],
        moderation=policy_pb2.PromptRules(
            until_active=policy.moderation.until_active,
            when_active=policy.moderation.when_active,
        ),
    )


def concept_to_wire(concept: Concept) -> policy_pb2.Concept:
    """The message that describes *concept*."""
    message = policy_pb2.Concept(
        id=concept.id,
        category=concept.category,
        action=concept.action,
        phrases=concept.phrases,
        exceptions=concept.exceptions,
        anchor=concept.anchor,
        retain=concept.retain,
        method=concept.method,
    )
    if concept.gate is not None:
        message.gate.max_detection_rate = concept.gate.max_detection_rate
        message.gate.max_retained_loss = concept.gate.max_retained_loss
    return message


def revision_to_wire(revision: PolicyRevision) -> policy_service_pb2.PolicyRevision:
    """One entry of a policy's history; without snapshot where it was deleted."""
    if revision.policy is None:
        return policy_service_pb2.PolicyRevision(name=revision.name, deleted=True)
    return policy_service_pb2.PolicyRevision(
        name=revision.name, snapshot=policy_to_wire(revision)
    )


def _rules_from_wire(message: policy_pb2.PromptRules) -> PromptRules:
    usual = PromptRules()
    with _within("moderation"):
        return PromptRules(
            *(
                _enum(PromptAction, message, field, default=getattr(usual, field))
                for field in ("until_active", "when_active")
            )
        )


def _gate_from_wire(message: policy_pb2.Gate, usual: Gate) -> Gate | None:
    """The gate, or None when nothing of it is set; *usual* fills what is missing."""
    given = [
        message.HasField(field) for field in ("max_detection_rate", "max_retained_loss")
    ]
    if not any(given):
        return None
    return Gate(
        message.max_detection_rate if given[0] else usual.max_detection_rate,
        message.max_retained_loss if given[1] else usual.max_retained_loss,
    )


def _enum(
    kind: type[E], message: Message, field: str, *, default: E | None = None
) -> E:
    number = getattr(message, field)
    names = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    if number == 0 and default is not None:
        return default
    if number == 0:
        raise InvalidArgumentError(field, f"required: one of {', '.join(kind)}")
    if number not in names:
        raise InvalidArgumentError(field, f"{number} is not one of {', '.join(kind)}")
    return kind(names[number].name)


def _texts(field: str, texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(_text(f"{field}[{i}]", text) for i, text in enumerate(texts))


def _text(field: str, text: str) -> str:
    for character in text:
        if unicodedata.category(character) in _UNWRITABLE:
            raise InvalidArgumentError(
                field, f"holds the control character U+{ord(character):04X}"
            )
    return text


@contextmanager
def _within(path: str) -> Iterator[None]:
    """Puts *path* before the field of an error that is raised inside."""
    try:
        yield
    except InvalidArgumentError as error:
        field = f"{path}.{error.field}" if path else error.field
        raise InvalidArgumentError(field, error.problem) from error
