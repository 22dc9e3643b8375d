"""Policies: lists of banned concepts, the models they hold for, and their revisions."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from myosotis import names
from myosotis.digests import fingerprint
from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Concept, fold

MAX_CONCEPTS = 1000
_PATTERN_CHARACTERS = frozenset("*?[")


class Enforcement(StrEnum):
    """DRY_RUN measures and reports, and changes nothing."""

    DRY_RUN = "DRY_RUN"
    ENFORCED = "ENFORCED"


class PromptAction(StrEnum):
    """What to do with a prompt that asks for a banned concept, mildest first."""

    ALLOW = "ALLOW"
    FLAG = "FLAG"
    BLOCK = "BLOCK"


@dataclass(frozen=True, slots=True)
class PromptRules:
    """What happens to prompts, until the patch is live on a server and from then on."""

    until_active: PromptAction = PromptAction.BLOCK
    when_active: PromptAction = PromptAction.FLAG


@dataclass(frozen=True, slots=True)
class Policy:
    """What the given models must not depict.

    Attributes:
        name: ``policies/{policy}``.
        models: model names or shell patterns, at least one.
        concepts: the banned concepts, at least one, ids distinct.
        title: what people call it.
        enforcement: whether it is in force.
        moderation: what happens to prompts.

    Raises:
        InvalidArgumentError: naming the field.
    """

    name: str
    models: tuple[str, ...]
    concepts: tuple[Concept, ...]
    title: str = ""
    enforcement: Enforcement = Enforcement.ENFORCED
    moderation: PromptRules = field(default_factory=PromptRules)

    def __post_init__(self) -> None:
        names.parse("policy", self.name)
        if len(self.title) > 200:  # noqa: PLR2004 - the proto states the same number
            raise InvalidArgumentError("title", "longer than 200 characters")
        if not self.models:
            raise InvalidArgumentError("models", "name at least one model")
        for index, pattern in enumerate(self.models):
            if not pattern.startswith("models/"):
                raise InvalidArgumentError(
                    f"models[{index}]", f"{pattern!r} does not start with models/"
                )
        if not self.concepts:
            raise InvalidArgumentError("concepts", "ban at least one concept")
        if len(self.concepts) > MAX_CONCEPTS:
            raise InvalidArgumentError("concepts", f"more than {MAX_CONCEPTS}")
        ids: set[str] = set()
        for index, concept in enumerate(self.concepts):
            if concept.id in ids:
                raise InvalidArgumentError(
                    f"concepts[{index}].id", f"{concept.id!r} is used twice"
                )
            ids.add(concept.id)
        _refuse_banned_retained(self.concepts)

    def holds_for(self, model: str) -> bool:
        """Whether *model*, a resource name, is one of its models."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def unknown_model(self, models: Collection[str]) -> int | None:
        """Index of the first model that is not among *models*; None if there is none.

        Patterns may match nothing: they are meant for models to come.
        """
        for index, pattern in enumerate(self.models):
            if pattern not in models and _PATTERN_CHARACTERS.isdisjoint(pattern):
                return index
        return None

    def concept_name(self, concept: Concept) -> str:
        return f"{self.name}/concepts/{concept.id}"

    @property
    def etag(self) -> str:
        """Changes exactly when the content changes."""
        return fingerprint(repr(self))[:32]


def _refuse_banned_retained(concepts: tuple[Concept, ...]) -> None:
    banned = {fold(phrase): c.id for c in concepts for phrase in c.phrases}
    for index, concept in enumerate(concepts):
        for place, phrase in enumerate(concept.retain):
            if fold(phrase) in banned:
                raise InvalidArgumentError(
                    f"concepts[{index}].retain[{place}]",
                    f"{phrase!r} is banned by concept {banned[fold(phrase)]!r}",
                )


@dataclass(frozen=True, slots=True)
class PolicyRevision:
    """One form that a policy has had.

    Attributes:
        number: registry revision; grows with every change to any policy.
        policy_name: ``policies/{policy}``.
        policy: its form from then on; None when this revision deleted it.
        create_time: when it was stored, UTC.
        source_file: name of the file in the policy folder, empty when from the API.
        first_create_time: when the policy was first stored since it was last deleted,
            UTC; None where a store did not say.
    """

    number: int
    policy_name: str
    policy: Policy | None
    create_time: datetime
    source_file: str = ""
    first_create_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.policy_name}/revisions/{self.number}"


@dataclass(frozen=True, slots=True)
class Registry:
    """Every policy in force or in dry run, at one revision.

    Attributes:
        revision: number of the last change; 0 when there was none.
        policies: the latest revision of each policy that is not deleted, by name.
    """

    revision: int
    policies: tuple[PolicyRevision, ...]

    def __iter__(self) -> Iterator[Policy]:
        return iter([r.policy for r in self.policies if r.policy is not None])
