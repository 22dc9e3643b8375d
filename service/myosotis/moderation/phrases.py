"""Finds banned phrases in prompts."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from myosotis.moderation.words import base_forms, words
from myosotis.policy.concepts import Concept
from myosotis.policy.policies import Policy, Registry


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """A banned concept that a prompt asks for.

    Attributes:
        policy: the policy that bans it.
        concept: what is banned.
        phrase: the phrase of the policy that was found.
    """

    policy: Policy
    concept: Concept
    phrase: str

    @property
    def concept_name(self) -> str:
        return self.policy.concept_name(self.concept)


@dataclass(slots=True)
class _Node:
    """Where the phrases stand after the words on the way here."""

    following: "dict[str, _Node]" = field(default_factory=dict)
    bans: list[PhraseMatch] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    end: int

    def is_inside(self, other: "_Span") -> bool:
        """Whether it is a part of *other*, and not all of it."""
        return self != other and other.first <= self.first and self.end <= other.end


class PhraseMatcher:
    """All phrases that the policies of one registry revision ban for one model.

    Compiling takes time in the number of phrases; matching, in the length of the
    prompt. It does not change and may be used from any thread.
    """

    def __init__(self, model: str, registry: Registry) -> None:
        self.model = model
        self.revision = registry.revision
        self._root = _Node()
        for policy in registry:
            if policy.holds_for(model):
                for concept in policy.concepts:
                    self._add(policy, concept)

    def matches(self, prompt: str) -> tuple[PhraseMatch, ...]:
        """Each concept that *prompt* asks for, once, in the order of the prompt.

        A banned phrase that is a part of an exception of its own concept does not
        count there.
        """
        bans: list[tuple[_Span, PhraseMatch]] = []
        exceptions: dict[str, list[_Span]] = {}
        for span, node in self._walk(words(prompt)):
            bans += [(span, match) for match in node.bans]
            for concept_name in node.exceptions:
                exceptions.setdefault(concept_name, []).append(span)
        found: dict[str, PhraseMatch] = {}
        for span, match in sorted(bans, key=lambda ban: (ban[0].first, -ban[0].end)):
            excused = exceptions.get(match.concept_name, ())
            if not any(span.is_inside(exception) for exception in excused):
                found.setdefault(match.concept_name, match)
        return tuple(found.values())

    def _add(self, policy: Policy, concept: Concept) -> None:
        for phrase in concept.phrases:
            node = self._node(phrase)
            node.bans.append(PhraseMatch(policy, concept, phrase))
        for phrase in concept.exceptions:
            self._node(phrase).exceptions.append(policy.concept_name(concept))

    def _node(self, phrase: str) -> _Node:
        node = self._root
        for word in words(phrase):
            node = node.following.setdefault(word, _Node())
        return node

    def _walk(self, prompt: tuple[str, ...]) -> Iterator[tuple[_Span, _Node]]:
        """Every phrase in *prompt*, banned or excepted."""
        forms = [tuple(base_forms(word)) for word in prompt]
        for first in range(len(prompt)):
            nodes = [self._root]
            for end in range(first, len(prompt)):
                nodes = [
                    node.following[form]
                    for node in nodes
                    for form in forms[end]
                    if form in node.following
                ]
                if not nodes:
                    break
                for node in nodes:
                    yield _Span(first, end + 1), node


class PhraseMatchers:
    """The matcher of each model, compiled once for each registry revision."""

    def __init__(self) -> None:
        self._matchers: dict[str, PhraseMatcher] = {}

    def matcher(self, model: str, registry: Registry) -> PhraseMatcher:
        """The matcher of *model* at *registry*. May be called from any thread."""
        matcher = self._matchers.get(model)
        if matcher is None or matcher.revision != registry.revision:
            matcher = PhraseMatcher(model, registry)
            self._matchers[model] = matcher
        return matcher
