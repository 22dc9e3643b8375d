import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.validation.probes import probe_set
from myosotis.validation.scoring import Answers, score

from tests.validation.builders import a_card, a_name, a_plan

PROBES = probe_set(a_card(), a_plan(("dog", "hound"), ("cat",)))


@given(st.data())
def test_pooled_hits_are_the_sum_of_the_concepts_hits(data: st.DataObject) -> None:
    labels = data.draw(
        st.lists(
            st.integers(0, len(PROBES.labels) - 1),
            min_size=len(PROBES.probes),
            max_size=len(PROBES.probes),
        )
    )
    rates = score(PROBES, Answers(labels, patched=True, detector_profile="eye"))
    cat, dog, pooled, retained = rates
    assert (cat.concept, dog.concept) == (a_name("cat"), a_name("dog"))
    hits = [round(rate.value * rate.sample_size) for rate in rates]
    assert hits[0] + hits[1] == hits[2]
    assert pooled.sample_size == len(PROBES.banned)
    assert (retained.metric, retained.sample_size) == ("retained_accuracy", 96)
    assert all(rate.patched and rate.detector_profile == "eye" for rate in rates)


def test_the_right_answers_score_one() -> None:
    labels = [probe.expected[-1] for probe in PROBES.probes]
    rates = score(PROBES, Answers(labels, patched=False, detector_profile="eye"))
    assert [rate.value for rate in rates] == [1, 1, 1, 1]


def test_an_answer_short_is_no_score() -> None:
    labels = [0] * (len(PROBES.probes) - 1)
    with pytest.raises(ValueError, match="answers"):
        score(PROBES, Answers(labels, patched=False, detector_profile="eye"))
