"""Erasing a plan: every concept by its method, always from the pristine base."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from myosotis.errors import InvalidArgumentError
from myosotis.policy.concepts import Method
from myosotis.unlearning.attention_layers import text_weights
from myosotis.unlearning.attention_resteering import (
    TUNED,
    Resteered,
    ResteeringSettings,
    Survivors,
    resteer,
)
from myosotis.unlearning.cancellation import Cancelled, stop_if
from myosotis.unlearning.changes import Change, changed_tensors
from myosotis.unlearning.closed_form import (
    ClosedFormSettings,
    changes_from,
    diagnose,
    solve,
)
from myosotis.unlearning.closed_form_terms import (
    ConceptTerms,
    RetainedTerms,
    concept_terms,
    retained_terms,
)
from myosotis.unlearning.erasures import Erasure
from myosotis.unlearning.methods import method_of
from myosotis.unlearning.retained import retained_phrases
from myosotis.unlearning.runs import RunProgress
from myosotis.unlearning.text import TextEncoder
from myosotis.unlearning.training_pictures import (
    batch_count,
    draw_training_set,
    number,
)

if TYPE_CHECKING:
    from torch import Tensor

    from myosotis.policy.plans import ErasurePlan, PlannedConcept
    from myosotis.unlearning.models import TextToImageModel

PHASE = "erase"
OnProgress = Callable[[RunProgress], None]

Concepts = tuple["PlannedConcept", ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Of both methods."""

    closed_form: ClosedFormSettings = field(default_factory=ClosedFormSettings)
    resteering: ResteeringSettings = TUNED


DEFAULT_SETTINGS = Settings()


def erase(  # noqa: PLR0913 - two of them follow the work, the others decide it
    model: "TextToImageModel",
    plan: "ErasurePlan",
    *,
    on_progress: OnProgress = lambda _progress: None,
    cancelled: Cancelled = lambda: False,
    seed: int = 0,
    settings: Settings = DEFAULT_SETTINGS,
) -> Erasure:
    """What makes *model* forget *plan*, relative to its pristine base.

    The closed form comes first, for all its concepts in one solve; re-steering starts
    from its result. Deterministic in base, plan, seed and settings, on one machine and
    number of threads. The base is only read.

    Args:
        model: its UNet holds the base weights.
        plan: for this model. The empty plan gives no changes.
        on_progress: told the steps done and their total.
        cancelled: asked between steps.
        seed: of everything random, together with the plan.
        settings: of the methods.

    Raises:
        CancelledWorkError: *cancelled* said so.
        InvalidArgumentError: naming the concept that cannot be erased, and why.
        PreconditionError: the model is not of a kind that this version can edit.
    """
    if plan.model != model.name:
        raise InvalidArgumentError("plan.model", f"{plan.model} is not {model.name}")
    methods = {p.name: method_of(p.concept) for p in plan.concepts}
    solved, resteered = (
        tuple(p for p in plan.concepts if methods[p.name] is method)
        for method in (Method.CLOSED_FORM, Method.ATTENTION_RESTEERING)
    )
    work = _Work(model, plan, seed, settings, _Steps(on_progress, cancelled))
    work.steps.expect(solved, resteered, settings.resteering)
    result = Erasure({}, methods)
    if not plan.concepts:
        return result
    kept = retained_terms(model, retained_phrases(model.card, plan))
    work.steps.done()
    terms = concept_terms(model, solved, kept)
    if solved:
        result = work.closed_form(result, terms, kept)
    if resteered:
        # What the closed form made of its concepts is to stay as well.
        survivors = Survivors(
            kept.gram(*(term.target for term in terms)),
            kept.text(TextEncoder(model).length),
        )
        result = work.resteering(result, resteered, survivors)
    return result


class _Steps:
    """Counts steps, tells them, and asks whether to stop."""

    def __init__(self, on_progress: OnProgress, cancelled: Cancelled) -> None:
        self._on_progress, self._cancelled = on_progress, cancelled
        self._done = self._total = 0

    def expect(
        self, solved: Concepts, resteered: Concepts, settings: ResteeringSettings
    ) -> None:
        """One step for each of: the text, the solve, a batch drawn, a training step."""
        self._total = bool(solved or resteered) + bool(solved)
        if resteered:
            batches = batch_count(len(resteered), settings.training.pictures)
            self._total += batches + settings.steps
        self.stop_if_asked()

    def done(self) -> None:
        self.stop_if_asked()
        self._done += 1
        self._on_progress(RunProgress(PHASE, self._done, self._total))

    def stop_if_asked(self) -> None:
        stop_if(self._cancelled)


@dataclass(frozen=True, slots=True)
class _Work:
    """One erasure under way."""

    model: "TextToImageModel"
    plan: "ErasurePlan"
    seed: int
    settings: Settings
    steps: _Steps

    @property
    def _base(self) -> "Mapping[str, Tensor]":
        state: Mapping[str, Tensor] = self.model.pipeline.unet.state_dict()
        return state

    def closed_form(
        self,
        result: Erasure,
        terms: tuple[ConceptTerms, ...],
        kept: RetainedTerms,
    ) -> Erasure:
        started = time.perf_counter()
        settings = self.settings.closed_form
        weights = text_weights(
            self.model.pipeline.unet, self._base, settings.parts, text_width=kept.width
        )
        solution = solve(terms, kept.rows, weights, settings)
        changes = changes_from(solution, weights)
        found = diagnose(solution, terms, kept.gram(), weights, changes)
        self.steps.done()
        return _added(result, Method.CLOSED_FORM, changes, found, started)

    def resteering(
        self, result: Erasure, concepts: Concepts, survivors: Survivors
    ) -> Erasure:
        started = time.perf_counter()
        settings = self.settings.resteering
        model = self.model
        training = draw_training_set(
            model,
            concepts,
            settings.training,
            seed=f"{self.plan.digest}/{self.seed}",
            on_batch=self.steps.done,
            on_step=lambda _step: self.steps.stop_if_asked(),
        )
        trained: Resteered = resteer(
            model.pipeline.unet,
            changed_tensors(self._base, result.changes),
            training,
            survivors,
            settings=settings,
            seed=number("resteer", self.plan.digest, self.seed),
            on_step=self.steps.done,
        )
        return _added(
            result,
            Method.ATTENTION_RESTEERING,
            trained.changes,
            trained.diagnostics,
            started,
        )


def _added(
    result: Erasure,
    method: Method,
    changes: Mapping[str, Change],
    found: Mapping[str, float],
    started: float,
) -> Erasure:
    """*result* with what *method* did on top; its changes replace earlier ones."""
    prefix = method.lower()
    return replace(
        result,
        changes={**result.changes, **changes},
        seconds={**result.seconds, method: time.perf_counter() - started},
        diagnostics={
            **result.diagnostics,
            **{f"{prefix}.{key}": value for key, value in found.items()},
        },
    )
