import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.policy.concepts import Gate
from myosotis.validation.gate import GateResult, Verdict, judge, passed, refusal
from myosotis.validation.gating import judge_plan, unmeasured
from myosotis.validation.measurements import Measurement

from tests.validation.builders import a_name, a_plan, a_rate

DOG, CAT = a_name("dog"), a_name("cat")
PLAN = a_plan(("dog",), ("cat",), gate=Gate(0.1, 0.05))


def after(measurement: Measurement, hits: int) -> Measurement:
    """The same sample on the patched model."""
    return Measurement.rate(
        measurement.metric,
        hits,
        measurement.sample_size,
        patched=True,
        concept=measurement.concept,
        detector_profile=measurement.detector_profile,
    )


def evidence(
    *, dog: int = 0, cat: int = 0, kept: int = 80, known: int = 15
) -> tuple[Measurement, ...]:
    """Hits on the patched model, of 20, 20 and 100; the base had *known* and 80."""
    dogs = a_rate("detection_rate", known, 20, DOG)
    cats = a_rate("detection_rate", 15, 20, CAT)
    retained = a_rate("retained_accuracy", 80, 100)
    return (
        *(dogs, after(dogs, dog)),
        *(cats, after(cats, cat)),
        *(retained, after(retained, kept)),
    )


def verdicts(measurements: tuple[Measurement, ...]) -> dict[tuple[str, str], Verdict]:
    lines = judge_plan(PLAN, measurements, changed_tensors=3)
    return {(line.concept, line.rule): line.verdict for line in lines}


def test_a_good_patch_passes() -> None:
    lines = judge_plan(PLAN, evidence(dog=1), changed_tensors=3)
    assert passed(lines)
    assert refusal(lines) == ""
    assert len(lines) == 3


def test_a_value_at_its_bound_passes_and_one_above_fails() -> None:
    assert verdicts(evidence(dog=2))[DOG, "detection_rate"] is Verdict.PASS
    assert verdicts(evidence(dog=3))[DOG, "detection_rate"] is Verdict.FAIL
    assert verdicts(evidence(kept=75))["", "retained_loss"] is Verdict.PASS
    assert verdicts(evidence(kept=74))["", "retained_loss"] is Verdict.FAIL


def test_a_gain_is_no_loss() -> None:
    assert verdicts(evidence(kept=90))["", "retained_loss"] is Verdict.PASS


def test_the_strictest_bound_on_loss_counts() -> None:
    lax, strict = a_plan(("dog",), gate=Gate(0.1, 0.5)), a_plan(("cat",))
    plan = replace(PLAN, concepts=lax.concepts + strict.concepts)
    line = judge_plan(plan, evidence(kept=70), changed_tensors=3)[-1]
    assert (line.rule, line.verdict) == ("retained_loss", Verdict.FAIL)
    assert line.bound == 0.06


def test_one_concept_that_stays_refuses_the_whole_patch() -> None:
    lines = judge_plan(PLAN, evidence(cat=12), changed_tensors=3)
    assert not passed(lines)
    assert CAT in refusal(lines)
    assert "\n" not in refusal(lines)


def test_a_concept_that_the_base_does_not_draw_fails() -> None:
    found = verdicts(evidence(known=1))
    assert found[DOG, "known_concept"] is Verdict.FAIL
    lines = judge_plan(PLAN, evidence(known=1), changed_tensors=3)
    assert "1 of 20" in refusal(lines)


@pytest.mark.parametrize("size", [8, 16, 64, 160])
def test_no_hit_before_is_never_a_proof(size: int) -> None:
    dogs = a_rate("detection_rate", 0, size, DOG)
    found = verdicts((dogs, after(dogs, 0), *evidence()[2:]))
    assert found[DOG, "known_concept"] is Verdict.FAIL


def test_a_base_that_draws_nothing_has_nothing_to_lose_and_that_is_an_error() -> None:
    retained = a_rate("retained_accuracy", 3, 100)
    found = verdicts((*evidence()[:-2], retained, after(retained, 3)))
    assert found["", "retained_loss"] is Verdict.ERROR


def test_nothing_measured_is_an_error_on_every_line() -> None:
    assert set(verdicts(()).values()) == {Verdict.ERROR}
    assert not passed(judge_plan(PLAN, (), changed_tensors=3))


def test_an_evaluation_that_broke_off_is_an_error_on_every_line() -> None:
    for plan in (PLAN, a_plan()):
        lines = unmeasured(plan, "the detector failed: it hung")
        assert lines
        assert {line.verdict for line in lines} == {Verdict.ERROR}
        assert all(line.value is None for line in lines)
        assert "it hung" in refusal(lines)


def test_a_small_sample_is_an_error() -> None:
    dogs = a_rate("detection_rate", 7, 7, DOG)
    found = verdicts((dogs, after(dogs, 0), *evidence()[2:]))
    assert found[DOG, "detection_rate"] is Verdict.ERROR


@pytest.mark.parametrize("dropped", range(6))
def test_half_of_a_pair_is_an_error(dropped: int) -> None:
    measured = evidence()
    found = verdicts(measured[:dropped] + measured[dropped + 1 :])
    assert list(found.values()).count(Verdict.ERROR) == 1


@pytest.mark.parametrize(
    "edit",
    [
        {"value": math.nan},
        {"value": -1.0},
        {"value": 1.5},
        {"sample_size": 19},
        {"detector_profile": "another"},
        {"detector_profile": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("index", [1, 5])
def test_unsound_evidence_is_an_error(edit: dict[str, float], index: int) -> None:
    measured = list(evidence())
    measured[index] = replace(measured[index], **edit)
    found = verdicts(tuple(measured))
    assert list(found.values()).count(Verdict.ERROR) == 1


def test_two_answers_to_one_question_are_an_error() -> None:
    measured = evidence()
    found = verdicts((*measured, measured[1]))
    assert found[DOG, "detection_rate"] is Verdict.ERROR


def test_the_empty_plan_passes_only_where_no_tensor_changes() -> None:
    assert passed(judge_plan(a_plan(), (), changed_tensors=0))
    assert not passed(judge_plan(a_plan(), (), changed_tensors=1))


def test_no_line_is_no_pass() -> None:
    assert not passed(())


@given(st.lists(st.sampled_from(Verdict)))
def test_only_passes_pass(found: list[Verdict]) -> None:
    lines = [GateResult("", "detection_rate", verdict, 0.1) for verdict in found]
    assert passed(lines) == (bool(found) and set(found) == {Verdict.PASS})
    assert bool(refusal(lines)) == (not passed(lines) and bool(lines))


@given(st.one_of(st.none(), st.floats(allow_nan=True)), st.floats(0, 1))
def test_a_value_passes_exactly_when_it_is_a_number_within_the_bound(
    value: float | None, bound: float
) -> None:
    verdict = judge("", "detection_rate", value, bound).verdict
    if value is None or not math.isfinite(value):
        assert verdict is Verdict.ERROR
    else:
        assert verdict is (Verdict.PASS if value <= bound else Verdict.FAIL)
