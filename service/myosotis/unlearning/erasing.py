"""Erasing a plan: every concept by its method, always from the pristine base."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Method
from myosotis.unlearning.attention_layers import key_value_weights
from myosotis.unlearning.cancellation import Cancelled, stop_if
from myosotis.unlearning.changes import Change
from myosotis.unlearning.closed_form import (
    ClosedFormSettings,
    changes_from,
    diagnose,
    solve,
)
from myosotis.unlearning.closed_form_terms import concept_terms, retained_terms
from myosotis.unlearning.erasures import Erasure
from myosotis.unlearning.methods import method_of
from myosotis.unlearning.retained import Retained, retained_phrases
from myosotis.unlearning.runs import RunProgress

if TYPE_CHECKING:
    from torch import Tensor

    from myosotis.policy.plans import ErasurePlan, PlannedConcept
    from myosotis.unlearning.models import TextToImageModel

PHASE = "erase"
DEFAULT_CLOSED_FORM = ClosedFormSettings()
OnProgress = Callable[[RunProgress], None]


def erase(
    model: "TextToImageModel",
    plan: "ErasurePlan",
    *,
    on_progress: OnProgress = lambda _progress: None,
    cancelled: Cancelled = lambda: False,
    seed: int = 0,
) -> Erasure:
    """What makes *model* forget *plan*, relative to its pristine base.

    The closed form comes first, for all its concepts in one solve; re-steering starts
    from its result. Deterministic in base, plan and seed, on one machine and number of
    threads. The base is only read.

    Args:
        model: its UNet holds the base weights.
        plan: for this model. The empty plan gives no changes.
        on_progress: told the steps done and their total.
        cancelled: asked between steps.
        seed: of everything random, together with the plan.

    Raises:
        CancelledWorkError: *cancelled* said so.
        InvalidArgumentError: naming the concept that cannot be erased, and why.
        PreconditionError: the model is not of a kind that this version can edit.
    """
    if plan.model != model.name:
        raise InvalidArgumentError("plan.model", f"{plan.model} is not {model.name}")
    methods = {p.name: method_of(p.concept) for p in plan.concepts}
    if not plan.concepts:
        return Erasure({}, methods)
    base = model.pipeline.unet.state_dict()
    retained = retained_phrases(model.card, plan)
    by_method = {
        method: tuple(p for p in plan.concepts if methods[p.name] is method)
        for method in (Method.CLOSED_FORM, Method.ATTENTION_RESTEERING)
    }
    changes: dict[str, Change] = {}
    seconds: dict[str, float] = {}
    diagnostics: dict[str, float] = {}
    stop_if(cancelled)
    if by_method[Method.CLOSED_FORM]:
        started = time.perf_counter()
        solved, found = closed_form(
            model, base, by_method[Method.CLOSED_FORM], retained
        )
        changes |= solved
        diagnostics |= {f"closed_form.{key}": value for key, value in found.items()}
        seconds[Method.CLOSED_FORM] = time.perf_counter() - started
    for planned in by_method[Method.ATTENTION_RESTEERING]:
        raise InvalidArgumentError(planned.name, "re-steering is not offered yet")
    return Erasure(changes, methods, seconds, diagnostics)


def closed_form(
    model: "TextToImageModel",
    base: "Mapping[str, Tensor]",
    concepts: "tuple[PlannedConcept, ...]",
    retained: Retained,
    settings: ClosedFormSettings = DEFAULT_CLOSED_FORM,
) -> tuple[dict[str, Change], dict[str, float]]:
    """Edit keys and values for all *concepts* at once; changes and diagnostics."""
    kept = retained_terms(model, retained, settings)
    terms = concept_terms(model, concepts, kept)
    solution = solve(terms, kept.gram, settings)
    weights = key_value_weights(model.pipeline.unet, base, text_width=len(kept.gram))
    changes = changes_from(solution, weights)
    return changes, diagnose(solution, terms, kept.gram, weights, changes)
