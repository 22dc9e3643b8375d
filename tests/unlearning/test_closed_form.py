from dataclasses import replace

import pytest
import torch
from myosotis.errors import InvalidArgumentError
from myosotis.policy.plans import PlannedConcept
from myosotis.unlearning.changes import Dense, LowRank
from myosotis.unlearning.closed_form import (
    ClosedFormSettings,
    Solution,
    changes_from,
    diagnose,
    solve,
)
from myosotis.unlearning.closed_form_terms import (
    ConceptTerms,
    concept_terms,
    retained_terms,
    wordings,
)
from myosotis.unlearning.erasing import erase
from myosotis.unlearning.models import TextToImageModel
from myosotis.unlearning.retained import retained_phrases
from torch import Tensor

from tests.unlearning.plans import banned, plan_of

Problem = tuple[tuple[ConceptTerms, ...], tuple[Tensor, ...], dict[str, Tensor]]
PLAIN = ClosedFormSettings(ridge=0.01, retained_weight=4, rounds=0)


def random_problem(columns: int, width: int = 24) -> Problem:
    """Two concepts of *columns* rows each, four retained phrases, three layers."""
    numbers = torch.Generator().manual_seed(columns)

    def rows(count: int) -> Tensor:
        return torch.randn((count, width), generator=numbers)

    concepts = tuple(
        ConceptTerms(name, rows(columns).double(), rows(columns).double())
        for name in ("a", "b")
    )
    retained = tuple(rows(5) for _ in range(4))
    return concepts, retained, {f"layer{o}": rows(o) for o in (16, 32, 40)}


def published_edit(problem: Problem, settings: ClosedFormSettings) -> dict[str, Tensor]:
    """Equation 7 of the paper as it is printed: one inverse for each module."""
    concepts, retained, weights = problem
    ridge = settings.ridge * max(len(rows) for rows in retained)
    b = settings.retained_weight / len(retained)
    edited = {}
    for name, layer in weights.items():
        w = layer.double()
        left, right = ridge * w, ridge * torch.eye(w.shape[1], dtype=torch.float64)
        for concept in concepts:
            for c, g in zip(concept.target, concept.guide, strict=True):
                left = left + settings.target_weight * torch.outer(w @ g, c)
                right = right + settings.target_weight * torch.outer(c, c)
        for p in torch.cat(retained).double():
            left = left + b * torch.outer(w @ p, p)
            right = right + b * torch.outer(p, p)
        edited[name] = left @ torch.linalg.inv(right)
    return edited


def solved(problem: Problem, settings: ClosedFormSettings = PLAIN) -> Solution:
    return solve(*problem, settings)


@pytest.mark.parametrize("columns", [3, 20])
def test_it_is_the_published_edit(columns: int) -> None:
    """Few columns give low-rank factors, many a dense weight; both the paper's."""
    problem = random_problem(columns)
    weights = problem[2]
    changes = changes_from(solved(problem), weights)
    for name, expected in published_edit(problem, PLAIN).items():
        found = changes[name].applied(weights[name]).double()
        # float32 keeps 2**-24 of the largest value.
        assert float((found - expected).abs().max()) < 1e-6 * float(
            expected.abs().max()
        )


def test_low_rank_factors_are_exact_and_shared() -> None:
    problem = random_problem(3)
    solution = solved(problem)
    changes = changes_from(solution, problem[2])
    factors = [change for change in changes.values() if isinstance(change, LowRank)]
    assert len(factors) == len(changes)
    assert {change.rank for change in factors} == {6}
    assert len({id(change.down) for change in factors}) == 1
    for name, weight in problem[2].items():
        exact = weight.double() @ solution.edit
        assert torch.linalg.matrix_rank(exact) == 6
        delta = changes[name].applied(weight).double() - weight.double()
        assert torch.allclose(delta, exact, atol=1e-6 * float(weight.abs().max()) * 10)


def test_many_columns_become_dense() -> None:
    problem = random_problem(20)
    changes = changes_from(solved(problem), problem[2])
    assert all(isinstance(change, Dense) for change in changes.values())


def test_repeated_columns_count_and_cost_no_rank() -> None:
    """The same prompt start in two templates is one column of double weight."""
    concepts, retained, weights = random_problem(3)
    once = concepts[0]
    twice = ConceptTerms("a", once.target.repeat(2, 1), once.guide.repeat(2, 1))
    heavy = replace(PLAIN, target_weight=2 * PLAIN.target_weight)
    repeated = solve((twice,), retained, weights, PLAIN)
    assert len(repeated.projection) == 3
    assert torch.allclose(
        repeated.edit, solve((once,), retained, weights, heavy).edit, atol=1e-10
    )


def test_order_does_not_matter_and_taking_back_is_a_new_solve() -> None:
    concepts, retained, weights = random_problem(4)
    forwards = solve(concepts, retained, weights, PLAIN)
    backwards = solve(concepts[::-1], retained, weights, PLAIN)
    assert torch.allclose(forwards.edit, backwards.edit, atol=1e-10)
    one = solve(concepts[:1], retained, weights, PLAIN)
    expected = published_edit((concepts[:1], retained, weights), PLAIN)
    for name, weight in weights.items():
        w = weight.double()
        assert torch.allclose(w + w @ one.edit, expected[name], atol=1e-9)


