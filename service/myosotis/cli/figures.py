"""Pooled measurements under flat keys, as every `--json` prints them."""

from collections.abc import Iterable

from myosotis.validation.measurements import (
    DETECTION_RATE,
    RETAINED_ACCURACY,
    Measurement,
)

_KEYS = {
    (DETECTION_RATE, False): "before_rate",
    (DETECTION_RATE, True): "after_rate",
    (RETAINED_ACCURACY, False): "retained_before",
    (RETAINED_ACCURACY, True): "retained_after",
}


def pooled_figures(measured: Iterable[Measurement]) -> dict[str, float]:
    """Each pooled rate with ``_n``, ``_low`` and ``_high`` beside it."""
    figures: dict[str, float] = {}
    for rate in measured:
        if not rate.concept:
            key = _KEYS[rate.metric, rate.patched]
            figures |= {
                key: rate.value,
                f"{key}_n": rate.sample_size,
                f"{key}_low": rate.low,
                f"{key}_high": rate.high,
            }
    return figures
