"""The closed form: cross-attention keys and values, all concepts in one solve.

The text embedding c of every token position of a concept's prompts is to give the keys
and values that its guide g gives, while retained embeddings p keep theirs (Gandikota et
al., Unified Concept Editing, arXiv 2308.14761, eq. 7). With ridge lam and weights a, b:

    M  = lam I + sum a c c^T + sum b p p^T
    W' = W + W (G - C) A,    A = a C^T M^-1

M depends on text only, so it is factored once for all layers; A is shared by them, and
``W (G - C)`` with A are exact low-rank factors wherever there are fewer columns than
the text is wide. Sums and solves are float64; always from the pristine weights.

Ours beside the paper: all token positions rather than the last of the subject, and a
guide computed as the mean of what is retained, where the policy names none; and rounds
that weigh retained phrases anew by how far the edit moves them, so that no neighbour
pays for all (as SPEED, arXiv 2503.07392, filters by influence).

Legend: T templates, L token positions, D text width, N columns (embeddings), O outputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from myosotis.errors import InvalidArgumentError
from myosotis.unlearning.changes import Change, Dense, LowRank
from myosotis.unlearning.closed_form_terms import ConceptTerms, weighted_gram

_FIRST_JITTER = 1e-10
_JITTER_ROUNDS = 8
# Below this the text encoder's own float32 noise is all that is left.
_SAME = 1e-6
_SMALLEST_DISTANCE = 1e-3


@dataclass(frozen=True, slots=True)
class ClosedFormSettings:
    """Weights of the three wishes: forget, keep, and stay near the base.

    Attributes:
        ridge: lam per row of a phrase, > 0.
        target_weight: a, of each target embedding.
        retained_weight: sum of b over phrases: 10 lets what is retained weigh as much
            as ten banned phrases.
        rounds: how often the retained phrases are weighed anew by what the edit does
            to them; 0 weighs them equally.
        parts: endings of the names of edited weights. Values alone: measured on Petal,
            editing the keys too erases no more and costs what is retained twice as
            much; SPEED (arXiv 2503.07392) finds the same on Stable Diffusion.
    """

    ridge: float = 0.01
    target_weight: float = 1.0
    retained_weight: float = 12.0
    rounds: int = 3
    parts: tuple[str, ...] = ("to_v.weight",)


@dataclass(frozen=True, eq=False, slots=True)
class Solution:
    """The change as ``W difference projection``, the same for every layer.

    Attributes:
        difference: G - C, float64 [D, N].
        projection: A, float64 [N, D].
        jitter: what had to be added to the diagonal of M; 0 as a rule.
    """

    difference: Tensor
    projection: Tensor
    jitter: float

    @property
    def edit(self) -> Tensor:
        """(G - C) A, [D, D]: each layer becomes W + W edit."""
        return self.difference @ self.projection


def solve(
    concepts: Sequence[ConceptTerms],
    retained: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    settings: ClosedFormSettings,
) -> Solution:
    """Solve for all *concepts* at once.

    Args:
        concepts: at least one.
        retained: rows of each phrase that must survive, [N, D]; at least one.
        weights: what will be edited, [O, D] each; they only decide how much a change
            of an embedding counts.
        settings: weights and rounds.

    Raises:
        InvalidArgumentError: naming the concept, for a guide that equals its target,
            values that are not finite, or one target with two guides.
    """
    for concept in concepts:
        _check(concept)
    _check_agreement(concepts)
    metric = sum(
        (w.double().T @ w.double() for w in weights.values()), torch.zeros(())
    ).double()
    share = torch.ones(len(retained), dtype=torch.float64)
    for _ in range(settings.rounds):
        edit = _solve_once(concepts, retained, share, settings).edit
        drift = _drift(edit, retained, metric)
        if not float(drift.max()):
            break
        share = share * drift / drift.mean()
    return _solve_once(concepts, retained, share, settings)


def _solve_once(
    concepts: Sequence[ConceptTerms],
    retained: Sequence[Tensor],
    share: Tensor,
    settings: ClosedFormSettings,
) -> Solution:
    a, width = settings.target_weight, concepts[0].target.shape[1]
    ridge = settings.ridge * max(len(rows) for rows in retained)
    gram = ridge * torch.eye(width, dtype=torch.float64)
    gram += weighted_gram(retained, settings.retained_weight * share / share.sum())
    for concept in concepts:
        gram += a * concept.gram
    target = torch.cat([concept.target for concept in concepts])
    guide = torch.cat([concept.guide for concept in concepts])
    # Positions before the phrase are the same for target and guide: no column.
    moved = (guide - target).norm(dim=1) > _SAME * target.norm(dim=1)
    target, guide, count = _distinct(target[moved], guide[moved])
    factor, jitter = _factorise(gram)
    projection = torch.cholesky_solve((a * count * target).T, factor).T
    return Solution((guide - target).T, projection, jitter)


def _drift(edit: Tensor, retained: Sequence[Tensor], metric: Tensor) -> Tensor:
    """|W'p - Wp| / |Wp| of each phrase over all edited layers, [P]."""
    found = []
    for rows in retained:
        p = rows.double()
        moved = p @ edit.T
        found.append(((moved @ metric) * moved).sum() / ((p @ metric) * p).sum())
    return torch.stack(found).clamp(min=0).sqrt()