def test_rounds_spare_the_neighbour_that_pays_most() -> None:
    concepts, retained, weights = random_problem(4)
    near = concepts[0].target.float() + 0.3 * retained[0][:4]
    retained = (near, *retained[1:])

    def largest_drift(rounds: int) -> float:
        edit = solve(concepts, retained, weights, replace(PLAIN, rounds=rounds)).edit
        w = torch.cat(list(weights.values())).double()
        return max(
            float((w @ edit @ p.double().T).norm() / (w @ p.double().T).norm())
            for p in retained
        )

    assert largest_drift(3) < 0.9 * largest_drift(0)


def test_what_was_asked_is_diagnosed() -> None:
    concepts, retained, weights = random_problem(2)
    found = {}
    for weight in (1e-3, 1e3):
        solution = solve(
            concepts, retained, weights, replace(PLAIN, target_weight=weight)
        )
        changes = changes_from(solution, weights)
        gram = torch.cat(retained).double().T @ torch.cat(retained).double()
        found[weight] = diagnose(solution, concepts, gram, weights, changes)
    assert found[1e3]["target_residual"] < 0.01
    assert found[1e-3]["target_residual"] > 0.9
    assert found[1e3]["retained_drift"] > found[1e-3]["retained_drift"] > 0
    assert found[1e3]["jitter"] == 0


def test_jitter_is_recorded_where_it_was_needed() -> None:
    concepts, retained, weights = random_problem(2)
    solution = solve(concepts, retained[:1], weights, replace(PLAIN, ridge=0.0))
    assert 0 < solution.jitter < 1e-3


def test_a_guide_that_is_the_target_is_refused() -> None:
    concepts, retained, weights = random_problem(3)
    same = replace(concepts[1], guide=concepts[1].target * (1 + 1e-5))
    with pytest.raises(InvalidArgumentError) as refused:
        solve((concepts[0], same), retained, weights, PLAIN)
    assert refused.value.field == "b"


def test_one_target_with_two_guides_is_refused() -> None:
    concepts, retained, weights = random_problem(3)
    other = ConceptTerms("b", concepts[0].target, concepts[1].guide)
    with pytest.raises(InvalidArgumentError) as refused:
        solve((concepts[0], other), retained, weights, PLAIN)
    assert refused.value.field == "b"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    concepts, retained, weights = random_problem(3)
    broken = concepts[0].target.clone()
    broken[0, 0] = value
    with pytest.raises(InvalidArgumentError) as refused:
        solve((replace(concepts[0], target=broken),), retained, weights, PLAIN)
    assert refused.value.field == "a"


def test_the_automatic_guide_is_the_mean_of_what_is_retained(
    tiny: TextToImageModel,
) -> None:
    plan = plan_of(banned("bomb"))
    kept = retained_terms(tiny, retained_phrases(tiny.card, plan))
    (terms,) = concept_terms(tiny, plan.concepts, kept)
    phrases = torch.stack(kept.rows[1:]).double()
    templates = len(wordings(tiny.card))
    mean = phrases.unflatten(1, (templates, -1)).mean((0, 1))
    assert torch.allclose(terms.guide, mean * templates**0.5)
    # The start token comes before the phrase: nothing to move there.
    assert torch.allclose(terms.guide[:1], terms.target[:1], atol=1e-5)


def test_an_anchor_takes_its_place(tiny: TextToImageModel) -> None:
    plan = plan_of(banned("bomb", anchor="a balloon"), banned("knife"))
    kept = retained_terms(tiny, retained_phrases(tiny.card, plan))
    bomb, knife = concept_terms(tiny, plan.concepts, kept)
    assert knife.guide.shape == bomb.guide.shape
    assert not torch.allclose(bomb.guide, knife.guide)


@pytest.mark.parametrize(
    "concept",
    [
        banned("an extraordinarily long phrase " * 3),
        banned("bomb", anchor="an extraordinarily long phrase " * 3),
        banned("cafe\u0301", retain=("caf\u00e9",)),
    ],
    ids=["too long", "anchor too long", "retained in other bytes"],
)
def test_words_that_cannot_be_erased_are_refused_by_name(
    tiny: TextToImageModel, concept: PlannedConcept
) -> None:
    plan = plan_of(concept)
    kept = retained_terms(tiny, retained_phrases(tiny.card, plan))
    with pytest.raises(InvalidArgumentError) as refused:
        concept_terms(tiny, plan.concepts, kept)
    assert refused.value.field == concept.name


def test_an_anchor_that_reads_like_the_concept_is_refused(
    tiny: TextToImageModel,
) -> None:
    plan = plan_of(banned("cafe\u0301", anchor="caf\u00e9"))
    with pytest.raises(InvalidArgumentError) as refused:
        erase(tiny, plan)
    assert refused.value.field == plan.concepts[0].name
