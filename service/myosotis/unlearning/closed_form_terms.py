"""From words to the closed form's terms: targets, guides, and what must survive.

Legend: T templates, L token positions, D text width, N = T L columns of a phrase.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from myosotis.errors import InvalidArgumentError
from myosotis.unlearning.closed_form import ClosedFormSettings, ConceptTerms
from myosotis.unlearning.text import TextEncoder, anchor_prompts

if TYPE_CHECKING:
    from myosotis.policy.plans import PlannedConcept
    from myosotis.unlearning.models import TextToImageModel
    from myosotis.unlearning.retained import Retained


@dataclass(frozen=True, eq=False, slots=True)
class RetainedTerms:
    """What survives.

    Attributes:
        gram: weighted sum of p p^T, float64 [D, D].
        mean: the mean embedding at each position of each template, float64
            [T, L, D]: the guide where a policy names no anchor.
        prompts: token ids of each retained prompt.
    """

    gram: Tensor
    mean: Tensor
    prompts: frozenset[tuple[int, ...]]


def retained_terms(
    model: "TextToImageModel", retained: "Retained", settings: ClosedFormSettings
) -> RetainedTerms:
    """Encode what survives, a phrase at a time.

    The empty prompt is always retained: guidance subtracts it from every picture. Where
    nothing else is known, the templates around no phrase take the place of the mean.
    """
    text = TextEncoder(model)
    templates = model.card.templates
    empty = text.encode(
        text.token_ids(["", *(t.format("") for t in templates)], concept="")
    )
    empty = empty.double()
    gram = settings.named_weight * _gram(empty[0])
    total = torch.zeros_like(empty[1:])
    seen: set[tuple[int, ...]] = set()
    share = settings.retained_weight / max(len(retained.automatic), 1)
    for phrase in retained.phrases:
        ids = text.token_ids(model.card.prompts(phrase), concept=f"retain {phrase!r}")
        seen.update(tuple(row) for row in ids.tolist())
        embeddings = text.encode(ids).double()
        weight = settings.named_weight if phrase in retained.named else share
        gram += weight * _gram(embeddings)
        total += embeddings
    count = len(retained.phrases)
    return RetainedTerms(gram, total / count if count else empty[1:], frozenset(seen))


def concept_terms(
    model: "TextToImageModel",
    concepts: "Sequence[PlannedConcept]",
    retained: RetainedTerms,
) -> tuple[ConceptTerms, ...]:
    """The terms of each concept: every token position of its phrases in the templates.

    Raises:
        InvalidArgumentError: naming the concept, when a phrase is too long for the text
            encoder or reads the same as something retained.
    """
    text = TextEncoder(model)
    found = []
    for planned in concepts:
        guide = retained.mean
        if planned.concept.anchor:
            words = anchor_prompts(model.card, planned.concept.anchor)
            guide = text.encode(text.token_ids(words, concept=planned.name)).double()
        targets = []
        for phrase in planned.concept.phrases:
            ids = text.token_ids(model.card.prompts(phrase), concept=planned.name)
            if any(tuple(row) in retained.prompts for row in ids.tolist()):
                raise InvalidArgumentError(
                    planned.name, f"{phrase!r} reads the same as something retained"
                )
            targets.append(text.encode(ids).double().flatten(0, 1))
        guides = [guide.flatten(0, 1)] * len(targets)
        found.append(ConceptTerms(planned.name, torch.cat(targets), torch.cat(guides)))
    return tuple(found)


def _gram(embeddings: Tensor) -> Tensor:
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    return rows.T @ rows
