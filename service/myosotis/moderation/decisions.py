"""What is to be done with a prompt."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from myosotis.moderation.phrases import PhraseMatch
from myosotis.policy.concepts import Category
from myosotis.policy.policies import Enforcement, PromptAction

_STRICTNESS = {action: rank for rank, action in enumerate(PromptAction)}


@dataclass(frozen=True, slots=True)
class PromptFinding:
    """A concept that a prompt asks for.

    Attributes:
        concept: ``policies/*/concepts/*``.
        category: its category.
        phrase: phrase of the policy that matched.
        action: what its policy says to do.
        dry_run: its policy is a dry run: reported, and not counted.
    """

    concept: str
    category: Category
    phrase: str
    action: PromptAction
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PromptDecision:
    """What is to be done with one prompt.

    Attributes:
        action: the strictest of the findings that count; ALLOW when there are none.
        findings: every concept that the prompt asks for.
    """

    action: PromptAction
    findings: tuple[PromptFinding, ...] = ()

    @property
    def blocking(self) -> PromptFinding | None:
        """The first finding that blocks the prompt; None when none does."""
        for finding in self.findings:
            if finding.action is PromptAction.BLOCK and not finding.dry_run:
                return finding
        return None


def decide(
    matches: Iterable[PhraseMatch], *, forgotten: Collection[str]
) -> PromptDecision:
    """What is to be done with a prompt in which *matches* were found.

    Args:
        matches: what the prompt asks for.
        forgotten: names of the concepts, ``policies/*/concepts/*``, that the generation
            active on the asking server lacks, each in its present form. For any other
            the rule ``until_active`` holds.
    """
    findings = tuple(_finding(match, forgotten) for match in matches)
    counted = [finding.action for finding in findings if not finding.dry_run]
    action = max(counted, key=_STRICTNESS.__getitem__, default=PromptAction.ALLOW)
    return PromptDecision(action, findings)


def _finding(match: PhraseMatch, forgotten: Collection[str]) -> PromptFinding:
    rules = match.policy.moderation
    is_forgotten = match.concept_name in forgotten
    return PromptFinding(
        concept=match.concept_name,
        category=match.concept.category,
        phrase=match.phrase,
        action=rules.when_active if is_forgotten else rules.until_active,
        dry_run=match.policy.enforcement is Enforcement.DRY_RUN,
    )
