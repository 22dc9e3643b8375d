"""What an erasure gives: changes to the base, and how they came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from myosotis.policy.concepts import Method
from myosotis.unlearning.changes import Change


@dataclass(frozen=True, slots=True)
class Erasure:
    """The changes that make a model forget a plan.

    Attributes:
        changes: by tensor name of the UNet, relative to the pristine base; empty for
            the empty plan.
        methods: the method used, never AUTO, by resource name of the concept.
        seconds: wall clock time of each method used, by method.
        diagnostics: plain numbers that say how well the arithmetic went, for example
            ``closed_form.jitter``; evidence for people, never a gate.
    """

    changes: Mapping[str, Change]
    methods: Mapping[str, Method]
    seconds: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
