import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myosotis.validation.measurements import Measurement, wilson_interval


@pytest.mark.parametrize(
    ("hits", "size", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_known_ones(
    hits: int, size: int, low: float, high: float
) -> None:
    found = wilson_interval(hits, size)
    assert found == pytest.approx((low, high), abs=5e-5)


@given(
    st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
)
def test_a_rate_lies_in_its_interval_and_the_interval_in_0_to_1(
    sample: tuple[int, int],
) -> None:
    hits, size = sample
    rate = Measurement.rate("detection_rate", hits, size, patched=True)
    slack = 1e-12
    assert 0 <= rate.low <= rate.value + slack
    assert rate.value - slack <= rate.high <= 1


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_ends_are_where_the_score_test_is_on_the_edge(
    size: int, share: float
) -> None:
    hits = round(share * size)
    for end in wilson_interval(hits, size):
        score = (hits / size - end) ** 2 * size
        assert score == pytest.approx(1.959964**2 * end * (1 - end), rel=1e-5, abs=1e-8)


@given(st.integers(1, 300), st.integers(2, 8))
def test_a_larger_sample_of_the_same_rate_is_known_better(size: int, more: int) -> None:
    small, large = (
        wilson_interval(size // 2, size),
        wilson_interval(size // 2 * more, size * more),
    )
    assert large[1] - large[0] < small[1] - small[0]


@pytest.mark.parametrize(("hits", "size"), [(0, 0), (1, 0), (-1, 5), (6, 5)])
def test_what_was_not_measured_is_no_measurement(hits: int, size: int) -> None:
    with pytest.raises(ValueError, match="no rate"):
        Measurement.rate("detection_rate", hits, size, patched=True)


def test_nothing_is_not_a_number() -> None:
    assert not any(math.isnan(end) for end in wilson_interval(0, 1))
