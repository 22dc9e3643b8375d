"""Which method unlearns a concept."""

from collections.abc import Mapping
from types import MappingProxyType

from myosotis.policy.concepts import Category, Concept, Method

# Attention re-steering alone is weak on nudity, and dearer everywhere; the closed form
# comes first for every category. A policy may ask for the other by name.
AUTO_METHODS: Mapping[Category, Method] = MappingProxyType(
    dict.fromkeys(Category, Method.CLOSED_FORM)
)


def method_of(concept: Concept) -> Method:
    """The policy's method, or that of the category; never AUTO."""
    if concept.method is not Method.AUTO:
        return concept.method
    return AUTO_METHODS[concept.category]
