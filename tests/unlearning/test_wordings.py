from myosotis.embedded import petal
from myosotis.unlearning.closed_form_terms import wordings
from myosotis.unlearning.models import ModelCard
from myosotis.validation.probes import HELD_OUT_TEMPLATES


def test_what_validation_holds_out_is_not_trained_on() -> None:
    """As far as a card does not bring such a wording itself."""
    for card in (petal.card(), ModelCard()):
        own = set(wordings(card)) - set(card.templates)
        assert own
        assert own.isdisjoint(HELD_OUT_TEMPLATES)
