"""Banned concepts: what a policy says about one thing that models must not depict."""

from dataclasses import dataclass
from enum import StrEnum

from myosotis import names
from myosotis.errors import InvalidArgumentError

MAX_PHRASES = 100
MAX_PHRASE_LENGTH = 100


class Category(StrEnum):
    """Kind of concept; gives the defaults of method and gate."""

    NSFW = "NSFW"
    HARMFUL = "HARMFUL"
    IDENTITY = "IDENTITY"
    OBJECT = "OBJECT"
    STYLE = "STYLE"


class Action(StrEnum):
    """What is done about a concept."""

    FORGET = "FORGET"
    CORRECT = "CORRECT"
    DISENTANGLE = "DISENTANGLE"


class Method(StrEnum):
    """How a concept is unlearned; AUTO chooses by category."""

    AUTO = "AUTO"
    ATTENTION_RESTEERING = "ATTENTION_RESTEERING"
    CLOSED_FORM = "CLOSED_FORM"


@dataclass(frozen=True, slots=True)
class Gate:
    """Bounds that a patch has to keep for one concept.

    Attributes:
        max_detection_rate: highest share of pictures, prompted for the concept, in
            which it is still detected; [0, 1].
        max_retained_loss: highest fall of the accuracy on retained concepts, before
            minus after; [0, 1].
    """

    max_detection_rate: float
    max_retained_loss: float

    def __post_init__(self) -> None:
        for field in ("max_detection_rate", "max_retained_loss"):
            if not 0 <= getattr(self, field) <= 1:
                raise InvalidArgumentError(f"gate.{field}", "not between 0 and 1")


# A policy that says nothing gets these. Identities and styles are harder to tell from
# their neighbours, so their bound on detection is wider.
DEFAULT_GATES = {
    Category.NSFW: Gate(0.05, 0.06),
    Category.HARMFUL: Gate(0.10, 0.06),
    Category.IDENTITY: Gate(0.15, 0.06),
    Category.OBJECT: Gate(0.10, 0.06),
    Category.STYLE: Gate(0.20, 0.08),
}


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that a model must not depict.

    Attributes:
        id: distinct within its policy.
        category: kind of concept.
        phrases: the words for it, the usual one first; at least one.
        action: what is done about it.
        exceptions: phrases that hold a banned word and stay allowed.
        anchor: what it is steered to; empty for an automatic choice.
        retain: neighbours that must survive, beside the automatic ones.
        method: how it is unlearned.
        gate: the bounds that a patch has to keep.

    Raises:
        InvalidArgumentError: naming the field, for anything out of range, for a
            phrase that is also retained, or for one that is its own anchor.
    """

    id: str
    category: Category
    phrases: tuple[str, ...]
    action: Action = Action.FORGET
    exceptions: tuple[str, ...] = ()
    anchor: str = ""
    retain: tuple[str, ...] = ()
    method: Method = Method.AUTO
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if not names.is_id(self.id):
            raise InvalidArgumentError("id", f"{self.id!r} is not a lower-case id")
        if not self.phrases:
            raise InvalidArgumentError("phrases", "a concept needs at least one phrase")
        for field in ("phrases", "exceptions", "retain"):
            _check_phrases(field, getattr(self, field))
        if self.anchor:
            _check_phrases("anchor", (self.anchor,))
        banned = {fold(phrase) for phrase in self.phrases}
        for index, phrase in enumerate(self.retain):
            if fold(phrase) in banned:
                raise InvalidArgumentError(
                    f"retain[{index}]", f"{phrase!r} is banned by the same concept"
                )
        if fold(self.anchor) in banned:
            raise InvalidArgumentError("anchor", "equals the concept itself")
        if self.action is not Action.FORGET:
            raise InvalidArgumentError(
                "action", f"{self.action} is not offered by this version"
            )

    @property
    def bounds(self) -> Gate:
        """The policy's gate, or the default of the category."""
        return self.gate or DEFAULT_GATES[self.category]


def fold(phrase: str) -> str:
    """*phrase* for comparison: case and repeated spaces do not count."""
    return " ".join(phrase.casefold().split())


def _check_phrases(field: str, phrases: tuple[str, ...]) -> None:
    if len(phrases) > MAX_PHRASES:
        raise InvalidArgumentError(field, f"more than {MAX_PHRASES}")
    seen: set[str] = set()
    for index, phrase in enumerate(phrases):
        where = f"{field}[{index}]" if field != "anchor" else field
        if not any(character.isalnum() for character in phrase):
            raise InvalidArgumentError(where, "has no letter or digit")
        if len(phrase) > MAX_PHRASE_LENGTH:
            raise InvalidArgumentError(
                where, f"longer than {MAX_PHRASE_LENGTH} characters"
            )
        if fold(phrase) in seen:
            raise InvalidArgumentError(where, f"{phrase!r} is listed twice")
        seen.add(fold(phrase))