def changes_from(
    solution: Solution, weights: Mapping[str, Tensor]
) -> dict[str, Change]:
    """The change of each of *weights* [O, D]: low rank where that has fewer columns."""
    columns, width = solution.projection.shape
    if columns < width:
        down = solution.projection.float()
        return {
            name: LowRank((weight.double() @ solution.difference).float(), down)
            for name, weight in weights.items()
        }
    return {
        name: Dense((weight.double() + weight.double() @ solution.edit).float())
        for name, weight in weights.items()
    }


def diagnose(
    solution: Solution,
    concepts: Sequence[ConceptTerms],
    retained: Tensor,
    weights: Mapping[str, Tensor],
    changes: Mapping[str, Change],
) -> dict[str, float]:
    """How well the edit does what was asked, over all layers, on the rounded result.

    ``target_residual``: |W'c - Wg| / |Wc - Wg|; 0 is perfect, 1 is no edit.
    ``retained_drift``: |W'p - Wp| / |Wp|, by the Gram matrix *retained*, [D, D].

    Raises:
        InvalidArgumentError: the change is not finite, or none.
    """
    residual = asked = drift = kept = change = size = 0.0
    target = torch.cat([concept.target for concept in concepts]).T
    guide = torch.cat([concept.guide for concept in concepts]).T
    for name, weight in weights.items():
        base = weight.double()
        delta = changes[name].applied(weight).double() - base
        wanted = base @ (target - guide)
        asked += float(wanted.square().sum())
        residual += float((wanted + delta @ target).square().sum())
        drift += float(((delta @ retained) * delta).sum())
        kept += float(((base @ retained) * base).sum())
        change += float(delta.square().sum())
        size += float(base.square().sum())
    found = {
        "jitter": solution.jitter,
        "columns": float(len(solution.projection)),
        "target_residual": (residual / asked) ** 0.5,
        "retained_drift": (max(drift, 0.0) / kept) ** 0.5,
        "relative_change": (change / size) ** 0.5,
    }
    usable = all(map(math.isfinite, found.values()))
    if not usable or found["relative_change"] < _SAME:
        raise InvalidArgumentError(
            concepts[0].name, f"the closed form has no usable solution: {found}"
        )
    return found


def _check(concept: ConceptTerms) -> None:
    if not concept.target.numel():
        raise InvalidArgumentError(concept.name, "has no token to erase")
    for rows in (concept.target, concept.guide):
        if not bool(rows.isfinite().all()):
            raise InvalidArgumentError(
                concept.name, "the text encoder gives values that are not finite"
            )
    distance = (concept.guide - concept.target).norm()
    if distance <= _SMALLEST_DISTANCE * concept.target.norm():
        raise InvalidArgumentError(
            concept.name,
            "its anchor is the same to the text encoder, so nothing would change",
        )


def _check_agreement(concepts: Sequence[ConceptTerms]) -> None:
    """Refuse concepts with the same words and different guides."""
    for i, one in enumerate(concepts):
        for other in concepts[:i]:
            same = one.target.shape == other.target.shape and torch.allclose(
                one.target, other.target, rtol=0, atol=_SAME
            )
            if same and not torch.allclose(one.guide, other.guide):
                raise InvalidArgumentError(
                    one.name, f"has the words of {other.name} and another anchor"
                )


def _distinct(target: Tensor, guide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct pairs of rows, and how often each occurs [N, 1]."""
    pairs, count = torch.unique(
        torch.cat([target, guide], dim=1), dim=0, return_counts=True
    )
    width = target.shape[1]
    return pairs[:, :width], pairs[:, width:], count.double().unsqueeze(1)


def _factorise(gram: Tensor) -> tuple[Tensor, float]:
    """The Cholesky factor of *gram*, and the jitter that it took."""
    mean = float(gram.diagonal().mean())
    for jitter in (
        0.0,
        *(_FIRST_JITTER * mean * 10**k for k in range(_JITTER_ROUNDS)),
    ):
        factor, failed = torch.linalg.cholesky_ex(
            gram + jitter * torch.eye(len(gram), dtype=gram.dtype)
        )
        if not int(failed):
            return factor, jitter
    raise InvalidArgumentError(
        "concepts", "the text embeddings are too dependent to be told apart"
    )
