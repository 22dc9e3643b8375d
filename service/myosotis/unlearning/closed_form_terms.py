"""From words to the closed form's terms: targets, guides, and what must survive.

Legend: T templates, L token positions, D text width, N = T L rows of a phrase.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from myosotis.errors import InvalidArgumentError
from myosotis.unlearning.text import TextEncoder, anchor_prompts

if TYPE_CHECKING:
    from myosotis.policy.plans import PlannedConcept
    from myosotis.unlearning.models import ModelCard, TextToImageModel
    from myosotis.unlearning.retained import Retained

# Wordings beside the card's, so that the edit does not learn the card's by heart.
_MORE_TEMPLATES = ("{}", "this is {}", "{} at home")


@dataclass(frozen=True, eq=False, slots=True)
class ConceptTerms:
    """What one concept adds to the problem.

    Attributes:
        name: resource name of the concept.
        target: embeddings to erase, float64 [N, D]; a longer row counts for more.
        guide: what each is to become, float64 [N, D].
    """

    name: str
    target: Tensor
    guide: Tensor

    @property
    def gram(self) -> Tensor:
        """Sum of c c^T, [D, D]: taking a concept back is one term less."""
        return self.target.T @ self.target


@dataclass(frozen=True, eq=False, slots=True)
class RetainedTerms:
    """What survives.

    Attributes:
        rows: embeddings of each phrase, float32 [N, D], the empty prompt first, which
            guidance subtracts from every picture.
        mean: the mean embedding at each position of each template, float64
            [N, D]: the guide where a policy names no anchor.
        prompts: token ids of each retained prompt.
    """

    rows: tuple[Tensor, ...]
    mean: Tensor
    prompts: frozenset[tuple[int, ...]]

    @property
    def width(self) -> int:
        return self.mean.shape[1]

    def text(self, length: int) -> Tensor:
        """Every retained prompt, float32 [S, L, D], for prompts of *length* tokens."""
        prompts = [rows.unflatten(0, (-1, length)) for rows in self.rows]
        return torch.cat(prompts[1:] or [prompts[0][:0]])

    def gram(self, *others: Tensor) -> Tensor:
        """Mean over phrases, and *others* beside them, of the sum of p p^T, [D, D]."""
        rows = (*self.rows, *others)
        return weighted_gram(rows, torch.ones(len(rows))) / len(rows)


def weighted_gram(rows: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum over phrases of their weight times the sum of p p^T, float64 [D, D]."""
    gram = torch.zeros((rows[0].shape[1],) * 2, dtype=torch.float64)
    for phrase, weight in zip(rows, weights.tolist(), strict=True):
        wide = phrase.double()
        gram += weight * (wide.T @ wide)
    return gram


def wordings(card: "ModelCard") -> tuple[str, ...]:
    """The templates in which phrases are erased and kept."""
    return tuple(dict.fromkeys((*card.templates, *_MORE_TEMPLATES)))


def retained_terms(model: "TextToImageModel", retained: "Retained") -> RetainedTerms:
    """Encode what survives, a phrase at a time.

    Where nothing is known to survive, the templates around no phrase are the guide.
    """
    text = TextEncoder(model)
    templates = wordings(model.card)
    bare = text.encode(text.token_ids([""], concept="retain"))[0]
    rows: list[Tensor] = [bare]
    seen: set[tuple[int, ...]] = set()
    total = torch.zeros((1, 1), dtype=torch.float64)
    for phrase in retained.phrases:
        prompts = model.card.prompts(phrase, templates)
        ids = text.token_ids(prompts, concept=f"retain {phrase!r}")
        seen.update(tuple(row) for row in ids.tolist())
        rows.append(text.encode(ids).flatten(0, 1))
        total = total + rows[-1].double()
    if retained.phrases:
        mean = total / len(retained.phrases)
    else:
        ids = text.token_ids([t.format("") for t in templates], concept="retain")
        mean = text.encode(ids).double().flatten(0, 1)
    return RetainedTerms(tuple(rows), mean, frozenset(seen))


def concept_terms(
    model: "TextToImageModel",
    concepts: "Sequence[PlannedConcept]",
    retained: RetainedTerms,
) -> tuple[ConceptTerms, ...]:
    """The terms of each concept: every token position of each of its phrases.

    A row is the mean over the templates, and counts as often as there are templates:
    what they have in common is the concept. Erasing each wording by itself leaves as
    much of it and moves more of what is retained (measured on Petal).

    Raises:
        InvalidArgumentError: naming the concept, when a phrase is too long for the text
            encoder or reads the same as something retained.
    """
    text = TextEncoder(model)
    templates = wordings(model.card)

    def mean_rows(rows: Tensor) -> Tensor:
        positions = rows.double().reshape(len(templates), text.length, -1)
        return positions.mean(0).mul(len(templates) ** 0.5)

    found = []
    for planned in concepts:
        guide = mean_rows(retained.mean)
        if planned.concept.anchor:
            words = anchor_prompts(model.card, planned.concept.anchor, templates)
            guide = mean_rows(text.encode(text.token_ids(words, concept=planned.name)))
        targets = []
        for phrase in planned.concept.phrases:
            prompts = model.card.prompts(phrase, templates)
            ids = text.token_ids(prompts, concept=planned.name)
            if any(tuple(row) in retained.prompts for row in ids.tolist()):
                raise InvalidArgumentError(
                    planned.name, f"{phrase!r} reads the same as something retained"
                )
            targets.append(mean_rows(text.encode(ids)))
        guides = torch.cat([guide] * len(targets))
        found.append(ConceptTerms(planned.name, torch.cat(targets), guides))
    return tuple(found)
