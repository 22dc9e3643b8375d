import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.moderation.decisions import PromptDecision, decide
from myosotis.moderation.phrases import PhraseMatch
from myosotis.policy.concepts import Category
from myosotis.policy.policies import Enforcement, PromptAction, PromptRules

from tests.policy.builders import a_policy

ALLOW, FLAG, BLOCK = PromptAction


def a_match(
    until: PromptAction = BLOCK,
    when: PromptAction = FLAG,
    *,
    name: str = "p",
    enforcement: Enforcement = Enforcement.ENFORCED,
) -> PhraseMatch:
    rules = PromptRules(until, when)
    policy = a_policy(name, moderation=rules, enforcement=enforcement)
    return PhraseMatch(policy, policy.concepts[0], "pistol")


def test_a_prompt_without_findings_is_allowed() -> None:
    assert decide([], forgotten=()) == PromptDecision(ALLOW, ())


def test_a_finding_says_what_was_found() -> None:
    (finding,) = decide([a_match()], forgotten=()).findings

    assert finding.concept == "policies/p/concepts/pistol"
    assert finding.category is Category.HARMFUL
    assert finding.phrase == "pistol"
    assert not finding.dry_run


@pytest.mark.parametrize("until", PromptAction)
@pytest.mark.parametrize("when", PromptAction)
def test_the_rule_changes_once_the_server_has_forgotten_the_concept(
    until: PromptAction, when: PromptAction
) -> None:
    match = a_match(until, when)

    assert decide([match], forgotten=()).action is until
    assert decide([match], forgotten={match.concept_name}).action is when


def test_having_forgotten_another_concept_does_not_count() -> None:
    forgotten = {"policies/other/concepts/pistol"}

    assert decide([a_match(BLOCK, ALLOW)], forgotten=forgotten).action is BLOCK


@given(st.lists(st.sampled_from(PromptAction), min_size=1))
def test_the_strictest_finding_decides(actions: list[PromptAction]) -> None:
    matches = [a_match(action, name=f"p{i}") for i, action in enumerate(actions)]

    decision = decide(matches, forgotten=())

    strictest = next(a for a in (BLOCK, FLAG, ALLOW) if a in actions)
    assert decision.action is strictest
    assert [finding.action for finding in decision.findings] == actions


def test_a_dry_run_is_reported_and_not_counted() -> None:
    dry = a_match(BLOCK, name="dry", enforcement=Enforcement.DRY_RUN)

    alone = decide([dry], forgotten=())
    beside = decide([dry, a_match(FLAG, name="real")], forgotten=())

    assert alone.action is ALLOW
    assert alone.findings[0].dry_run
    assert alone.findings[0].action is BLOCK
    assert alone.blocking is None
    assert beside.action is FLAG


def test_the_first_finding_that_blocks_is_told() -> None:
    matches = [a_match(FLAG, name="a"), a_match(name="b"), a_match(name="c")]

    blocking = decide(matches, forgotten=()).blocking

    assert blocking is not None
    assert blocking.concept == "policies/b/concepts/pistol"


def test_every_concept_counts_on_its_own() -> None:
    matches = [a_match(BLOCK, ALLOW, name="a"), a_match(FLAG, ALLOW, name="b")]

    decision = decide(matches, forgotten={"policies/a/concepts/pistol"})

    assert decision.action is FLAG
