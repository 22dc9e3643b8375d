import pytest
from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Category, Method
from myosotis.unlearning.methods import method_of
from myosotis.unlearning.models import ModelCard, Vocable
from myosotis.unlearning.retained import retained_phrases

from tests.unlearning.plans import banned, plan_of

CARD = ModelCard(
    vocabulary=(Vocable("dog", ("puppy",)), Vocable("cat", ("kitten",)), Vocable("sun"))
)


@pytest.mark.parametrize("category", list(Category))
def test_auto_is_the_closed_form_for_every_category(category: Category) -> None:
    assert method_of(banned("x", category=category).concept) is Method.CLOSED_FORM


def test_a_policy_may_name_the_method() -> None:
    concept = banned("x", method=Method.ATTENTION_RESTEERING).concept
    assert method_of(concept) is Method.ATTENTION_RESTEERING


def test_a_thing_goes_with_all_its_words() -> None:
    retained = retained_phrases(CARD, plan_of(banned("Puppy")))
    assert retained.automatic == ("cat", "kitten", "sun")


def test_named_neighbours_are_kept_once_and_never_against_a_ban() -> None:
    plan = plan_of(
        banned("dog", retain=("puppy", "fox")), banned("wolf", retain=("fox",))
    )
    retained = retained_phrases(CARD, plan)
    assert retained.named == ("fox",)
    assert retained.phrases == ("fox", "cat", "kitten", "sun")


def test_retaining_what_is_banned_is_refused_by_name() -> None:
    plan = plan_of(banned("dog"), banned("wolf", retain=("DOG",)))
    with pytest.raises(InvalidArgumentError) as refused:
        retained_phrases(CARD, plan)
    assert refused.value.field == "policies/p/concepts/wolf"
